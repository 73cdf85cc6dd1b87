"""Tensors between the wire and numpy: raw little-endian bytes and JSON values.

Raw BYTES are elements of a 4-byte little-endian length and that many bytes. FP16 and BF16 have no
form in JSON. Every size is compared before anything of that size is allocated.
"""

import math
import struct
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from modelseal.engine import DTYPES, Array
from modelseal.errors import shown
from modelseal_runtime.protocol.failure import invalid

BYTES: Final = "BYTES"
RAW_ONLY: Final = frozenset({"FP16", "BF16"})
MAX_RANK: Final = 32
_MAX_ELEMENTS: Final = 1 << 40
_LENGTH: Final = struct.Struct("<I")
# The kinds of numpy arrays that a list of JSON values may become, for each kind of datatype.
_JSON_KINDS: Final = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}

if sys.byteorder != "little":  # pragma: no cover -- OpenVINO runs on none of those
    raise ImportError("the runtime needs a little-endian machine")


def dtype_of(name: str, datatype: str) -> np.dtype[Any]:
    """Return the numpy type of a datatype.

    Raises:
        Failure: the protocol has no such datatype.

    """
    try:
        return DTYPES[datatype]
    except (KeyError, TypeError):
        raise invalid(
            f"the input {shown(name)} has the unknown datatype {shown(datatype)}"
        ) from None


def checked_shape(name: str, shape: Any) -> tuple[int, ...]:
    """Return a shape from the wire as integers.

    Raises:
        Failure: it is not a list of lengths.

    """
    if not isinstance(shape, (list, tuple)) or len(shape) > MAX_RANK:
        raise invalid(f"the shape of {shown(name)} is not a list of at most {MAX_RANK} lengths")
    for length in shape:
        if type(length) is not int or not 0 <= length <= _MAX_ELEMENTS:
            raise invalid(f"the shape of {shown(name)} has a length that is not an integer >= 0")
    return tuple(shape)


def decode_raw(name: str, datatype: str, shape: Sequence[int], data: memoryview) -> Array:
    """View raw contents as an array, without a copy but for BYTES.

    Raises:
        Failure: the size is not what shape and datatype say, or an element is malformed.

    """
    dtype = dtype_of(name, datatype)
    count = math.prod(shape)
    if datatype == BYTES:
        return _decode_strings(name, shape, count, data)
    if count * dtype.itemsize != data.nbytes:
        raise invalid(
            f"the input {shown(name)} has {data.nbytes} bytes of data, expected "
            f"{count * dtype.itemsize} for {datatype} {list(shape)}"
        )
    if datatype == "BOOL":
        octets = np.frombuffer(data, np.uint8)
        if octets.size and octets.max() > 1:
            raise invalid(f"the input {shown(name)} has a BOOL that is neither 0 nor 1")
    return np.frombuffer(data, dtype).reshape(shape)


def decode_values(name: str, datatype: str, shape: Sequence[int], values: Any) -> Array:
    """Convert a list of JSON values, flat or nested as the shape says.

    Raises:
        Failure: count, nesting, type or range of the values do not fit.

    """
    dtype = dtype_of(name, datatype)
    if datatype in RAW_ONLY:
        raise invalid(f"the input {shown(name)} is {datatype}, which has no form but raw bytes")
    if not isinstance(values, list):
        raise invalid(f"the data of {shown(name)} is not a list")
    if datatype == BYTES:
        return _shaped(name, shape, _strings(name, values))
    array = _numbers(name, datatype, values)
    if array.size and array.dtype.kind not in _JSON_KINDS[dtype.kind]:
        raise invalid(f"the data of {shown(name)} has a value that is not {datatype}")
    require_range(name, datatype, array)
    with np.errstate(over="ignore"):  # beyond FP32 is infinity, as for every parser of floats
        return _shaped(name, shape, array.astype(dtype, copy=False))


def require_range(name: str, datatype: str, array: Array) -> None:
    """Refuse integers that the datatype cannot hold.

    Raises:
        Failure: there is one.

    """
    dtype = DTYPES[datatype]
    if dtype.kind not in "iu" or not array.size:
        return
    bounds = np.iinfo(dtype)
    if int(array.min()) < bounds.min or int(array.max()) > bounds.max:
        raise invalid(f"the data of {shown(name)} has a value beyond the range of {datatype}")


def encode_raw(datatype: str, array: Array) -> bytes:
    """Return an array's raw contents."""
    if datatype != BYTES:
        return array.tobytes()
    parts: list[bytes] = []
    for value in array.flat:
        parts += (_LENGTH.pack(len(value)), value)
    return b"".join(parts)


def encode_values(name: str, datatype: str, array: Array) -> Any:
    """Return what orjson (with numpy) writes as an array's flat list of values.

    Raises:
        Failure: the datatype has no form in JSON, or a string is not UTF-8.

    """
    if datatype in RAW_ONLY:
        raise invalid(
            f"the output {shown(name)} is {datatype}, which has no form in JSON; "
            "ask for it with binary_data"
        )
    if datatype != BYTES:
        return np.ascontiguousarray(array).reshape(-1)
    try:
        return [value.decode() for value in array.flat]
    except UnicodeDecodeError:
        raise invalid(
            f"the output {shown(name)} is not UTF-8 text; ask for it with binary_data"
        ) from None


def _numbers(name: str, datatype: str, values: list[Any]) -> Array:
    try:
        if datatype != "UINT64":
            return np.array(values)
        # numpy makes floats of small and large unsigned integers together.
        array: Array = np.array(values, np.object_)
        if all(type(value) is int and 0 <= value < 1 << 64 for value in array.flat):
            return array.astype(np.uint64)
    except (ValueError, OverflowError):
        raise invalid(f"the data of {shown(name)} is not an even list of values") from None
    raise invalid(f"the data of {shown(name)} has a value that is not {datatype}")


def _decode_strings(name: str, shape: Sequence[int], count: int, data: memoryview) -> Array:
    if count * _LENGTH.size > data.nbytes:
        raise invalid(f"the input {shown(name)} has fewer than its {count} elements")
    values = list(_split(name, data))
    if len(values) != count:
        raise invalid(f"the input {shown(name)} has {len(values)} elements, expected {count}")
    return _shaped(name, shape, values)


def _split(name: str, data: memoryview) -> Iterator[bytes]:
    position, end = 0, data.nbytes
    while position < end:
        start = position + _LENGTH.size
        if start > end:
            raise invalid(f"the input {shown(name)} ends within the length of an element")
        (length,) = _LENGTH.unpack_from(data, position)
        if length > end - start:
            raise invalid(f"the input {shown(name)} has an element beyond its end")
        yield bytes(data[start : start + length])
        position = start + length


def _strings(name: str, values: list[Any]) -> list[bytes]:
    found: list[bytes] = []
    pending = [iter(values)]
    while pending:
        for value in pending[-1]:
            if isinstance(value, str):
                found.append(value.encode("utf-8", "surrogatepass"))
            elif isinstance(value, list) and len(pending) < MAX_RANK:
                pending.append(iter(value))
                break
            else:
                raise invalid(f"the data of {shown(name)} has a value that is not a string")
        else:
            pending.pop()
    return found


def _shaped(name: str, shape: Sequence[int], values: Array | list[bytes]) -> Array:
    array = values if isinstance(values, np.ndarray) else _objects(values)
    # Nested lists cannot say what lies inside a length of zero.
    flat = (array.ndim == 1 or not array.size) and array.size == math.prod(shape)
    if not flat and array.shape != tuple(shape):
        raise invalid(
            f"the data of {shown(name)} has the shape {list(array.shape)}, expected {list(shape)} "
            "or the same values in one flat list"
        )
    return array.reshape(shape)


def _objects(values: list[bytes]) -> Array:
    array = np.empty(len(values), np.object_)
    array[:] = values
    return array
