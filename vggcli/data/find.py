"""Finds the data that a name means: a folder, a CSV, a tar, a known set (fetched on first use) or the embedded set
`shapes`."""

from dataclasses import dataclass
from pathlib import Path

from vggcli.data import shapes
from vggcli.data.catalogue import KNOWN, fetch
from vggcli.data.shard_index import shard_index
from vggcli.data.shards import find_shards
from vggcli.files import sweep
from vggcli.places import Places, made_folder
from vggcli.progress import LOG, Progress, silent
from vggcli.regular_files import need_local


@dataclass(frozen=True)
class Source:
    """Data that can be read: a `name` that means them from any folder of this machine, and the folder or file at `path`."""

    name: str
    path: Path


def find_source(data: str | None, places: Places, workers: int, progress: Progress = silent) -> Source:
    """The source that `data` names, its shards indexed. If it is None, the user's default or else `shapes` is used, and
    this is logged."""
    if not data:
        data, origin = (places.data, "from $VGG_DATA") if places.data else ("shapes", "the embedded set")
        LOG.info(f"data: {data} ({origin})")
    need_local(data)
    if data == "shapes":
        return Source(data, shapes_index(places, workers, progress))
    if data in KNOWN:
        return Source(data, fetched_set(data, places, progress))
    path = Path(data).expanduser().resolve()
    if (shards := find_shards(path)) is not None:
        shard_index(shards, places.cache, workers, progress)
    return Source(str(path), path)


def fetched_set(name: str, places: Places, progress: Progress = silent) -> Path:
    """The folder or CSV of a known set in the cache, fetched there if it is missing."""
    known, folder = KNOWN[name], places.cache / name
    if Path(name).exists():
        LOG.info(f"data: {name} is the set of that name; the one in the current folder is ./{name}")
    if (folder / known.source).exists():
        return folder / known.source
    LOG.info(f"data: fetching {known.announcement}, once, into {folder}")
    made_folder(places.cache)
    return fetch(known, folder, progress)


def shapes_index(places: Places, workers: int, progress: Progress = silent) -> Path:
    """The embedded set's CSV in the cache, rendered there if it is missing."""
    folder = places.cache / f"shapes-{shapes.PICTURES_VERSION}"
    sweep(folder.parent, ".shapes-*")
    if (folder / "index.csv").is_file():
        return folder / "index.csv"
    made_folder(folder.parent)
    total = sum(shapes.IMAGES_BY_SPLIT.values())
    with progress("rendering shapes", total, "images") as bar:
        return shapes.build(folder, workers, progress=bar)
