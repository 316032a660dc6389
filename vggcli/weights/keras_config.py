"""Keras' own description of a network, followed from its input to its output: one chain of layers, nested models opened.

The description is JSON, `config.json` of a .keras archive or the attribute `model_config` of an .h5; nothing in it is run.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vggcli import paper
from vggcli.errors import WeightsError
from vggcli.weights.operations import no_vgg

_DEEPEST = 8  # models inside models
_LARGEST_SIDE = 4096  # pixels


@dataclass(frozen=True)
class KerasLayer:
    """A layer by Keras' class and settings; `key` is the name of its weights in the file's `Index`."""

    kind: str
    settings: dict[str, Any]
    key: str

    @property
    def name(self) -> str:
        """The name that its author gave it."""
        return str(self.settings.get("name", self.kind))


def described_layers(text: str, path: Path, by_count: bool = False) -> list[KerasLayer]:
    """The layers of the description `text`, in the order in which an image passes through them; `by_count` says that their
    weights are named as Keras 3 counts layers.

    Raises WeightsError where it is damaged or the layers do not form a single chain.
    """
    try:
        return list(_chain(json.loads(text), (), by_count, path))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise WeightsError(f"{path} is damaged: its description of the network cannot be read") from error


def input_side(layers: list[KerasLayer]) -> int:
    """The height and width in pixels that the network was built for; 224 where the description does not say it."""
    shapes = (one.settings.get("batch_shape") or one.settings.get("batch_input_shape") for one in layers)
    shape = next(filter(None, shapes), None)
    side = shape[1] if isinstance(shape, list) and len(shape) == 4 and shape[1] == shape[2] else None
    return side if isinstance(side, int) and paper.STRIDE <= side <= _LARGEST_SIDE else paper.CROP


def _chain(model: dict[str, Any], outer: tuple[str, ...], by_count: bool, path: Path) -> Iterator[KerasLayer]:
    """The layers of a model; `outer` are the names of the models around it."""
    if len(outer) > _DEEPEST:
        raise ValueError("too deep")
    config = model.get("config", {})
    entries = config if isinstance(config, list) else config.get("layers", [])  # a list in early versions of Keras
    counted = numbered([str(entry["class_name"]) for entry in entries])
    places = {_name(entry): index for index, entry in enumerate(entries)}
    followed: Sequence[int] = range(len(entries))
    if model.get("class_name") != "Sequential" and isinstance(config, dict) and config.get("output_layers"):
        followed = _followed(config, places, path)
    for index in followed:
        entry, kind = entries[index], str(entries[index]["class_name"])
        name = counted[index] if by_count else _name(entry)
        if kind in ("Sequential", "Functional", "Model"):
            yield from _chain(entry, (*outer, name), by_count, path)
            continue
        settings = dict(entry["config"])
        if kind == "Add":  # and the constants that it adds to the output of another layer, as Keras 3 writes them
            nodes = [node for node in entry.get("inbound_nodes", []) if isinstance(node, dict)]
            arguments = [one for node in nodes for one in node["args"] if isinstance(one, dict)]
            settings["added"] = [one["config"]["value"] for one in arguments if one.get("class_name") == "__tensor__"]
        yield KerasLayer(kind, settings, "/".join((*(outer if by_count else outer[:1]), name)))


def _name(entry: dict[str, Any]) -> str:
    config = entry["config"]
    return str(entry.get("name") or (config.get("name", "") if isinstance(config, dict) else ""))


def _followed(config: dict[str, Any], places: dict[str, int], path: Path) -> Sequence[int]:
    """The indices of the layers on the way from the only output back to the input, in the order of computation."""
    entries, way = config["layers"], list[int]()
    sources = list(_sources(config["output_layers"]))
    while sources:
        if len(sources) > 1:
            after = f"its layer {_name(entries[way[-1]])} takes" if way else "it returns"
            shown = ", ".join(sources)[:200]
            raise no_vgg(path, f"{after} the outputs of {len(sources)} layers ({shown}) where one is expected")
        place = places[sources[0]]
        if place in way:
            raise ValueError("a circle")
        way.append(place)
        sources = list(_sources(entries[place].get("inbound_nodes", [])))
        if entries[place]["class_name"] == "Stack" and len(sources) == 3:
            sources = _reversed_channels([entries[places[name]] for name in sources]) or sources
    return way[::-1]


def _reversed_channels(channels: list[dict[str, Any]]) -> list[str]:
    """The layer whose channels these three layers select in reverse order, as preprocess_input turns RGB into BGR."""
    picked = [(list(_sources(one["inbound_nodes"])), one["inbound_nodes"][0]["args"][1:]) for one in channels]
    sources = picked[0][0]
    wanted = [(sources, [[{"class_name": "__ellipsis__", "config": {}}, place]]) for place in (2, 1, 0)]
    fits = picked == wanted and all(one["class_name"] == "GetItem" for one in channels)
    return sources if fits else []


def _sources(nodes: Any) -> Iterator[str]:
    """The layers that `nodes` refers to as [name, node, tensor], at any depth, as both Keras 2 and 3 write it."""
    if isinstance(nodes, list):
        if len(nodes) >= 3 and isinstance(nodes[0], str) and isinstance(nodes[1], int):
            yield nodes[0]
            nodes = nodes[3:]
        for node in nodes:
            yield from _sources(node)
    elif isinstance(nodes, dict):
        for node in nodes.values():
            yield from _sources(node)


def numbered(kinds: list[str]) -> list[str]:
    """The names that Keras 3 gives layers of these classes inside its files: conv2d, conv2d_1, max_pooling2d, …"""
    seen: dict[str, int] = {}
    names = []
    for kind in kinds:
        name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", kind))
        name = re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
        names.append(f"{name}_{seen[name]}" if name in seen else name)
        seen[name] = seen.get(name, 0) + 1
    return names
