"""The paper as data: Table 1 as rows, the hyper-parameters of section 3 with their sources, the published results.

No torch, no code: everything else in the package reads from here. "VGG paper" is Simonyan and Zisserman,
arXiv 1409.1556v6. A value that the paper does not state is marked "not in the paper".
"""

from dataclasses import dataclass

BLOCK_CHANNELS = (64, 128, 256, 512, 512)  # section 2.1: doubled after each max-pooling layer, up to 512
FC_CHANNELS = 4096  # section 2.1: the first two fully connected layers
IMAGENET_CLASSES = 1000
IMAGENET_VALIDATION = 50_000  # images, section 4
CROP = 224  # section 2.1: side of the input in pixels
STRIDE = 32  # five 2x2 max-pooling layers with stride 2


@dataclass(frozen=True)
class Row:
    """One column of Table 1: for each of the five blocks the kernel sizes of its convolutions, in order."""

    arch: str
    blocks: tuple[tuple[int, ...], ...]
    lrn: bool = False  # local response normalisation after the first convolution
    batch_norm: bool = False  # not in the paper: torchvision's variants
    alias: str | None = None  # torchvision's name
    top1_error: float | None = None  # per cent, published
    top5_error: float | None = None
    error_source: str = ""

    @property
    def weight_layers(self) -> int:
        """Layers with weights: the convolutions and the three fully connected layers."""
        return sum(len(block) for block in self.blocks) + 3


_S256 = "Table 3: dense, single scale, S=256"
_JITTERED = "Table 3: dense, single scale, S in [256, 512], Q=384"
_TORCHVISION = "torchvision V1 weights: centre crop at 256"
_A = ((3,), (3,), (3, 3), (3, 3), (3, 3))
_B = ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3))
_C = ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1))
_D = ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))
_E = ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3))
NETWORKS: dict[str, Row] = {
    row.arch: row
    for row in (
        Row("A", _A, alias="vgg11", top1_error=29.6, top5_error=10.4, error_source=_S256),
        Row("A-LRN", _A, lrn=True, top1_error=29.7, top5_error=10.5, error_source=_S256),
        Row("B", _B, alias="vgg13", top1_error=28.7, top5_error=9.9, error_source=_S256),
        Row("C", _C, top1_error=27.3, top5_error=8.8, error_source=_JITTERED),
        Row("D", _D, alias="vgg16", top1_error=25.6, top5_error=8.1, error_source=_JITTERED),
        Row("E", _E, alias="vgg19", top1_error=25.5, top5_error=8.0, error_source=_JITTERED),
        # Section 4.1: B with each pair of 3x3 layers replaced by one 5x5 layer; its error is only said to be 7 % above B's.
        Row("B-5x5", ((5,), (5,), (5,), (5,), (5,))),
        Row(
            "A-BN", _A, batch_norm=True, alias="vgg11_bn", top1_error=29.63, top5_error=10.19, error_source=_TORCHVISION
        ),
        Row(
            "B-BN", _B, batch_norm=True, alias="vgg13_bn", top1_error=28.41, top5_error=9.63, error_source=_TORCHVISION
        ),
        Row(
            "D-BN", _D, batch_norm=True, alias="vgg16_bn", top1_error=26.64, top5_error=8.48, error_source=_TORCHVISION
        ),
        Row(
            "E-BN", _E, batch_norm=True, alias="vgg19_bn", top1_error=25.78, top5_error=8.16, error_source=_TORCHVISION
        ),
    )
}

# Section 2.1 refers to AlexNet's constants; there alpha is not divided by the window, as it is in torch.
LRN_SIZE, LRN_ALPHA, LRN_BETA, LRN_K = 5, 1e-4, 0.75, 2.0

# Section 3.1
BATCH_SIZE = 256
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
DROPOUT = 0.5  # on the first two fully connected layers
LEARNING_RATE = 1e-2
BOX_LEARNING_RATE = 1e-3  # Appendix A
RIGHT_IOU = 0.5  # Appendix A: a box is right above it, not at it
LEARNING_RATE_DROPS = 3  # divided by 10 when the validation accuracy stalls
EPOCHS = 74
TRAINING_IMAGES, VALIDATION_IMAGES = 1_281_167, 50_000  # ILSVRC-2012; the paper says 1.3M and 50K (section 4)
DEVICES, SPEED_UP = 4, 3.75  # GPUs of one machine, and how much faster than one they were (section 3.3)
SCALE = 256  # S, shorter side in pixels; 384 and [256, 512] are the others
FINETUNING_RATE = 0.1  # of the first learning rate: 1e-3 where training at S=384 starts from the S=256 weights
NEXT_SCALE = {(256, 256): (384, 384), (384, 384): (256, 512)}  # what a network is fine-tuned for after S=256, and S=384
COLOUR_SHIFT_STD = 0.1  # AlexNet's; not restated in the VGG paper
FROM_NETWORK_A = ("conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8")  # the first four and the last three
GAUSSIAN_STD = 0.01  # the text says "variance 10^-2", that is a std of 0.1: --init-std 0.1

# Sections 3.2, 4.2
CROP_GRID = 5  # crops along each side: 50 a scale with flips
TEST_SCALE_STEP = 32  # pixels: Q in S-32, S, S+32


@dataclass(frozen=True)
class PublishedResult:
    """A result of section 4 on ImageNet's validation images: errors, in per cent, of a network trained at S in `scale`."""

    table: int
    arch: str
    scale: tuple[int, int]
    test_scales: tuple[int, ...]
    protocol: str
    top1_error: float
    top5_error: float


_AT256, _AT384, _JITTER = (256, 256), (384, 384), (256, 512)
_Q256, _Q384, _QJITTER = (224, 256, 288), (352, 384, 416), (256, 384, 512)
RESULTS = (
    PublishedResult(3, "A", _AT256, (256,), "dense", 29.6, 10.4),
    PublishedResult(3, "A-LRN", _AT256, (256,), "dense", 29.7, 10.5),
    PublishedResult(3, "B", _AT256, (256,), "dense", 28.7, 9.9),
    PublishedResult(3, "C", _AT256, (256,), "dense", 28.1, 9.4),
    PublishedResult(3, "C", _AT384, (384,), "dense", 28.1, 9.3),
    PublishedResult(3, "C", _JITTER, (384,), "dense", 27.3, 8.8),
    PublishedResult(3, "D", _AT256, (256,), "dense", 27.0, 8.8),
    PublishedResult(3, "D", _AT384, (384,), "dense", 26.8, 8.7),
    PublishedResult(3, "D", _JITTER, (384,), "dense", 25.6, 8.1),
    PublishedResult(3, "E", _AT256, (256,), "dense", 27.3, 9.0),
    PublishedResult(3, "E", _AT384, (384,), "dense", 26.9, 8.7),
    PublishedResult(3, "E", _JITTER, (384,), "dense", 25.5, 8.0),
    PublishedResult(4, "B", _AT256, _Q256, "dense", 28.2, 9.6),
    PublishedResult(4, "C", _AT256, _Q256, "dense", 27.7, 9.2),
    PublishedResult(4, "C", _AT384, _Q384, "dense", 27.8, 9.2),
    PublishedResult(4, "C", _JITTER, _QJITTER, "dense", 26.3, 8.2),
    PublishedResult(4, "D", _AT256, _Q256, "dense", 26.6, 8.6),
    PublishedResult(4, "D", _AT384, _Q384, "dense", 26.5, 8.6),
    PublishedResult(4, "D", _JITTER, _QJITTER, "dense", 24.8, 7.5),
    PublishedResult(4, "E", _AT256, _Q256, "dense", 26.9, 8.7),
    PublishedResult(4, "E", _AT384, _Q384, "dense", 26.7, 8.6),
    PublishedResult(4, "E", _JITTER, _QJITTER, "dense", 24.8, 7.5),
    PublishedResult(5, "D", _JITTER, _QJITTER, "dense", 24.8, 7.5),
    PublishedResult(5, "D", _JITTER, _QJITTER, "multi-crop", 24.6, 7.5),
    PublishedResult(5, "D", _JITTER, _QJITTER, "dense+multi-crop", 24.4, 7.2),
    PublishedResult(5, "E", _JITTER, _QJITTER, "dense", 24.8, 7.5),
    PublishedResult(5, "E", _JITTER, _QJITTER, "multi-crop", 24.6, 7.4),
    PublishedResult(5, "E", _JITTER, _QJITTER, "dense+multi-crop", 24.4, 7.1),
)

Member = tuple[str, tuple[int, int], tuple[int, ...]]  # a network of Table 6: name, training range of S, test scales


@dataclass(frozen=True)
class FusionResult:
    """A row of Table 6: the error, in per cent, of networks whose posteriors are averaged; `test_top5_error` is on the test
    images, the others on the validation images. None where the table has a dash."""

    members: tuple[Member, ...]
    protocol: str
    top1_error: float
    top5_error: float
    test_top5_error: float | None


_D_AND_E: tuple[Member, ...] = (("D", _JITTER, _QJITTER), ("E", _JITTER, _QJITTER))
_SUBMISSION: tuple[Member, ...] = (  # to ILSVRC-2014; of D at [256, 512] only the FC layers were fine-tuned
    ("D", _AT256, _Q256),
    ("D", _AT384, _Q384),
    ("D", _JITTER, _QJITTER),
    ("C", _AT256, _Q256),
    ("C", _AT384, _Q384),
    ("E", _AT256, _Q256),
    ("E", _AT384, _Q384),
)
TABLE6 = (
    FusionResult(_SUBMISSION, "dense", 24.7, 7.5, 7.3),
    FusionResult(_D_AND_E, "dense", 24.0, 7.1, 7.0),
    FusionResult(_D_AND_E, "multi-crop", 23.9, 7.2, None),
    FusionResult(_D_AND_E, "dense+multi-crop", 23.7, 6.8, 6.8),
)


@dataclass(frozen=True)
class MethodResult:
    """A row of Table 7, as `FusionResult`. With `one_cell`, one figure stands across both columns of top-5 errors."""

    method: str
    nets: str
    top1_error: float | None
    top5_error: float | None
    test_top5_error: float | None
    one_cell: bool = False


# Section 4.5 also has 11.2 for Clarifai with outside training data.
TABLE7 = (
    MethodResult("VGG", "2 nets, dense and multi-crop", 23.7, 6.8, 6.8),
    MethodResult("VGG", "1 net, dense and multi-crop", 24.4, 7.1, 7.0),
    MethodResult("VGG", "7 nets, dense, ILSVRC submission", 24.7, 7.5, 7.3),
    MethodResult("GoogLeNet", "1 net", None, 7.9, 7.9, one_cell=True),
    MethodResult("GoogLeNet", "7 nets", None, 6.7, 6.7, one_cell=True),
    MethodResult("MSRA", "11 nets", None, None, 8.1),
    MethodResult("MSRA", "1 net", 27.9, 9.1, 9.1),
    MethodResult("Clarifai", "several nets", None, None, 11.7),
    MethodResult("Clarifai", "1 net", None, None, 12.5),
    MethodResult("Zeiler & Fergus", "6 nets", 36.0, 14.7, 14.8),
    MethodResult("Zeiler & Fergus", "1 net", 37.5, 16.0, 16.1),
    MethodResult("OverFeat", "7 nets", 34.0, 13.2, 13.6),
    MethodResult("OverFeat", "1 net", 35.7, 14.2, None),
    MethodResult("Krizhevsky et al.", "5 nets", 38.1, 16.4, 16.4),
    MethodResult("Krizhevsky et al.", "1 net", 40.7, 18.2, None),
)


@dataclass(frozen=True)
class BoxResult:
    """A row of Table 8: the localisation error, in per cent, of the box of the ground-truth class in the centre crop, at
    S = Q = 384, of network D with boxes of a kind ("scr" or "pcr") after fine-tuning `layers` ("fc" or "all")."""

    layers: str
    boxes: str
    error: float


TABLE8 = (BoxResult("fc", "scr", 36.4), BoxResult("fc", "pcr", 34.3), BoxResult("all", "pcr", 33.1))
TABLE8_SCALE = _AT384

BoxMember = tuple[tuple[int, int], tuple[int, ...]]  # a network of Table 9: training range of S, test scales


@dataclass(frozen=True)
class LocalisationResult:
    """A row of Table 9: the localisation error, in per cent, of five guesses by networks D with PCR, fine-tuned as a whole,
    on the validation and on the test images; None where the table has a dash."""

    members: tuple[BoxMember, ...]
    error: float
    test_error: float | None


_BOXES256: BoxMember = (_AT256, (256,))
_BOXES384: BoxMember = (_AT384, (352, 384))
TABLE9 = (
    LocalisationResult((_BOXES256,), 29.5, None),
    LocalisationResult(((_AT384, (384,)),), 28.2, 26.7),
    LocalisationResult((_BOXES384,), 27.5, None),
    LocalisationResult((_BOXES256, _BOXES384), 26.9, 25.3),
)

# Appendix B: linear SVMs on the descriptors of images
HELD_OUT_SHARE = 0.2  # of the training images, to choose hyper-parameters
CALTECH_TRAIN, CALTECH_TEST, CALTECH_SPLITS = 30, 50, 3  # Caltech-101: images a class, at most so many to test on
CALTECH256_TRAIN = 60  # the rest are tested on


@dataclass(frozen=True)
class TransferResult:
    """A row of Table 11: mean average precision on VOC-2007 and VOC-2012, and mean class recall on Caltech-101 and
    Caltech-256 with its deviation over the splits, in per cent; None where the table has no value."""

    method: str
    voc2007: float | None
    voc2012: float | None
    caltech101: tuple[float, float] | None
    caltech256: tuple[float, float] | None


# Wei et al. also print 85.2 and 90.3, with a network pre-trained on 2,000 classes.
TABLE11 = (
    TransferResult("Zeiler & Fergus", None, 79.0, (86.5, 0.5), (74.2, 0.3)),
    TransferResult("Chatfield et al.", 82.4, 83.2, (88.4, 0.6), (77.6, 0.1)),
    TransferResult("He et al.", 82.4, None, (93.4, 0.5), None),
    TransferResult("Wei et al.", 81.5, 81.7, None, None),
    TransferResult("VGG D", 89.3, 89.0, (91.8, 1.0), (85.0, 0.2)),
    TransferResult("VGG E", 89.3, 89.0, (92.3, 0.5), (85.1, 0.3)),
    TransferResult("VGG D + E", 89.7, 89.3, (92.7, 0.5), (86.2, 0.3)),
)
