"""Names of element types in the Open Inference Protocol, in numpy and in OpenVINO.

BF16 has no numpy type and travels as its raw bits in `uint16`; BYTES travels as an array of Python
`bytes` objects, so that zero bytes at the end of an element are not lost on our side.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelseal.engine._openvino import ov
from modelseal.errors import ModelLoadFailed

Array = NDArray[Any]

BYTES: Final = "BYTES"

DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BF16": np.dtype(np.uint16),
    BYTES: np.dtype(np.object_),
}
"""The numpy type that stands for each datatype of the protocol."""

_DATATYPES: Final = {
    "boolean": "BOOL",
    "u8": "UINT8",
    "u16": "UINT16",
    "u32": "UINT32",
    "u64": "UINT64",
    "i8": "INT8",
    "i16": "INT16",
    "i32": "INT32",
    "i64": "INT64",
    "f16": "FP16",
    "f32": "FP32",
    "f64": "FP64",
    "bf16": "BF16",
    "string": BYTES,
}


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One input or output of a model.

    `shape` has -1 for a dimension that varies, and is `None` where even the rank does.
    `aliases` are further names by which the tensor may be asked for.
    """

    name: str
    datatype: str
    shape: tuple[int, ...] | None
    aliases: frozenset[str] = frozenset()


def describe(port: Any) -> TensorSpec:
    """Return what a compiled model's port looks like on the wire.

    Raises:
        ModelLoadFailed: its element type has no name in the protocol.

    """
    names = sorted(port.names) or [port.node.friendly_name]
    kind = port.element_type.get_type_name()
    if kind not in _DATATYPES:
        raise ModelLoadFailed(
            f"failed to load the model: a tensor has the element type {kind}",
            hint="convert the model so that its inputs and outputs have ordinary types",
        )
    shape = port.partial_shape
    return TensorSpec(
        name=names[0],
        datatype=_DATATYPES[kind],
        shape=None if shape.rank.is_dynamic else tuple(_length(one) for one in shape),
        aliases=frozenset(names[1:]),
    )


def to_openvino(array: Array, spec: TensorSpec) -> Any:
    """Wrap an array as a tensor; without a copy where the array is writable, whole and aligned.

    The caller keeps the array alive until the request that uses the tensor has finished: OpenVINO
    holds no reference to it.
    """
    if spec.datatype == BYTES:
        return _string_tensor(array)
    flags = array.flags
    if spec.datatype != "BF16" and flags.c_contiguous and flags.writeable and flags.aligned:
        return ov.Tensor(array, shared_memory=True)
    kind = ov.Type.bf16 if spec.datatype == "BF16" else ov.Type(array.dtype)
    tensor = ov.Tensor(kind, ov.Shape(list(array.shape)))
    tensor.data.view(array.dtype)[...] = array
    return tensor


def from_openvino(array: Array, spec: TensorSpec) -> Array:
    """View an output of OpenVINO as what stands for its datatype.

    It is valid until the request runs again.
    """
    if spec.datatype == BYTES:
        return array.astype(np.object_)
    return array.view(np.uint16) if spec.datatype == "BF16" else array


def _string_tensor(array: Array) -> Any:
    tensor = ov.Tensor(ov.Type.string, ov.Shape(list(array.shape)))
    if array.size:
        tensor.bytes_data = array.astype(np.bytes_)
    return tensor


def _length(dimension: Any) -> int:
    return -1 if dimension.is_dynamic else int(dimension.get_length())
