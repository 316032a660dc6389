"""A CSV of images: path, label, and maybe split and a box. Read whatever spreadsheet wrote it, where that is unambiguous.

No row vanishes: a row that cannot be used is an error that names its line.
"""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from vggcli.data.image_set import Record
from vggcli.data.listed_text import decoded_text
from vggcli.data.splits import role_of
from vggcli.data.walking import Spellings, begins_like_image, composed
from vggcli.errors import DataError
from vggcli.records import cut, shown
from vggcli.regular import need_regular

BOX_COLUMNS = ("xmin", "ymin", "xmax", "ymax")
KNOWN_COLUMNS = ("path", "label", "split", *BOX_COLUMNS)
DELIMITERS = ",;\t|"
BOXES = ",".join(BOX_COLUMNS)
CSV_HEADER = f"path,label[,split][,{BOXES}]"
ARCHIVE_MARKS = (
    b"PK\3\4",
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ\0",
    b"7z\xbc\xaf",
    b"Rar!",
    b"\x28\xb5\x2f\xfd",
)  # by first bytes
KIND_BYTES = 512
TAR_MARK = slice(257, 262)  # where a tar says "ustar"
SPREADSHEETS = (".xlsx", ".xls", ".ods", ".xlsm", ".numbers")

CsvRow = dict[str, str]  # the known columns that there are, stripped


def csv_records(path: Path) -> tuple[list[Record], dict[str, str]]:
    """The images of a CSV file in the order of their first rows, and the split of each ("train", "val" or "test") by its
    name; no splits where the file states none.

    Raises DataError, naming line and value, for what is no such file, a row without path or label, a split of no known
    name, a box that is none, and an image that has two labels, is in two splits or stands there twice.
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
        split = _split(where, row) if has_splits else ""
        known = records.setdefault(record.name, record)
        if known is not record:
            _check_again(where, known, record, lines[record.name], (splits.get(record.name, ""), split))
            records[record.name] = replace(known, boxes=known.boxes + record.boxes)
        lines.setdefault(record.name, line)
        if has_splits:
            splits[record.name] = split
    return list(records.values()), splits


def _check_again(where: str, known: Record, record: Record, line: int, splits: tuple[str, str]) -> None:
    """Raises DataError unless `record` is one more box of an image `known` from an earlier `line`."""
    if known.label != record.label:
        raise DataError(
            f"{where}: {record.name} has two labels, {shown(known.label)} (line {line}) and {shown(record.label)}"
        )
    if splits[0] != splits[1]:
        raise DataError(
            f"{where}: {record.name} is in two splits, {splits[0]} (line {line}) and {splits[1]}; leave it in one"
        )
    if not (known.boxes and record.boxes) or record.boxes[0] in known.boxes:
        raise DataError(f"{where}: {record.name} stands there twice (line {line} has it too); remove one of the rows")


def _split(where: str, row: CsvRow) -> str:
    role = role_of(row["split"])
    if role is None:
        what = f"the split {shown(row['split'])} is none" if row["split"] else "the split is missing"
        raise DataError(
            f"{where}: {what}; each row has train, val or test, or remove the column to have 20 % kept for val"
        )
    return role


def _record(where: str, row: CsvRow, spellings: Spellings) -> Record:
    if not row["path"] or not row["label"]:
        raise DataError(f"{where}: the path or the label is missing")
    name, label = spellings.existing(PurePosixPath(row["path"]).as_posix()), composed(row["label"])
    values = [row.get(column, "") for column in BOX_COLUMNS]
    if not any(values):
        return Record(name, label)
    try:
        xmin, ymin, xmax, ymax = (float(value) for value in values)
    except ValueError:
        raise DataError(f"{where}: {BOXES} must be four numbers, not {cut(','.join(values))}") from None
    if not (-math.inf < xmin < xmax < math.inf and -math.inf < ymin < ymax < math.inf):
        raise DataError(f"{where}: the box has no area (xmin < xmax and ymin < ymax)")
    return Record(name, label, ((xmin, ymin, xmax, ymax),))


def listed_paths(path: Path) -> Iterator[str]:
    """The column `path` of a CSV, relative to it, in any encoding. Raises DataError where there is none, or a row lacks
    it."""
    spellings = Spellings(path.parent)
    need_regular(path, DataError)
    for line, row in csv_rows(path, decoded_text(path.read_bytes()), ("path",)):
        if not row["path"]:
            raise DataError(f"{path}, line {line}: the path is missing")
        yield str(path.parent / spellings.existing(row["path"]))


def csv_rows(path: Path, text: str, needed: Sequence[str]) -> Iterator[tuple[int, CsvRow]]:
    """The rows below the header, which names the columns `needed`, with their line numbers; rows without any value are
    none. Raises DataError for a header that lacks a column, and a row that has more values than it names."""
    first = text.splitlines()[0] if text else ""
    skipped = first.lower().startswith("sep=")  # a spreadsheet's note of its own
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
                    f"{path}, line {line} has {len(values)} values where the header has {len(columns)} columns; put a "
                    f'value with {delimiter!r} in it in quotes ("a{delimiter}b")'
                )
            padded = values + [""] * (len(columns) - len(values))
            pairs = zip(columns, padded, strict=False)
            yield line, {name: value.strip() for name, value in pairs if name in KNOWN_COLUMNS}
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num + skipped} cannot be read as a row: {error}") from error


def _header(path: Path, text: str, needed: Sequence[str]) -> tuple[str, list[str]]:
    """The delimiter under which the first line names what is needed, and its columns, stripped and in lower case."""
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
            header = CSV_HEADER if len(needed) > 1 else f"of columns with {name} among them"
            raise DataError(f"{path} has no column {name!r}; its first line must be the header {header}")
    twice = [name for name in KNOWN_COLUMNS if columns.count(name) > 1]
    if twice:
        raise DataError(f"{path} has two columns {twice[0]!r}; remove or rename one")
    return found, columns


def _text(path: Path) -> str:
    """The file's text: UTF-8, or UTF-16 where it begins with the mark of that. Raises DataError for anything else."""
    _check_kind(path)
    data = path.read_bytes()
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line} is not in UTF-8; save the file as UTF-8 (CSV UTF-8 in Excel)") from error
    if "\0" in text:
        raise DataError(
            f"{path} is no text; give a folder of class folders or a CSV with the header {CSV_HEADER}", "data"
        )
    return text


def _check_kind(path: Path) -> None:
    """Raises DataError for what is no regular file, an archive, a spreadsheet or an image."""
    need_regular(path, DataError)
    with path.open("rb") as file:
        head = file.read(KIND_BYTES)
    if head.startswith(ARCHIVE_MARKS) or head[TAR_MARK] == b"ustar":
        if path.suffix.lower() in SPREADSHEETS:
            raise DataError(f"{path} is a spreadsheet; save it as CSV and give that")
        raise DataError(f"{path} is an archive; unpack it and give the folder", "data")
    if begins_like_image(head):
        raise DataError(
            f"{path} is one image; give a folder with a folder for each class, or a CSV (`vgg predict` takes images)",
            "data",
        )
