"""JPEGs that are decoded on the device that the network runs on, which leaves workers only their check.

A worker decodes the luma of a JPEG at an eighth of its size, which needs all of its data but a fifth of the time of a test
view: a truncated or damaged file is found as it always is. A JPEG of a usual kind then goes to the device as bytes; any
other image, and a JPEG that the device refuses, is decoded by Pillow. On CUDA nvJPEG decodes, whose pixels differ from
libjpeg's by a few levels (it upsamples chroma in another way); on a CPU libjpeg.

Shapes: N images, H and W pixels, C = 3 channels in the order RGB.
"""

import io
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

from vggcli.boxes import Region
from vggcli.choices import Decode
from vggcli.data.decode import (
    FIRST_SWAPPING,
    ImageError,
    OpenedImage,
    Origin,
    Size,
    check_pixels,
    image_errors,
    open_image,
    orientation_of,
    reduce_to,
)
from vggcli.data.jpeg_check import ONE_SCAN, PROGRESSIVE, decode_to_its_end, frame_of
from vggcli.data.test_views import ViewPlan, centre_offsets, rescaled_size
from vggcli.data.to_device import arrived
from vggcli.data.training_views import Pixels, crop_spans
from vggcli.errors import MachineError, UsageError

T = TypeVar("T")

TOGETHER = 1 << 27  # bytes of the pixels that are decoded at once
LUMA = ((1, 1), (2, 1), (1, 2), (2, 2))  # its usual sampling factors: 4:4:4, 4:2:2, 4:4:0, 4:2:0
CHROMA = (1, 1)
YCBCR = 1  # Adobe's number
TURNS: dict[int, Callable[[Tensor], Tensor]] = {  # EXIF orientations of [C, H, W]
    2: lambda image: image.flip(2),
    3: lambda image: image.flip(1, 2),
    4: lambda image: image.flip(1),
    5: lambda image: image.transpose(1, 2),
    6: lambda image: image.rot90(-1, (1, 2)),
    7: lambda image: image.transpose(1, 2).flip(1, 2),
    8: lambda image: image.rot90(1, (1, 2)),
}


@dataclass(frozen=True)
class CodedJpeg:
    """A JPEG whose data were checked: its bytes, uint8 [n], whether it is `grey`, its `stored` size (width, height), its
    EXIF orientation (1 to 8), and its size as `read_image` would decode it: `reduced` and upright."""

    data: Tensor
    grey: bool
    stored: Size
    orientation: int
    reduced: Size

    @property
    def size(self) -> Size:
        """(width, height) of the upright image."""
        return _turned(self.stored, self.orientation)


def need_decoder(decode: Decode, device: torch.device) -> None:
    """Raises MachineError where JPEGs are to be decoded on a GPU and none here can do it, UsageError where `device` is not
    one."""
    if decode == "cpu":
        return
    if not torch.cuda.is_available():
        raise MachineError("this machine has no CUDA device to decode JPEGs on; decode on the CPU", "decode")
    if device.type != "cuda":
        what = f"JPEGs are decoded on the GPU that the network runs on, and it runs on {device}"
        raise UsageError(f"{what}; run it on CUDA, or decode on the CPU", "decode", "device")
    sample = io.BytesIO()
    Image.new("RGB", (16, 16)).save(sample, "JPEG")
    try:
        _resampled(_pixels([_bytes(sample.getvalue())], device)[0], (8, 8))
    except (AttributeError, ImportError, RuntimeError) as error:
        what = f"the installed torchvision cannot decode JPEGs on {device} ({str(error).splitlines()[0]})"
        raise MachineError(f"{what}; decode on the CPU", "decode") from error


def coded_jpeg(place: Origin, at_least: int | None = None) -> CodedJpeg | None:
    """The JPEG at `place` for the device; None where `read_image`, to which `at_least` belongs, is to decode the image.
    Raises as `read_image` does where a JPEG for the device cannot be used."""
    if isinstance(place, OpenedImage):
        return None
    with image_errors(place), open_image(place) as image:
        if not isinstance(image, JpegImageFile) or image.format != "JPEG" or image.fp is None:
            return None
        image.fp.seek(0)
        data = image.fp.read()
        if not _is_usual(image, data):
            return None
        check_pixels(place, image.size)
        stored, orientation = image.size, orientation_of(image)
        if at_least is not None:
            reduce_to(image, at_least)
        reduced = _turned(image.size, orientation)
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as luma:
            luma.draft("L", (1, 1))
            decode_to_its_end(luma)
            luma.load()
        return CodedJpeg(_bytes(data), image.mode == "L", stored, orientation, reduced)


def _is_usual(image: JpegImageFile, data: bytes) -> bool:
    """Whether a JPEG is baseline in one scan or progressive, and grey or YCbCr of a usual sampling, beyond doubt."""
    frame = frame_of(data)
    if frame is None or not (frame.marker == PROGRESSIVE or (frame.marker == ONE_SCAN[0] and frame.one_scan)):
        return False
    names = [name for name, *_ in image.layer]
    luma, *chroma = [(across, down) for _, across, down, _ in image.layer]
    if image.mode == "L":
        return luma == (1, 1)
    transform = image.info.get("adobe_transform", YCBCR if "jfif" in image.info or names == [1, 2, 3] else None)
    return image.mode == "RGB" and transform == YCBCR and luma in LUMA and chroma == [CHROMA, CHROMA]


def _bytes(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _turned(size: Size, orientation: int) -> Size:
    return size[::-1] if orientation >= FIRST_SWAPPING else size


def device_views(
    jpegs: Sequence[CodedJpeg], device: torch.device, views: Callable[[Tensor, int], T]
) -> Iterator[T | None]:
    """For each JPEG, by its place among `jpegs`, `views(image, place)` of its upright pixels, uint8 [C, H, W] on `device`;
    None where the device refuses it."""
    images = (image for some in _together(jpegs) for image in _decoded(some, device))
    for place, (jpeg, image) in enumerate(zip(jpegs, images, strict=True)):
        width, height = jpeg.stored
        found = None
        if image is not None and image.shape == (3, height, width):
            image_CHW = image[:1].expand(3, -1, -1) if jpeg.grey else image  # decoders need not fill its other planes
            turn = TURNS.get(jpeg.orientation)
            with suppress(RuntimeError):  # out of memory, or too large a factor
                found = views(image_CHW if turn is None else turn(image_CHW), place)
        yield found


def _together(jpegs: Iterable[CodedJpeg]) -> Iterator[list[CodedJpeg]]:
    """The JPEGs in lists whose pixels take at most TOGETHER bytes, or of one."""
    some, size = list[CodedJpeg](), 0
    for jpeg in jpegs:
        width, height = jpeg.stored
        pixels = 3 * width * height
        if some and size + pixels > TOGETHER:
            yield some
            some, size = [], 0
        some.append(jpeg)
        size += pixels
    if some:
        yield some


def _decoded(jpegs: Sequence[CodedJpeg], device: torch.device) -> Sequence[Tensor | None]:
    """The pixels [C, H, W] of each JPEG as stored, None where the device refuses it."""
    try:
        return _pixels([jpeg.data for jpeg in jpegs], device)
    except RuntimeError:
        return [None] if len(jpegs) == 1 else [one for jpeg in jpegs for one in _decoded([jpeg], device)]


def _pixels(coded: list[Tensor], device: torch.device) -> list[Tensor]:
    """RGB pixels uint8 [C, H, W] of each JPEG, uint8 [n]. Raises RuntimeError where one of them cannot be decoded.

    This is `torchvision.io.decode_jpeg` without its warning that TorchCodec will replace it, which could only be hidden for
    all threads at once."""
    from torchvision.io import ImageReadMode

    if device.type == "cuda":
        found: list[Tensor] = torch.ops.image.decode_jpegs_cuda(coded, ImageReadMode.RGB.value, device)
        return found
    return [torch.ops.image.decode_jpeg(one, ImageReadMode.RGB.value, False).to(device) for one in coded]


def rescaled_on_device(image_CHW: Tensor, views: ViewPlan) -> list[Tensor]:
    """As `rescaled_views`, after its checks, on the device: uint8 [H, W, 3] for each scale, at most two levels from
    Pillow's, which rounds to whole levels between its two passes too."""
    made, (height, width) = [], image_CHW.shape[1:]
    for shorter in views.scales:
        size = rescaled_size((width, height), shorter)
        scaled_CHW = image_CHW if size == (width, height) else _resampled(image_CHW, size)
        if (crop := views.centre_crop) is not None:
            top, left = centre_offsets(scaled_CHW.shape[1:], crop)
            scaled_CHW = scaled_CHW[:, top : top + crop, left : left + crop]
        made.append(scaled_CHW.permute(1, 2, 0))
    return made


def cropped_on_device(image_CHW: Tensor, region: Region, crop: int) -> Tensor:
    """As `training_pixels` makes the view of a `region`, on the device: uint8 [crop, crop, 3]."""
    height, width = image_CHW.shape[1:]
    across, down = crop_spans((width, height), region, crop)
    region_CHW = image_CHW[:, down.first : down.last, across.first : across.last]
    scaled_CHW = _resampled(region_CHW, (across.pixels, down.pixels))
    return scaled_CHW[:, down.skip : down.skip + crop, across.skip : across.skip + crop].permute(1, 2, 0)


def _resampled(image_CHW: Tensor, size: Size) -> Tensor:
    """An image resampled to `size` (width, height) by the antialiased bilinear filter, rounded to whole levels."""
    pixels = F.interpolate(image_CHW[None].float(), size=size[::-1], mode="bilinear", antialias=True)[0]
    return pixels.add_(0.5).to(torch.uint8)  # the weights sum to 1, so that no level is passed


def stacked(views: Sequence[Pixels | Tensor], device: torch.device) -> Tensor:
    """Views of one shape, arrays of the host and tensors of `device`, as one tensor there."""
    if not any(isinstance(view, Tensor) for view in views):
        return torch.from_numpy(np.stack(cast("Sequence[Pixels]", views))).to(device)
    return torch.stack([view if isinstance(view, Tensor) else stacked([view], device)[0] for view in views])


def prepared_ahead(
    items: Iterable[T], prepare: Callable[[T], list[Any]], device: torch.device, ahead: int
) -> Generator[Any, None, None]:
    """The batches and ImageErrors that `prepare` makes of each item on `device`, in order: a thread makes those of `ahead`
    items while earlier ones are used, on CUDA on a stream of its own."""
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def prepared(item: T) -> tuple[list[Any], torch.cuda.Event | None]:
        if stream is None:
            return prepare(item), None
        with torch.cuda.stream(stream):
            return prepare(item), stream.record_event()

    waiting: deque[Future[tuple[list[Any], torch.cuda.Event | None]]] = deque()
    thread = ThreadPoolExecutor(1)
    try:
        for item in items:
            waiting.append(thread.submit(prepared, item))
            if len(waiting) > ahead:
                yield from _arrived(waiting.popleft(), device)
        while waiting:
            yield from _arrived(waiting.popleft(), device)
    finally:
        thread.shutdown(cancel_futures=True)


def _arrived(made: "Future[tuple[list[Any], torch.cuda.Event | None]]", device: torch.device) -> Iterator[Any]:
    batches, event = made.result()
    for batch in batches:
        yield batch if isinstance(batch, ImageError) else arrived(batch, event, device)
