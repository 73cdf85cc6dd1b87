"""Which files an ONNX model refers to, found without parsing the model as a whole.

A tensor of an ONNX model may lie in another file, named by a path that the model's author chose.
OpenVINO resolves that path against the model's folder, and against the current directory for a
model that comes from memory, so somebody has to look first. This walks the protobuf wire format
(onnx.proto3) along the fields that lead to tensors and skips everything else by its length.
Where a field may occur once and occurs twice, both are looked at.
"""

import contextlib
from collections.abc import Callable, Iterator
from mmap import mmap
from typing import Final

from modelseal.errors import NotAModel

Buffer = bytes | memoryview | mmap
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_MAX_DEPTH: Final = 32

# Field numbers of onnx.proto3 that lead from one message to another.
_PATHS: Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA: Final = 13
_DATA_LOCATION: Final = 14
_KEY, _VALUE = 1, 2


def external_locations(model: Buffer) -> set[str]:
    """Return the paths of the files that hold tensors of this ONNX model.

    A tensor that claims external data without naming a file counts as the empty path.

    Raises:
        NotAModel: the bytes are not a well-formed ONNX model.

    """
    found: set[str] = set()
    with contextlib.suppress(ValueError, IndexError), memoryview(model) as view:
        _walk(view, "model", found.add, 0)
        return found
    # Raised out here so that no frame of the walk keeps a view of the caller's mapping.
    raise NotAModel(
        "failed to read the ONNX model: its protobuf encoding is damaged",
        hint="export the model again",
    )


def _walk(message: memoryview, kind: str, found: Callable[[str], None], depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deep")
    if kind == "tensor":
        _look(message, found)
        return
    paths = _PATHS[kind]
    for number, value in _fields(message):
        if number in paths and isinstance(value, memoryview):
            _walk(value, paths[number], found, depth + 1)


def _look(tensor: memoryview, found: Callable[[str], None]) -> None:
    locations, external = [], False
    for number, value in _fields(tensor):
        if number == _DATA_LOCATION and value:
            external = True
        elif number == _EXTERNAL_DATA and isinstance(value, memoryview):
            external = True
            entry = {key: bytes(one) for key, one in _fields(value) if isinstance(one, memoryview)}
            if entry.get(_KEY) == b"location":
                locations.append(entry.get(_VALUE, b"").decode())
    if external:
        for location in locations or [""]:
            found(location)


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield each field's number with its bytes, or with its value where that is a varint."""
    position, end = 0, len(message)
    while position < end:
        tag, position = _varint(message, position)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        if wire == _LENGTH:
            length, position = _varint(message, position)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError("unknown wire type")
        if length > end - position:
            raise ValueError("a length beyond the end")
        yield number, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a number too long")
