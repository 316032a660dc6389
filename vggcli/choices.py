"""What options choose from, as types that the command line and the libraries share."""

from typing import Literal

Precision = Literal["auto", "fp32", "bf16", "fp16"]  # auto: bfloat16 on a CUDA device that has it, else float32
Head = Literal["fc", "gap", "none"]  # gap averages the last map and keeps one linear layer, none has no classifier
Init = Literal["glorot", "gaussian", "he"]
RecipeName = Literal["paper", "tiny"]
Layers = Literal["all", "fc", "last"]  # those that learn
Pool = Literal["gap", "gmp", "none"]  # over space: mean, maximum, or the map as it is
Aggregate = Literal["mean", "stack", "max"]  # over scales
Norm = Literal["l2", "l1", "none"]  # of a descriptor
RowType = Literal["float32", "float16"]  # of stored descriptors
ProbeProtocol = Literal["accuracy", "caltech", "voc"]
Layout = Literal["vgg", "torchvision", "timm", "keras", "caffe", "onnx"]  # of a file of weights
