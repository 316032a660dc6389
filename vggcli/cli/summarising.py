"""What `vgg features` shows: what was stored and how, or a single image's row in a few lines and pictures."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vggcli.cli import options
from vggcli.cli.storing import Outcome, Work
from vggcli.data.decode import ImageError, read_image
from vggcli.errors import UsageError
from vggcli.features.extract import described, image_rows
from vggcli.report.maps import save_maps
from vggcli.report.tables import facts_table

STRONGEST = 8  # channels that a summary names


def show(work: Work, outcome: Outcome, as_json: bool) -> None:
    """What was written and how, on stdout."""
    if as_json:
        print(json.dumps(outcome_json(work, outcome)))
        return
    shapes = ", ".join("x".join(map(str, shape)) for shape in outcome.shapes)
    turned = f", {outcome.turned} turned upright by EXIF" if outcome.turned else ""
    bad = f", {len(outcome.bad)} could not be used" if outcome.bad else ""
    facts = {
        "rows": f"{outcome.rows} of {shapes} ({work.dtype}){bad}{turned}",
        **_how(work),
        "speed": f"{outcome.computed / max(outcome.seconds, 1e-9):.1f} images/s, {outcome.seconds:.1f} s",
        "written": str(outcome.written),
    }
    options.stdout_console().print(facts_table("Features", facts))


def outcome_json(work: Work, outcome: Outcome) -> dict[str, Any]:
    """The object of --json."""
    shapes = [list(shape) for shape in outcome.shapes]
    return {
        **work.settings,
        "images": outcome.rows,
        "skipped": [{"path": name, "reason": reason} for name, reason in outcome.bad],
        "turned": outcome.turned,
        "shape": shapes[0] if len(shapes) == 1 else shapes,
        "out": str(outcome.written) if outcome.written else None,
        "seconds": outcome.seconds,
        "images_per_second": outcome.computed / max(outcome.seconds, 1e-9),
    }


def _how(work: Work) -> dict[str, str]:
    one = work.options
    pools = {"gap": "averaged over space", "gmp": "maximum over space", "none": "the map as it is"}
    scales = f"Q = {', '.join(map(str, one.scales))}" + (f" ({one.aggregate})" if len(one.scales) > 1 else "")
    flip = ", mirror image averaged" if one.flip else ""
    return {
        "layer": f"{' '.join(one.layers)} of network {work.network.config.arch}; {pools[one.pool]}",
        "views": f"{scales}{flip}; norm {one.norm}",
        "weights": str(work.weights),
    }


def show_one(work: Work, as_json: bool) -> None:
    """A summary of the only image: size and length of its row, and its strongest channels; nothing is written."""
    started = time.perf_counter()
    with_turned = list(image_rows(work.network, work.images, work.colour, work.options))
    rows: list[np.ndarray[Any, Any]] = []
    turned = 0
    for result in with_turned:
        if isinstance(result, ImageError):
            raise result
        turned += result.turned
        rows = [values[0] for values in result.rows.layers] or rows
    shapes = tuple(row.shape for row in rows)
    outcome = Outcome(1, shapes, (), turned, None, time.perf_counter() - started, 1)
    if as_json:
        several = len(rows) > 1
        values = [row.tolist() for row in rows]
        print(json.dumps({**outcome_json(work, outcome), "features": values if several else values[0]}))
        return
    facts = {"image": work.images.names[0] + (", turned upright by EXIF" if turned else "")}
    for name, row in zip(work.options.layers, rows, strict=True):
        facts[name] = _summary(row)
    options.stdout_console().print(facts_table("Features", {**facts, **_how(work)}))


def _summary(row: np.ndarray[Any, Any]) -> str:
    """Of [D] or [C, H, W]: size, length, share of zeros, and the strongest channels (by their mean over space)."""
    channels = row.reshape(len(row), -1).mean(1)
    order = np.argsort(-channels, kind="stable")[:STRONGEST]
    strongest = ", ".join(f"{index} ({channels[index]:.3g})" for index in order)
    size = "x".join(map(str, row.shape))
    return (
        f"{size}, L2 length {np.linalg.norm(row):.4g}, {(row == 0).mean():.0%} zeros; strongest channels: {strongest}"
    )


def draw_maps(work: Work, path: Path) -> None:
    """The strongest channels of the layer over the image, as a picture."""
    opts = replace(work.options, pool="none", flip=False, norm="none", scales=work.options.scales[:1])
    if len(work.options.scales) > 1:
        raise UsageError("--maps draws one scale; give one with --scales")
    (maps_NCHW,) = described(work.network, work.images, work.colour, opts)
    save_maps(read_image(work.images.path(0)), maps_NCHW[0], work.options.layers[0], path)
    options.note(f"written: {path}")
