"""Lists of names as shells, editors and spreadsheets write them: UTF-8 with or without a byte order mark, UTF-16, or bytes.

A file name is bytes to the system, so bytes that are not UTF-8 are kept (as surrogate escapes), and the file can be opened.
"""

ENCODINGS = ("utf-8", "utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")  # the mark of UTF-32 begins like UTF-16's
MOSTLY = 0.5  # share of the high bytes of UTF-16 that are zero in names with some Latin letters


def decoded_text(raw: bytes) -> str:
    """The text of a list: by its byte order mark, otherwise UTF-16 if every second byte is mostly zero, otherwise UTF-8,
    other bytes escaped as by `os.fsdecode`. Raises UnicodeDecodeError for damaged UTF-16 or UTF-32."""
    for encoding in ENCODINGS:
        if raw.startswith(mark := "\ufeff".encode(encoding)):
            return raw[len(mark) :].decode(encoding, "surrogateescape" if encoding == "utf-8" else "strict")
    for encoding, high, low in (("utf-16-le", raw[1::2], raw[::2]), ("utf-16-be", raw[::2], raw[1::2])):
        if len(raw) % 2 == 0 and high.count(0) > MOSTLY * len(high) and low.count(0) == 0:
            return raw.decode(encoding)
    return raw.decode("utf-8", "surrogateescape")


def listed_names(raw: bytes) -> list[str]:
    """The names in a list, one a line or separated by NUL (`find -print0`). Raises UnicodeDecodeError if it is damaged."""
    text = decoded_text(raw)
    entries = text.split("\0") if "\0" in text else [line.removesuffix("\r") for line in text.split("\n")]
    return [entry for entry in entries if entry.strip()]
