"""Reads the JSON that this program writes into records with checked types and ranges, or says what is wrong in a sentence.

A record is a frozen dataclass with `__pydantic_config__ = RECORD`; its annotations are checked, and nothing is converted:
"1" is not a number, 1.0 is not a whole number, and true is neither. Bytes of file names that are not UTF-8 are kept.
"""

import dataclasses
import json
import re
import reprlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Annotated, Any, TypeVar, cast, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from vggcli.errors import UsageError, VGGError

_T = TypeVar("_T")
RECORD = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
OPEN = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)  # for records to which others may add fields
LATER = {"later": True}  # of a field that older files do not have: it may be missing
Count = Annotated[int, Field(ge=0, lt=1 << 53)]
Ordinal = Annotated[int, Field(ge=1, lt=1 << 31)]
Side = Annotated[int, Field(ge=1, le=100_000)]  # pixels of a shorter side
Amount = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Percent = Annotated[float, Field(ge=0, le=100)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

WorkerCount = Annotated[int, Field(ge=0, le=512)]
PLAIN_WORDS = {
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid string": "text",
    "a valid boolean": "true or false",
    "a valid tuple": "a list",
    "a valid array": "a list",
    "an instance of Sequence": "a list",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "greater than": "above",
    "less than": "below",
}
SHOWN = 60  # characters of a value in an error
NUL = re.compile(r"(?<!\\)(\\\\)*\\u0000")  # as JSON writes it
SURROGATE = re.compile("[\ud800-\udfff]")
ESCAPED = re.compile("[\udc80-\udcff]")  # each is a byte of a file name that is not UTF-8
HIDDEN = re.compile("[\U00100080-\U001000ff]")  # private-use characters that replace them for pydantic's parser
AWAY = 0x100000 - 0xDC00
short = reprlib.Repr()
short.maxstring = short.maxlong = short.maxother = SHOWN


def parsed(text: str | bytes) -> Any:
    """The value of a JSON text, with or without a byte order mark. Raises ValueError, with a short reason, for any other
    text and for an object that has the same name twice."""
    try:
        text = text.decode("utf-8-sig") if isinstance(text, bytes) else text.removeprefix("\ufeff")
        return json.loads(text, object_pairs_hook=_without_repeats)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON (line {error.lineno}, column {error.colno}: {error.msg})") from None
    except ValueError as error:  # Python's own limit, with its own advice
        raise ValueError("it has a number of too many digits" if "digits" in str(error) else str(error)) from None


def read_record(kind: type[_T], given: Any, partly: bool = False) -> _T:
    """A record (or a value of any other annotated type) from `given`, a JSON text or a value that `parsed` returned. With
    `partly`, fields that have a default may be missing.

    Raises ValueError, with a short reason that names the field, where `given` is not a valid `kind`.
    """
    value = parsed(given) if isinstance(given, str | bytes) else given
    try:
        text = json.dumps(value, ensure_ascii=False)
        hidden = ESCAPED.sub(lambda found: chr(ord(found[0]) + AWAY), text)
        if SURROGATE.search(hidden) or NUL.search(hidden):
            raise ValueError("it has a character that is not allowed in names")
        record: _T = _adapter(cast("Any", kind)).validate_json(hidden, strict=True)
        record = record if hidden == text else _restored(record)
        missing = None if partly else next(_missing(record, value, ""), None)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValidationError as error:
        raise ValueError(_sentence(error, value)) from None
    except VGGError as error:  # from a record that checks itself
        raise ValueError(str(error)) from error
    if missing is not None:
        raise ValueError(f"{missing} is missing")
    return record


def check_value(name: str, value: Any, kind: Any) -> None:
    """Raises UsageError where a parameter is not of this type, or out of range. A list may stand for a tuple."""
    try:
        _adapter(kind).validate_python(tuple(value) if isinstance(value, list) else value, strict=True)
    except ValidationError as error:
        message = max(error.errors(), key=lambda one: len(one["loc"]))["msg"]
        raise UsageError(f"{name} is {shown(value)}, and should {_wanted(message)}", name) from None


def check_fields(options: Any) -> None:
    """As `check_value`, for every field of a dataclass that does not have its default."""
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if value is not field.default:
            check_value(field.name, value, _hints(cast("Any", type(options)))[field.name])


@lru_cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


@lru_cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind) if dataclasses.is_dataclass(kind) else TypeAdapter(kind, config=RECORD)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it names {shown(next(name for name in names if names.count(name) > 1))} twice")
    return found


def _missing(record: Any, given: Any, where: str) -> Iterator[str]:
    """The fields of `record`, and of records in it, that are missing in `given`."""
    if isinstance(given, list):
        for index, value in enumerate(given if isinstance(record, list | tuple) else ()):
            yield from _missing(record[index], value, f"{where}{index}.")
    if isinstance(given, dict) and dataclasses.is_dataclass(record):
        for field in dataclasses.fields(record):
            if field.name not in given:
                if field.metadata != LATER:
                    yield f"{where}{field.name}"
            else:
                yield from _missing(getattr(record, field.name), given[field.name], f"{where}{field.name}.")


def _restored(value: Any) -> Any:
    if isinstance(value, str):
        return HIDDEN.sub(lambda found: chr(ord(found[0]) - AWAY), value)
    if isinstance(value, list | tuple):
        return type(value)(map(_restored, value))
    if isinstance(value, dict):
        return {_restored(name): _restored(one) for name, one in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = (field.name for field in dataclasses.fields(value))
        return dataclasses.replace(value, **{name: _restored(getattr(value, name)) for name in names})
    return value


def _sentence(error: ValidationError, value: Any) -> str:
    first = max(error.errors(include_url=False), key=lambda one: len(one["loc"]))
    if first["type"] == "json_invalid":
        return "it is nested too deeply" if "recursion" in first["msg"] else first["msg"]
    parts: list[str] = []
    for part in first["loc"]:  # which also names the members of unions
        found = isinstance(value, dict) and part in value
        if found or (isinstance(value, list) and isinstance(part, int) and part < len(value)):
            parts, value = [*parts, str(part)], value[part]
    if first["type"] in ("missing", "missing_argument"):
        return f"{'.'.join([*parts, str(first['loc'][-1])])} is missing"
    where = ".".join(parts)
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"it has an unknown field {shown(where)}"
    where = cut(where) if where.isprintable() else shown(where)
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    return f"{where or 'it'} is {shown(value)}, and should {_wanted(first['msg'])}"


def _wanted(message: str) -> str:
    """What pydantic's message says after "should", in words that need no knowledge of Python."""
    wanted = re.sub(r"^.*? should ", "", message).replace(" after validation", "")
    return plain_words(re.sub(r"a dictionary or an instance of \w+", "an object", wanted))


def plain_words(wanted: str) -> str:
    """What pydantic wants ("a valid integer"), in words that need no knowledge of Python."""
    wanted = re.sub(", unable to parse string as an? [a-z]+", "", wanted)
    for theirs, ours in PLAIN_WORDS.items():
        wanted = wanted.replace(theirs, ours)
    return wanted


def shown(value: Any) -> str:
    """A value as errors show it: shortened, and without control characters."""
    return cut(short.repr(value))


def cut(text: str) -> str:
    """The text, shortened to at most 60 characters."""
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
