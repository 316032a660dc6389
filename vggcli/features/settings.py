"""How rows are made: everything but the images that decides them, as it is written to a store and read back from it."""

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from vggcli import __version__
from vggcli.choices import Aggregate, Norm, Precision
from vggcli.errors import DataError, UsageError
from vggcli.features.extract import FeatureOptions
from vggcli.features.read import StoredRows
from vggcli.files import file_sha256
from vggcli.records import RECORD, Sha256, Side, parsed, read_record

# precisions, as files say them
STORED: dict[Precision, str] = {"fp32": "float32", "tf32": "tf32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True)
class HowMade:
    """The options by which the network in the file `weights` makes rows, and the type that they are stored in; names of
    images are relative to the folder `root`. `pixels` is the preprocessing, as JSON, where it was given because the
    weights do not say it."""

    options: FeatureOptions
    dtype: str
    arch: str
    weights: Path
    root: Path
    pixels: dict[str, Any] | None

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All of it, as JSON. Raises UsageError where the name of the folder `root` cannot be written to a file."""
        one, root = self.options, str(Path.cwd() / self.root)
        if root != escaped(root):
            raise UsageError(f"the name of the folder {escaped(root)} is not UTF-8, as files need it; work in another")
        return {
            **({"preprocessing": self.pixels} if self.pixels else {}),
            "layer": " ".join(one.layers),
            "pool": one.pool,
            "scales": list(one.scales),
            "aggregate": one.aggregate,
            "norm": one.norm,
            "flip": one.flip,
            "dtype": self.dtype,
            "arch": self.arch,
            "weights": escaped(str(self.weights.resolve())),
            "weights_sha256": file_sha256(self.weights),
            "root": root,
            "precision": STORED[one.precision],
            "device": one.device.type,
            "decode": one.decode,
            "batch_size": one.batch_size,
            **({"compile": True} if one.compile else {}),
            "version": __version__,
        }


def escaped(text: str) -> str:
    """`text` with escapes in place of bytes that are not UTF-8."""
    return text.encode(errors="backslashreplace").decode()


@dataclass(frozen=True)
class StoreSettings:
    """How the rows of a store were made, as its metadata say it; another image described in this way can be compared with
    them."""

    __pydantic_config__ = RECORD

    root: str
    weights: str
    weights_sha256: Sha256
    layer: str
    pool: Literal["gap", "gmp"]
    scales: tuple[Side, ...]
    aggregate: Aggregate
    norm: Norm
    flip: bool
    preprocessing: dict[str, Any] | None = None
    precision: Literal["float32", "tf32", "bfloat16", "float16"] = "float32"

    @property
    def computed_in(self) -> Precision:
        """The precision as options say it."""
        return next(name for name, stored in STORED.items() if stored == self.precision)

    @classmethod
    def of(cls, rows: StoredRows, store: Path) -> "StoreSettings":
        """The settings of the open `store`. Raises DataError where one is missing or has an impossible value."""
        about: dict[str, Any] = {field.name: rows.metadata.get(field.name) for field in fields(cls)}
        try:
            for name in ("scales", "flip", "preprocessing"):  # texts of JSON
                about[name] = None if about[name] is None else parsed(about[name])
            return read_record(cls, {**about, "precision": about["precision"] or "float32"})
        except ValueError as error:
            raise DataError(f"{store} cannot be searched: it does not say how its rows were made ({error})") from error
