"""Caffe's messages as protocol buffers' own library builds them, in both forms: what Caffe itself would have written."""

from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from torch import Tensor

Field = descriptor_pb2.FieldDescriptorProto
FIELDS = {  # as in caffe.proto: message, then name, number, type (a message by its name) and whether it repeats
    "BlobShape": [("dim", 1, Field.TYPE_INT64, True)],
    "BlobProto": [
        ("num", 1, Field.TYPE_INT32, False),
        ("channels", 2, Field.TYPE_INT32, False),
        ("height", 3, Field.TYPE_INT32, False),
        ("width", 4, Field.TYPE_INT32, False),
        ("data", 5, Field.TYPE_FLOAT, True),
        ("diff", 6, Field.TYPE_FLOAT, True),
        ("shape", 7, "BlobShape", False),
        ("double_data", 8, Field.TYPE_DOUBLE, True),
    ],
    "ConvolutionParameter": [
        ("num_output", 1, Field.TYPE_UINT32, False),
        ("pad", 3, Field.TYPE_UINT32, True),
        ("kernel_size", 4, Field.TYPE_UINT32, True),
        ("group", 5, Field.TYPE_UINT32, False),
        ("stride", 6, Field.TYPE_UINT32, True),
        ("pad_h", 9, Field.TYPE_UINT32, False),
        ("pad_w", 10, Field.TYPE_UINT32, False),
        ("stride_h", 13, Field.TYPE_UINT32, False),
        ("dilation", 18, Field.TYPE_UINT32, True),
    ],
    "PoolingParameter": [
        ("pool", 1, Field.TYPE_INT32, False),
        ("kernel_size", 2, Field.TYPE_UINT32, False),
        ("stride", 3, Field.TYPE_UINT32, False),
        ("pad", 4, Field.TYPE_UINT32, False),
        ("global_pooling", 12, Field.TYPE_BOOL, False),
    ],
    "ReLUParameter": [("negative_slope", 1, Field.TYPE_FLOAT, False)],
    "InnerProductParameter": [
        ("num_output", 1, Field.TYPE_UINT32, False),
        ("transpose", 6, Field.TYPE_BOOL, False),
    ],
    "TransformationParameter": [
        ("scale", 1, Field.TYPE_FLOAT, False),
        ("crop_size", 3, Field.TYPE_UINT32, False),
        ("mean_file", 4, Field.TYPE_STRING, False),
        ("mean_value", 5, Field.TYPE_FLOAT, True),
    ],
    "LayerParameter": [
        ("name", 1, Field.TYPE_STRING, False),
        ("type", 2, Field.TYPE_STRING, False),
        ("bottom", 3, Field.TYPE_STRING, True),
        ("top", 4, Field.TYPE_STRING, True),
        ("phase", 10, Field.TYPE_INT32, False),
        ("blobs", 7, "BlobProto", True),
        ("transform_param", 100, "TransformationParameter", False),
        ("convolution_param", 106, "ConvolutionParameter", False),
        ("inner_product_param", 117, "InnerProductParameter", False),
        ("pooling_param", 121, "PoolingParameter", False),
        ("relu_param", 123, "ReLUParameter", False),
    ],
    "V1LayerParameter": [
        ("bottom", 2, Field.TYPE_STRING, True),
        ("top", 3, Field.TYPE_STRING, True),
        ("name", 4, Field.TYPE_STRING, False),
        ("type", 5, Field.TYPE_INT32, False),
        ("blobs", 6, "BlobProto", True),
        ("blobs_lr", 7, Field.TYPE_FLOAT, True),
        ("convolution_param", 10, "ConvolutionParameter", False),
        ("inner_product_param", 17, "InnerProductParameter", False),
        ("pooling_param", 19, "PoolingParameter", False),
        ("relu_param", 30, "ReLUParameter", False),
        ("transform_param", 36, "TransformationParameter", False),
    ],
    "NetParameter": [
        ("name", 1, Field.TYPE_STRING, False),
        ("layers", 2, "V1LayerParameter", True),
        ("input", 3, Field.TYPE_STRING, True),
        ("layer", 100, "LayerParameter", True),
    ],
}
PACKED = {"dim", "data", "diff", "double_data"}
KINDS_2014 = {
    "Accuracy": 1, "Convolution": 4, "Data": 5, "Dropout": 6, "InnerProduct": 14, "LRN": 15, "Pooling": 17, "ReLU": 18,
    "Sigmoid": 19, "Softmax": 20, "SoftmaxWithLoss": 21, "Split": 22, "TanH": 23,
}  # fmt: skip


def _messages() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    for message, fields in FIELDS.items():
        described = file.message_type.add(name=message)
        for name, number, kind, repeats in fields:
            label = Field.LABEL_REPEATED if repeats else Field.LABEL_OPTIONAL
            field = described.field.add(name=name, number=number, label=label)
            field.type = Field.TYPE_MESSAGE if isinstance(kind, str) else kind
            if isinstance(kind, str):
                field.type_name = f".caffe.{kind}"
            if name in PACKED:
                field.options.packed = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = {name: pool.FindMessageTypeByName(f"caffe.{name}") for name in FIELDS}
    return {name: message_factory.GetMessageClass(descriptor) for name, descriptor in found.items()}


MESSAGES = _messages()


def blob(values: Tensor, of_2014: bool, double: bool = False) -> Any:
    """A BlobProto; before BlobShape its sizes are four numbers, those in front 1."""
    message = MESSAGES["BlobProto"]()
    array = values.detach().contiguous().numpy()
    if of_2014:
        sizes = (1, 1, 1, 1, *array.shape)[-4:]
        message.num, message.channels, message.height, message.width = sizes
    else:
        message.shape.dim.extend(array.shape)
    if double:
        message.double_data.extend(array.astype(np.float64).ravel().tolist())
    else:
        message.data.extend(array.ravel().tolist())
    return message


def net(layers: list[tuple[str, str, list[Tensor]]], of_2014: bool, double: bool = False) -> Any:
    """A NetParameter of layers (name, type, blobs)."""
    message = MESSAGES["NetParameter"](name="VGG_ILSVRC")
    for name, kind, tensors in layers:
        added = message.layers.add() if of_2014 else message.layer.add()
        added.name = name
        added.type = KINDS_2014[kind] if of_2014 else kind
        added.bottom.append("below")
        added.blobs.extend(blob(tensor, of_2014, double) for tensor in tensors)
    return message
