"""Tensors to the wire and back, for every datatype, and what is refused on the way."""

import struct
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from modelseal.engine import DTYPES, Array
from modelseal_runtime.protocol.failure import Failure, Kind
from modelseal_runtime.protocol.tensors import (
    checked_shape,
    decode_raw,
    decode_values,
    encode_raw,
    encode_values,
)
from support.protocol_interfaces import outcome

NUMBERS = sorted(set(DTYPES) - {"BYTES"})
IN_JSON = sorted(set(NUMBERS) - {"FP16", "BF16"})
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def same(left: Array, right: Array) -> bool:
    """Whether two arrays are of one type and shape, bit for bit."""
    return (left.dtype, left.shape, left.tobytes()) == (right.dtype, right.shape, right.tobytes())


@given(st.data(), st.sampled_from(NUMBERS), SHAPES)
def test_raw_contents_round_trip_bit_for_bit(
    data: st.DataObject, datatype: str, shape: tuple[int, ...]
) -> None:
    array = data.draw(arrays.arrays(DTYPES[datatype], shape))
    raw = memoryview(encode_raw(datatype, array))
    assert same(decode_raw("x", datatype, shape, raw), array)


@given(st.data(), st.sampled_from(IN_JSON), SHAPES, st.booleans())
def test_values_round_trip_through_json_flat_and_nested(
    data: st.DataObject, datatype: str, shape: tuple[int, ...], nested: bool
) -> None:
    finite: Any = {"allow_nan": False, "allow_infinity": False} if "FP" in datatype else {}
    array = data.draw(
        arrays.arrays(
            DTYPES[datatype], shape, elements=arrays.from_dtype(DTYPES[datatype], **finite)
        )
    )
    flat = encode_values("x", datatype, array)
    values = array if nested and array.ndim else flat
    parsed = orjson.loads(orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY))
    decoded = decode_values("x", datatype, shape, parsed)
    assert decoded.dtype == array.dtype
    np.testing.assert_array_equal(decoded, array)


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_strings_round_trip_raw(words: list[bytes]) -> None:
    array = np.empty(len(words), np.object_)
    array[:] = words
    raw = encode_raw("BYTES", array)
    assert raw == b"".join(struct.pack("<I", len(word)) + word for word in words)
    assert decode_raw("x", "BYTES", [len(words)], memoryview(raw)).tolist() == words


@given(st.lists(st.text(max_size=20), max_size=8))
def test_strings_round_trip_through_json(words: list[str]) -> None:
    array = decode_values("x", "BYTES", [len(words)], words)
    assert array.tolist() == [word.encode("utf-8", "surrogatepass") for word in words]


@given(st.binary(max_size=64), st.lists(st.integers(0, 5), max_size=3))
def test_no_bytes_make_raw_strings_fail_otherwise_than_by_refusal(
    data: bytes, shape: list[int]
) -> None:
    found = outcome(lambda: decode_raw("x", "BYTES", shape, memoryview(data)))
    if isinstance(found, Failure):
        assert found.kind is Kind.INVALID
    else:
        assert encode_raw("BYTES", found) == data


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=12,
)


@given(JSON, st.sampled_from(sorted(DTYPES)), st.lists(st.integers(0, 4), max_size=3))
def test_no_json_makes_decoding_fail_otherwise_than_by_refusal(
    values: Any, datatype: str, shape: list[int]
) -> None:
    found = outcome(lambda: decode_values("x", datatype, shape, values))
    if isinstance(found, Failure):
        assert found.kind is Kind.INVALID
        assert found.message
    else:
        assert found.shape == tuple(shape)
        assert found.dtype == DTYPES[datatype]


@pytest.mark.parametrize(
    ("datatype", "shape", "values", "sentence"),
    [
        ("FP32", [2], [1.0], "has the shape [1], expected [2]"),
        ("FP32", [2, 1], [[1.0, 2.0]], "has the shape [1, 2], expected [2, 1]"),
        ("FP32", [2], [1.0, "a"], "a value that is not FP32"),
        ("FP32", [2], [1.0, None], "a value that is not FP32"),
        ("FP32", [2], [True, False], "a value that is not FP32"),
        ("FP32", [3], [[1.0], [2.0, 3.0]], "not an even list"),
        ("FP32", [1], {"0": 1.0}, "is not a list"),
        ("INT32", [1], [1.5], "a value that is not INT32"),
        ("INT8", [1], [128], "beyond the range of INT8"),
        ("UINT8", [1], [-1], "beyond the range of UINT8"),
        ("UINT64", [1], [1 << 64], "a value that is not UINT64"),
        ("BOOL", [1], [1], "a value that is not BOOL"),
        ("BYTES", [1], [1], "a value that is not a string"),
        ("BYTES", [1], [None], "a value that is not a string"),
        ("FP16", [1], [1.0], "no form but raw bytes"),
        ("BF16", [1], [1.0], "no form but raw bytes"),
        ("FP8", [1], [1.0], "the unknown datatype 'FP8'"),
    ],
)
def test_values_that_do_not_fit_are_refused(
    datatype: str, shape: list[int], values: Any, sentence: str
) -> None:
    with pytest.raises(Failure) as failure:
        decode_values("x", datatype, shape, values)
    assert sentence in failure.value.message
    assert failure.value.kind is Kind.INVALID


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "sentence"),
    [
        ("FP32", [2], b"\0" * 7, "has 7 bytes of data, expected 8"),
        ("FP32", [2], b"\0" * 9, "has 9 bytes of data, expected 8"),
        ("FP32", [1 << 40, 1 << 40], b"", "has 0 bytes of data"),
        ("BOOL", [2], b"\0\2", "neither 0 nor 1"),
        ("BYTES", [1], b"", "fewer than its 1 elements"),
        ("BYTES", [1 << 40], b"\0" * 8, "fewer than its"),
        ("BYTES", [1], b"\0\0\0\0\0", "ends within the length"),
        ("BYTES", [1], b"\5\0\0\0abcd", "an element beyond its end"),
        ("BYTES", [1], b"\0\0\0\0" * 2, "has 2 elements, expected 1"),
        ("FP8", [1], b"\0", "the unknown datatype 'FP8'"),
    ],
)
def test_raw_contents_that_do_not_fit_are_refused(
    datatype: str, shape: list[int], data: bytes, sentence: str
) -> None:
    with pytest.raises(Failure) as failure:
        decode_raw("x", datatype, shape, memoryview(data))
    assert sentence in failure.value.message


@pytest.mark.parametrize(
    "shape", [None, 3, "12", {"0": 1}, [-1], [1.0], [True], ["1"], [1 << 41], [1] * 33, [None]]
)
def test_what_is_no_shape_is_refused(shape: Any) -> None:
    with pytest.raises(Failure, match="the shape of 'x'"):
        checked_shape("x", shape)


def test_a_half_float_has_no_form_in_json() -> None:
    with pytest.raises(Failure, match="ask for it with binary_data"):
        encode_values("y", "FP16", np.zeros(1, np.float16))


def test_a_string_that_is_no_text_has_no_form_in_json() -> None:
    with pytest.raises(Failure, match="not UTF-8"):
        encode_values("y", "BYTES", np.array([b"\xff"], np.object_))
