"""What `vgg features --search` does: the query is described as the store was, and the nearest rows are shown."""

import json
from collections.abc import Sequence
from pathlib import Path

from vggcli.cli import options
from vggcli.cli.outputs import check_outside
from vggcli.data.decode import Place, read_image
from vggcli.data.tars import SUFFIX, image_members
from vggcli.errors import DataError, UsageError, WeightsError, counted
from vggcli.features.describe import Features
from vggcli.features.reading import Stored, open_rows
from vggcli.features.search import Neighbour, nearest
from vggcli.files import file_sha256
from vggcli.report.plots import fitted, save_sheet
from vggcli.report.tables import neighbours_table
from vggcli.report.text import printable
from vggcli.zoo.checkpoint import weights_file
from vggcli.zoo.device import Precision
from vggcli.zoo.preprocessing import Pixels

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
        options.writable_output(out, "--out")
    store = Path(stores[0]).expanduser()
    stored = open_rows(store)
    if out is not None:
        check_outside([("--out", out)], Path(stored.metadata["root"]), stored.names, whole=False)
    features = describer(stored, store, weights, device, precision)
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


def describer(stored: Stored, store: Path, weights: Path | None, device: str, precision: Precision) -> Features:
    """Describes as the store says its rows were. Raises WeightsError where the weights are no longer those."""
    about = stored.metadata
    path = weights_file((weights or Path(about["weights"])).expanduser())
    if file_sha256(path) != about["weights_sha256"]:
        raise WeightsError(f"{path} holds other weights than {store} was made with; name those with --weights")
    options.compute_device(device)
    try:
        return Features(
            path,
            about["layer"],
            about["pool"],  # type: ignore[arg-type]
            scales=json.loads(about["scales"]),
            aggregate=about["aggregate"],  # type: ignore[arg-type]
            norm=about["norm"],  # type: ignore[arg-type]
            flip=json.loads(about["flip"]),
            device=device,
            precision=precision,
            preprocessing=Pixels.from_json(json.loads(given)) if (given := about.get("preprocessing")) else None,
        )
    except (KeyError, ValueError) as error:
        raise DataError(f"{store} does not say how its rows were made: {error} is missing or wrong") from error


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
