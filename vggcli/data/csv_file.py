"""A CSV of images: path, label, and optionally split and a box, as any spreadsheet writes it where that is unambiguous.

No row is skipped: a row that cannot be used is an error that names its line.
"""

import csv
import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from vggcli.data.image_set import Record
from vggcli.data.listed_text import decoded_text
from vggcli.data.splits import role_of
from vggcli.data.tars import COMPRESSED_BEGIN
from vggcli.data.voc import CORNERS, MarkedObject, label_of, read_box
from vggcli.data.walking import Spellings, begins_like_image, composed
from vggcli.errors import DataError
from vggcli.records import shown
from vggcli.regular_files import need_regular

KNOWN_COLUMNS = ("path", "label", "split", *CORNERS)
DELIMITERS = ",;\t|"
CSV_HEADER = f"path,label[,split][,{','.join(CORNERS)}]"
ARCHIVE_MARKS = (*COMPRESSED_BEGIN, b"PK\3\4", b"7z\xbc\xaf", b"Rar!")  # first bytes
SPREADSHEETS = (".xlsx", ".xls", ".ods", ".xlsm", ".numbers")

CsvRow = dict[str, str]  # the known columns of a row, stripped


def csv_records(path: Path) -> tuple[list[Record], dict[str, str]]:
    """The images of a CSV file in the order of their first rows, and the split ("train", "val" or "test") of each by its
    name; no splits where the file has none. An image may have several rows if each has a box; its label is then the class
    of the largest.

    Raises DataError, naming line and value, for another kind of file, a row without path or label, an unknown split, a box
    that is not four numbers, and an image that is in two splits, is listed twice or has two labels without boxes.
    """
    records: dict[str, Record] = {}
    splits: dict[str, str] = {}
    lines: dict[str, int] = {}
    spellings = Spellings(path.parent)
    rows = list(csv_rows(path, _text(path), ("path", "label")))
    has_splits = any(row.get("split") for _, row in rows)
    for line, row in rows:
        where = f"{path}, line {line}"
        record = _record(where, row, spellings)
        split = role_of(row["split"]) if has_splits else ""
        if split is None:
            what = f"the split {shown(row['split'])} is unknown" if row["split"] else "the split is missing"
            advice = "write train, val or test in each row, or remove the column to have 20 % kept for val"
            raise DataError(f"{where}: {what}; {advice}")
        known = records.setdefault(record.name, record)
        if known is not record:
            _check_again(where, known, record, lines[record.name], (splits.get(record.name, ""), split))
            records[record.name] = replace(known, objects=known.objects + record.objects)
        lines.setdefault(record.name, line)
        if has_splits:
            splits[record.name] = split
    return [replace(one, label=label_of(one.objects)) if one.objects else one for one in records.values()], splits


def _check_again(where: str, known: Record, record: Record, line: int, splits: tuple[str, str]) -> None:
    """Raises DataError unless `record` is one more box of the image `known` of an earlier `line`."""
    where = f"{where}: {record.name}"
    boxed = known.objects and record.objects
    if known.label != record.label and not boxed:
        raise DataError(f"{where} has two labels, {shown(known.label)} (line {line}) and {shown(record.label)}")
    if splits[0] != splits[1]:
        raise DataError(f"{where} is in two splits, {splits[0]} (line {line}) and {splits[1]}; leave it in one")
    if not boxed or record.objects[0] in known.objects:
        raise DataError(f"{where} is listed twice (line {line} has it too); remove one of the rows")


def _record(where: str, row: CsvRow, spellings: Spellings) -> Record:
    if not row["path"] or not row["label"]:
        raise DataError(f"{where}: the path or the label is missing")
    name, label = spellings.existing(PurePosixPath(row["path"]).as_posix()), composed(row["label"])
    values = [row.get(column, "") for column in CORNERS]
    if not any(values):
        return Record(name, label)
    return Record(name, label, (MarkedObject(label, read_box(f"{where}: the box", values)),))


def listed_paths(path: Path) -> Iterator[str]:
    """The paths in a CSV's column `path`, relative to the CSV. Raises DataError where the column or a path is missing."""
    spellings = Spellings(path.parent)
    need_regular(path, DataError)
    for line, row in csv_rows(path, decoded_text(path.read_bytes()), ("path",)):
        if not row["path"]:
            raise DataError(f"{path}, line {line}: the path is missing")
        yield str(path.parent / spellings.existing(row["path"]))


def csv_rows(path: Path, text: str, needed: Sequence[str]) -> Iterator[tuple[int, CsvRow]]:
    """The rows below the header, which must name the columns `needed`, with their line numbers; empty rows are skipped.
    Raises DataError where the header lacks a column, and where some rows have more values than others."""
    first = text.splitlines()[0] if text else ""
    skipped = first.lower().startswith("sep=")  # how a spreadsheet notes its delimiter
    if skipped:
        text = text.split("\n", 1)[-1]
    delimiter, columns = _header(path, text, needed)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    extra: set[int] = set()
    try:
        next(reader)
        for values in reader:
            line = reader.line_num + skipped
            if not any(value.strip() for value in values):
                continue
            extra.add(sum(1 for value in values[len(columns) :] if value.strip()))
            if len(extra) > 1:
                raise DataError(
                    f"{path}, line {line} has {len(values)} values, but the header has {len(columns)} columns; put a value "
                    f'that contains {delimiter!r} in quotes ("a{delimiter}b")'
                )
            pairs = itertools.zip_longest(columns, values[: len(columns)], fillvalue="")
            yield line, {name: value.strip() for name, value in pairs if name in KNOWN_COLUMNS}
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num + skipped} cannot be read as a row: {error}") from error


def _header(path: Path, text: str, needed: Sequence[str]) -> tuple[str, list[str]]:
    """The delimiter with which the first line has most of the columns `needed`, and all its columns in lower case."""
    read = {}
    for delimiter in DELIMITERS:
        try:
            row = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True), [])
        except csv.Error as error:
            raise DataError(f"{path}: its first line cannot be read as a header: {error}") from error
        read[delimiter] = [name.strip().casefold() for name in row]
    found = max(DELIMITERS, key=lambda one: len(set(needed) & set(read[one])))
    columns = read[found]
    for name in needed:
        if name not in columns:
            header = f"the header {CSV_HEADER}" if len(needed) > 1 else f"a header that names the column {name}"
            raise DataError(f"{path} has no column {name!r}; its first line must be {header}")
    twice = [name for name in KNOWN_COLUMNS if columns.count(name) > 1]
    if twice:
        raise DataError(f"{path} has two columns {twice[0]!r}; remove or rename one")
    return found, columns


def _text(path: Path) -> str:
    """The file's text: UTF-8, or UTF-16 with a byte order mark. Raises DataError for anything else."""
    need_regular(path, DataError)
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(ARCHIVE_MARKS) or head[257:262] == b"ustar":
        if path.suffix.lower() in SPREADSHEETS:
            raise DataError(f"{path} is a spreadsheet; save it as CSV and give that")
        raise DataError(f"{path} is an archive; unpack it and give the folder", "data")
    if begins_like_image(head):
        advice = "give a folder with a folder for each class, or a CSV (`vgg predict` takes images)"
        raise DataError(f"{path} is one image; {advice}", "data")
    data = path.read_bytes()
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line} is not in UTF-8; save the file as UTF-8 (CSV UTF-8 in Excel)") from error
    if "\0" in text:
        advice = f"give a folder of class folders or a CSV with the header {CSV_HEADER}"
        raise DataError(f"{path} is not a text file; {advice}", "data")
    return text
