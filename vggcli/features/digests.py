"""The SHA-256s in a store: `rows_sha256` of the bytes of its rows, a digest a column, and `sha256` of all that it says
beside them (that digest too), so that names and settings are checked before anything is done with them.

Equal content has equal digests in every format but CSV, where the rows' is that of the file itself.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence

WHOLE_DIGEST, ROWS_DIGEST = "sha256", "rows_sha256"  # keys of the metadata
UNKNOWN = "0" * 64  # stands where a digest will

ColumnTypes = Mapping[str, tuple[str, tuple[int, ...]]]  # a column's type and shape, with its rows, by name


def rows_digests(digests: Mapping[str, str]) -> str:
    """The digests of all columns as one text."""
    return " ".join(digests[name] for name in sorted(digests))


def with_digests(names: Sequence[str], layout: ColumnTypes, metadata: Mapping[str, str], rows: str) -> dict[str, str]:
    """The metadata with both digests, `rows` being that of the rows."""
    about = {**metadata, ROWS_DIGEST: rows}
    return {**about, WHOLE_DIGEST: whole_sha256(names, layout, about)}


def whole_sha256(names: Sequence[str], layout: ColumnTypes, metadata: Mapping[str, str]) -> str:
    """The SHA-256 of names, types, shapes and metadata."""
    about = {name: text for name, text in metadata.items() if name != WHOLE_DIGEST}
    content = [list(names), {name: [kind, list(shape)] for name, (kind, shape) in layout.items()}, about]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def expected_digests(names: Sequence[str], layout: ColumnTypes, metadata: Mapping[str, str]) -> dict[str, str]:
    """The digest of each column's rows, empty where the file has none (an older version's).

    Raises ValueError where names, types, shapes or metadata are not those that were written.
    """
    if WHOLE_DIGEST not in metadata and ROWS_DIGEST not in metadata:
        return {}
    digests = metadata.get(ROWS_DIGEST, "").split()
    if whole_sha256(names, layout, metadata) != metadata.get(WHOLE_DIGEST) or len(digests) != max(1, len(layout)):
        raise ValueError("its names, shapes or metadata are not those that were written (their SHA-256 differs)")
    return dict(zip(sorted(layout), digests, strict=True)) if layout else {"": digests[0]}
