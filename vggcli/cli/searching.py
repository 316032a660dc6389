"""What `vgg features --search` does: the query is described as the store was, and the nearest rows are shown."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from vggcli.choices import Aggregate, Norm, Precision
from vggcli.cli import options
from vggcli.data.decode import Place, read_image
from vggcli.data.outputs import check_outside
from vggcli.data.tars import SUFFIX, image_members
from vggcli.errors import DataError, UsageError, WeightsError, counted
from vggcli.features.describe import Features
from vggcli.features.opening import open_store
from vggcli.features.read import Stored
from vggcli.features.search import Neighbour, nearest
from vggcli.files import file_sha256, writable_output
from vggcli.records import RECORD, Sha256, Side, parsed, read_record
from vggcli.report.plots import fitted, save_sheet
from vggcli.report.tables import neighbours_table
from vggcli.report.text import printable
from vggcli.weights.find import weights_file
from vggcli.weights.preprocessing import Pixels

THUMBNAIL = 160  # pixels


def search_store(
    query: Path,
    stores: Sequence[str],
    top: int,
    out: Path | None,
    weights: Path | None,
    device: str,
    precision: Precision,
    as_json: bool,
) -> None:
    """Show the `top` stored images nearest to `query` by cosine; with `out`, also as a contact sheet."""
    if len(stores) != 1:
        raise UsageError("--search looks through one store: `vgg features --search QUERY.jpg STORE.safetensors`")
    if out is not None:
        if out.suffix.lower() != ".png":
            raise UsageError(f"--out {out}: with --search it is a contact sheet; give a name that ends in .png")
        writable_output(out, "out")
    store = Path(stores[0]).expanduser()
    stored = open_store(store)
    about = Settings.of(stored, store)
    if out is not None:
        check_outside([("out", out)], Path(about.root), stored.names, whole=False)
    features = describer(about, store, weights, device, precision)
    found = nearest(stored, features([query])[0], top)
    if out is not None:
        contact_sheet(query, found, stored, out)
        options.note(f"written: {out}")
    if as_json:
        neighbours = [{"path": one.name, "cosine": one.cosine} for one in found]
        print(json.dumps({"query": str(query), "store": str(store), "neighbours": neighbours}))
        return
    title = f"Nearest to {query} of {counted(len(stored.names), 'image')}, {stored.metadata['layer']} of {store}"
    options.stdout_console().print(neighbours_table(title, [(one.name, one.cosine) for one in found]))


@dataclass(frozen=True)
class Settings:
    """How the rows of a store were made, as its metadata say it."""

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

    @classmethod
    def of(cls, stored: Stored, store: Path) -> "Settings":
        """Raises DataError where a setting is missing or is none."""
        about: dict[str, Any] = {field.name: stored.metadata.get(field.name) for field in fields(cls)}
        try:
            for name in ("scales", "flip", "preprocessing"):  # texts of JSON
                about[name] = None if about[name] is None else parsed(about[name])
            return read_record(cls, about)
        except ValueError as error:
            raise DataError(
                f"{store} does not say how its rows were made, so nothing can be compared with them: {error}"
            ) from error


def describer(about: Settings, store: Path, weights: Path | None, device: str, precision: Precision) -> Features:
    """Describes as the store says its rows were. Raises WeightsError where the weights are no longer those, DataError where
    they have no such rows."""
    path = weights_file(weights.expanduser() if weights else Path(about.weights))
    if file_sha256(path) != about.weights_sha256:
        raise WeightsError(f"{path} holds other weights than {store} was made with; name those with --weights")
    options.compute_device(device)
    try:
        return Features(
            path,
            about.layer,
            about.pool,
            scales=about.scales,
            aggregate=about.aggregate,
            norm=about.norm,
            flip=about.flip,
            device=device,
            precision=precision,
            preprocessing=Pixels.from_json(about.preprocessing) if about.preprocessing else None,
        )
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise DataError(f"{store} was made in no way that these weights know: {error}") from error


def contact_sheet(query: Path, found: Sequence[Neighbour], stored: Stored, out: Path) -> None:
    """The query, then what was found, as thumbnails with cosine and name."""
    pictures = [fitted(read_image(query), THUMBNAIL)]
    captions = [f"query\n{printable(query.name)}"]
    for one in found:
        pictures.append(fitted(read_image(place_of(stored, one.name)), THUMBNAIL))
        captions.append(f"{one.cosine:.4f}\n{printable(Path(one.name).name)}")
    save_sheet(pictures, captions, out)


def place_of(stored: Stored, name: str) -> Place:
    """Where a stored image lies: below the store's root, or in a tar there. Raises DataError where it is not there."""
    path = Path(stored.metadata["root"]) / name
    for parent in path.parents:
        if parent.name.lower().endswith(SUFFIX) and parent.is_file():
            wanted = path.relative_to(parent).as_posix()
            suffixes = frozenset([path.suffix.lower()])
            for member in image_members(parent, suffixes):
                if member.name == wanted:
                    return member
            raise DataError(f"{parent} no longer holds {wanted}")
    return path
