"""Requests of too many parts are refused before they are built, and no others."""

import orjson
import pytest

from modelseal_runtime.proto import open_inference_pb2 as pb
from modelseal_runtime.protocol.crowding import (
    MAX_FIELDS,
    MAX_LISTS,
    MAX_OBJECTS,
    UNCOUNTED_BYTES,
    require_few_fields,
    require_few_parts,
)
from modelseal_runtime.protocol.failure import Failure

PADDING = " " * UNCOUNTED_BYTES
PADDED = pb.ModelInferRequest(id="x" * UNCOUNTED_BYTES).SerializeToString()


def checked(text: str) -> None:
    """Check a text, made long enough to be looked at."""
    require_few_parts(memoryview((PADDING + text).encode()))


@pytest.mark.parametrize(("part", "most"), [("{}", MAX_OBJECTS), ("[]", MAX_LISTS)])
def test_json_has_so_many_parts_and_no_more(part: str, most: int) -> None:
    checked(part * most)
    with pytest.raises(Failure, match="more than 4096 objects or 1048576 lists"):
        checked(part * (most + 1))


@pytest.mark.parametrize("inside", ["{", "[", '\\"{', "\\\\\\n[", "\n{"])
def test_brackets_in_strings_are_no_parts(inside: str) -> None:
    many = inside * (MAX_LISTS + 1)
    checked(f'{{"a": "{many}", "b": "{many}"}}')
    with pytest.raises(Failure, match="more than 4096 objects"):
        checked(f'{{"a": "{many}"}}' + "{}" * MAX_OBJECTS)


def test_a_string_that_does_not_end_is_left_to_the_parser() -> None:
    with pytest.raises(Failure, match="more than"):
        checked('"' + "{" * (MAX_OBJECTS + 1))


@pytest.mark.parametrize("part", [b"\x2a\x00", b"\x22\x00", b"\x0a\x01m"])
def test_a_message_of_more_parts_than_a_request_has_is_refused(part: bytes) -> None:
    require_few_fields(PADDED + part * (MAX_FIELDS - 1))
    with pytest.raises(Failure, match=f"more than {MAX_FIELDS} tensors and parameters"):
        require_few_fields(PADDED + part * MAX_FIELDS)


def test_parts_of_one_tensor_are_counted() -> None:
    inner = b"\x22\x00" * UNCOUNTED_BYTES
    with pytest.raises(Failure, match="tensors and parameters"):
        require_few_fields(b"\x2a" + _varint(len(inner)) + inner)


@pytest.mark.parametrize("raw", [True, False])
def test_a_large_tensor_is_not_counted_by_its_elements(raw: bool) -> None:
    message = pb.ModelInferRequest(model_name="m", id="1")
    tensor = message.inputs.add(name="x", datatype="FP32", shape=[1 << 20])
    if raw:
        message.raw_input_contents.append(bytes(4 << 20))
    else:
        tensor.contents.fp32_contents.extend([0.5] * (1 << 20))
    require_few_fields(message.SerializeToString())


@pytest.mark.parametrize(
    "end", [b"\x2a", b"\x2a\xff\xff\xff\xff\x7f", b"\xff" * 20, b"\x09", b"\x0d"]
)
def test_what_is_no_message_is_left_to_the_parser(end: bytes) -> None:
    require_few_fields(PADDED + end)


def _varint(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def test_a_nested_picture_is_not_refused() -> None:
    picture = [[[[0.123456] * 224] * 224] * 3]
    text = orjson.dumps({"inputs": [{"data": picture}]})
    assert len(text) > UNCOUNTED_BYTES
    require_few_parts(memoryview(text))
