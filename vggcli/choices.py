"""The choices that options have, as types that the command line and the library share."""

from typing import Literal

Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]  # auto: bf16 on CUDA from Ampere on, else fp32
Decode = Literal["cpu", "gpu"]  # where JPEGs are decoded
Head = Literal["fc", "gap", "none"]  # gap: global average pooling and one linear layer; none: no classifier
Init = Literal["glorot", "gaussian", "he"]
RecipeName = Literal["paper", "tiny"]
Boxes = Literal["scr", "pcr"]  # box regression: one box for all classes, or one for each (Appendix A)
Layers = Literal["all", "fc", "last"]  # the layers that learn
Pool = Literal["gap", "gmp", "none"]  # over positions: mean, maximum, or none
Aggregate = Literal["mean", "stack", "max"]  # over scales
Norm = Literal["l2", "l1", "none"]  # of a descriptor
RowType = Literal["float32", "float16"]  # of stored descriptors
ProbeProtocol = Literal["accuracy", "caltech", "voc"]
Layout = Literal["vgg", "torchvision", "timm", "keras", "caffe", "onnx"]  # of weights in a file
