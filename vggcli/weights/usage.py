"""Lines of Python that use converted weights in the framework they were written for, ready to be pasted.

Those of other frameworks need nothing of this program: they cut the centre crop that `vgg predict` looks at out of the
photo. A network that the framework has is built by its name; others are put together from torchvision's and timm's parts.
"""

import json
from collections.abc import Callable
from pathlib import Path

from vggcli import paper
from vggcli.choices import Layout
from vggcli.weights.checkpoint import Checkpoint
from vggcli.weights.preprocessing import Channels, ExpectedPixels
from vggcli.zoo.layers import Layer, NetworkConfig, network_layers
from vggcli.zoo.scales import paper_scales

_PHOTO = '"photo.jpg"'
_KERAS_NETWORKS = {"D": "VGG16", "E": "VGG19"}  # of keras.applications
_Code = tuple[str, list[str]]  # what to import, and the lines from `pixels` [H, W, 3] to `posteriors` [K]


def usage_lines(layout: Layout, written: Path, channels: Channels, checkpoint: Checkpoint) -> str:
    """Python code that gives the posteriors of the image photo.jpg by the weights in the file `written`, which expects
    its channels in that order; a comment alone where the framework has no such network."""
    if layout == "vgg":
        return "\n".join(_own(written, checkpoint.config))
    if layout == "keras" and written.suffix == ".h5" and _keras_name(checkpoint.config) is None:
        return _no_keras_network(written, checkpoint.config)
    framework, code = _CODE[layout]
    imported, lines = code(written, checkpoint.config)
    return "\n".join(
        [
            f"# The posteriors of photo.jpg, in the order of the classes, with {framework}:",
            f"import {imported}",
            "from PIL import Image, ImageOps",
            *_pixels(channels, checkpoint),
            *lines,
        ]
    )


def _pixels(channels: Channels, checkpoint: Checkpoint) -> list[str]:
    """Lines that make `pixels` float32 [H, W, 3]: the centre crop at the network's own Q, preprocessed."""
    crop, colour = checkpoint.config.crop, checkpoint.preprocessing
    expected = ExpectedPixels(channels, colour.mean, colour.divisor).to_json()
    shorter = max(crop, *paper_scales(checkpoint.scale, several=False))
    edge = round((shorter - crop) / 2)
    cut = f".crop(({edge}, {edge}, {edge + crop}, {edge + crop}))" if shorter > crop else ""
    array = "numpy.array(photo)" + ("[..., ::-1]" if channels == "BGR" else "")
    divisor = "" if expected["divisor"] == 1 else f" / {_numbers(expected['divisor'])}"
    return [
        f'photo = ImageOps.exif_transpose(Image.open({_PHOTO})).convert("RGB")',
        f"photo = ImageOps.fit(photo, ({shorter}, {shorter}), Image.Resampling.BILINEAR){cut}",
        f"pixels = ({array} - {_numbers(expected['mean'])}){divisor}  # {channels}",
    ]


def _numbers(values: float | list[float]) -> str:
    """A number or a list of them as float32 takes it."""
    shown = ", ".join(f"{value:.9g}" for value in (values if isinstance(values, list) else [values]))
    return f"numpy.float32([{shown}])" if isinstance(values, list) else f"numpy.float32({shown})"


def _own(written: Path, config: NetworkConfig) -> list[str]:
    if config.head == "none":
        return [
            "# The descriptor of photo.jpg, for weights without a classifier:",
            "import vggcli",
            f'describe = vggcli.Features({_quoted(written)}, layer="pool5")',
            f"descriptor = describe([{_PHOTO}])[0]",
        ]
    return [
        "# The posteriors of photo.jpg, by class, the most probable first:",
        "import vggcli",
        "from PIL import Image",
        f"network = vggcli.load({_quoted(written)})",
        f"posteriors = network(Image.open({_PHOTO}))",
    ]


def _torchvision(written: Path, config: NetworkConfig) -> _Code:
    row, layers = paper.NETWORKS[config.arch], _by_name(config)
    if _of_the_papers_size(config):
        built = [f"network = torchvision.models.{row.alias}(num_classes={config.classes})"]
    else:
        inputs, hidden = layers["fc6"].channels_in * layers["fc6"].kernel ** 2, layers["fc6"].channels
        sizes = _channels(config) + (", batch_norm=True" if row.batch_norm else "")
        mlp = f"torchvision.ops.MLP({inputs}, [{hidden}, {hidden}, {config.classes}])"
        built = [
            f"network = torch.nn.Sequential()  # torchvision's {row.alias} has other sizes",
            f"network.features = torchvision.models.vgg.make_layers({sizes})",
            f"network.flatten, network.classifier = torch.nn.Flatten(), {mlp}",
        ]
    file, safe = _quoted(written), written.suffix == ".safetensors"
    loaded = f"safetensors.torch.load_file({file})" if safe else f"torch.load({file}, weights_only=True)"
    imported = f"numpy, {'safetensors.torch, ' if safe else ''}torch, torchvision"
    return imported, [*built, f"network.load_state_dict({loaded})", *_OF_TORCH]


def _timm(written: Path, config: NetworkConfig) -> _Code:
    row, layers = paper.NETWORKS[config.arch], _by_name(config)
    file, classes = _quoted(written), f"num_classes={config.classes}"
    if _of_the_papers_size(config):
        built = [f'network = timm.create_model("{row.alias}", {classes}, checkpoint_path={file})']
    else:
        fc6, norm = layers["fc6"], ", norm_layer=torch.nn.BatchNorm2d" if row.batch_norm else ""
        built = [
            f"network = timm.models.vgg.VGG({_channels(config)}, {classes}{norm})  # timm's {row.alias} has other sizes",
            f"network.pre_logits = timm.models.vgg.ConvMlp({fc6.channels_in}, {fc6.channels}, {fc6.kernel})",
            f"network.head = timm.layers.ClassifierHead({fc6.channels}, {config.classes})",
            f"timm.models.load_checkpoint(network, {file})",
        ]
    return "numpy, timm, torch", [*built, *_OF_TORCH]


_OF_TORCH = [
    "images = torch.from_numpy(pixels).permute(2, 0, 1)[None]",
    "posteriors = network.eval()(images).softmax(1)[0].detach()",
]


def _keras(written: Path, config: NetworkConfig) -> _Code:
    file, name = _quoted(written), _keras_name(config)
    if written.suffix == ".keras":
        built = [f"network = keras.saving.load_model({file})"]
    else:
        shape = f"input_shape=({config.crop}, {config.crop}, 3)"
        built = [
            f"network = keras.applications.{name}(weights=None, {shape}, classes={config.classes})",
            f"network.load_weights({file})",
        ]
    return "keras, numpy", [*built, "posteriors = network.predict(pixels[None], verbose=0)[0]"]


def _keras_name(config: NetworkConfig) -> str | None:
    return _KERAS_NETWORKS.get(config.arch) if config.width == 1 else None


def _no_keras_network(written: Path, config: NetworkConfig) -> str:
    archive = written.with_name(written.name.removesuffix(".h5").removesuffix(".weights") + ".keras")
    what = f"network {config.arch}" + ("" if config.width == 1 else f" of width {config.width:g}")
    call = f"vggcli.convert({_quoted(written)}, {_quoted(archive)})"
    return f"# keras.applications has no {what}; {call} writes the network with its weights, and says how to use it"


def _caffe(written: Path, config: NetworkConfig) -> _Code:
    prototxt = _quoted(written.with_suffix(".prototxt"))
    return "cv2, numpy", [
        f"network = cv2.dnn.readNetFromCaffe({prototxt}, {_quoted(written)})",
        "network.setInput(pixels.transpose(2, 0, 1)[None])",
        "posteriors = network.forward()[0]",
    ]


def _onnx(written: Path, config: NetworkConfig) -> _Code:
    return "numpy, onnxruntime", [
        f'network = onnxruntime.InferenceSession({_quoted(written)}, providers=["CPUExecutionProvider"])',
        'posteriors = network.run(["posteriors"], {"images": pixels.transpose(2, 0, 1)[None]})[0][0]',
    ]


_CODE: dict[Layout, tuple[str, Callable[[Path, NetworkConfig], _Code]]] = {
    "torchvision": ("torchvision", _torchvision),
    "timm": ("timm", _timm),
    "keras": ("Keras", _keras),
    "caffe": ("OpenCV 4, the last that reads Caffe's files", _caffe),
    "onnx": ("ONNX Runtime", _onnx),
}


def _of_the_papers_size(config: NetworkConfig) -> bool:
    """Whether torchvision and timm build the network by name: of full width, with a window of 7x7 in fc6."""
    return config.width == 1 and config.crop // paper.STRIDE == paper.CROP // paper.STRIDE


def _by_name(config: NetworkConfig) -> dict[str, Layer]:
    return {layer.name: layer for layer in network_layers(config)}


def _channels(config: NetworkConfig) -> str:
    """The convolutions' channels, and "M" for max pooling, as torchvision and timm list them."""
    layers = [layer for layer in network_layers(config) if layer.kind in ("conv", "pool")]
    return json.dumps([layer.channels if layer.kind == "conv" else "M" for layer in layers])


def _quoted(path: Path) -> str:
    return repr(str(path))
