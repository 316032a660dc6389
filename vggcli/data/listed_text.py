"""Lists of names as shells, editors and spreadsheets write them: UTF-8 with or without a mark, UTF-16, or any bytes.

A file name is bytes to the system, so what is no UTF-8 is kept as it is (surrogate escapes), to be opened all the same.
"""

import codecs

MARKS = (  # the longer first: UTF-32's begins like UTF-16's
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
MOSTLY = 0.5  # of the high bytes of UTF-16 that are zero in names with some Latin letters


def decoded_text(raw: bytes) -> str:
    """The text of a list: by its mark, else UTF-16 where every other byte is mostly zero, else UTF-8 with what is none of
    it escaped, as `os.fsdecode` does. Raises UnicodeDecodeError where a UTF-16 or UTF-32 text is damaged."""
    for mark, encoding in MARKS:
        if raw.startswith(mark):
            return raw[len(mark) :].decode(encoding, "surrogateescape" if encoding == "utf-8" else "strict")
    for encoding, high, low in (("utf-16-le", raw[1::2], raw[::2]), ("utf-16-be", raw[::2], raw[1::2])):
        if len(raw) % 2 == 0 and high.count(0) > MOSTLY * len(high) and low.count(0) == 0:
            return raw.decode(encoding)
    return raw.decode("utf-8", "surrogateescape")


def listed_names(raw: bytes) -> list[str]:
    """The names of a list: one a line or, where there is a NUL between them (`find -print0`), whatever lies between two.
    Raises UnicodeDecodeError as `decoded_text` does."""
    text = decoded_text(raw)
    entries = text.split("\0") if "\0" in text else [line.removesuffix("\r") for line in text.split("\n")]
    return [entry for entry in entries if entry.strip()]
