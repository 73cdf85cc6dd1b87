"""Requests and answers over REST, from bytes to values and back."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelseal.engine import Array
from modelseal_runtime.protocol.failure import Failure, Kind
from modelseal_runtime.protocol.query import Identity, Interface, Query
from modelseal_runtime.protocol.rest import encode, parse
from support.protocol_interfaces import one, outcome, spec, two

IDENTITY = Identity(name="m", version="3")
A = {"name": "a", "datatype": "FP32", "shape": [1, 2], "data": [1.5, 2]}
B = {"name": "b", "datatype": "INT64", "shape": [1, 2], "data": [[3, 4]]}


def parsed(request: Any, raw: bytes = b"", interface: Interface | None = None) -> Query:
    """Parse a request, with raw contents behind it."""
    text = json.dumps(request).encode()
    length = len(text) if raw else None
    return parse(memoryview(text + raw), length, interface or two())


def binary(name: str, size: Any, **fields: Any) -> dict[str, Any]:
    """Return an FP32 input of shape [1, 2] whose data is binary."""
    tensor = {"name": name, "datatype": "FP32", "shape": [1, 2]}
    return {**tensor, "parameters": {"binary_data_size": size}, **fields}


def test_inputs_come_by_name_flat_or_nested_and_all_outputs_go_back() -> None:
    query = parsed({"id": "7", "inputs": [B, A]})
    assert query.id == "7"
    assert query.inputs["a"].tolist() == [[1.5, 2.0]]
    assert query.inputs["b"].dtype == np.int64
    assert [(wanted.name, wanted.binary) for wanted in query.outputs] == [
        ("sum", False),
        ("count", False),
    ]


def test_binary_inputs_are_taken_from_behind_the_json_in_their_order() -> None:
    first, second = np.array([[1, 2]], np.float32), np.array([[3, 4]], np.float32)
    request = {"inputs": [binary("p", 8), A, binary("q", 8)]}
    query = parsed(request, first.tobytes() + second.tobytes())
    np.testing.assert_array_equal(query.inputs["p"], first)
    np.testing.assert_array_equal(query.inputs["q"], second)


def test_outputs_come_in_the_wanted_order_under_the_wanted_name_in_the_wanted_form() -> None:
    query = parsed(
        {
            "inputs": [A],
            "parameters": {"binary_data_output": True},
            "outputs": [{"name": "number"}, {"name": "sum", "parameters": {"binary_data": False}}],
        }
    )
    results: dict[str, Array] = {
        "sum": np.array([[1.5]], np.float32),
        "count": np.array([[2]], np.int64),
    }
    answer = encode(IDENTITY, query, results)
    assert answer.header_length is not None
    header = json.loads(answer.body[: answer.header_length])
    assert header == {
        "model_name": "m",
        "model_version": "3",
        "outputs": [
            {
                "name": "number",
                "datatype": "INT64",
                "shape": [1, 1],
                "parameters": {"binary_data_size": 8},
            },
            {"name": "sum", "datatype": "FP32", "shape": [1, 1], "data": [1.5]},
        ],
    }
    assert answer.body[answer.header_length :] == results["count"].tobytes()


def test_the_id_is_echoed_and_json_alone_needs_no_header() -> None:
    query = parsed({"id": "é", "inputs": [A], "outputs": [{"name": "count"}]})
    answer = encode(IDENTITY, query, {"count": np.array([[2]], np.int64)})
    assert answer.header_length is None
    assert json.loads(answer.body)["id"] == "é"


def test_a_raw_request_is_the_only_inputs_contents() -> None:
    array = np.arange(6, dtype=np.float32)
    query = parse(memoryview(array.tobytes()), 0, one("FP32", -1, 3))
    assert query.inputs["x"].shape == (2, 3)
    assert all(wanted.binary for wanted in query.outputs)
    query = parse(memoryview(array.tobytes()), 0, one("FP32", -1, -1, 2))
    assert query.inputs["x"].shape == (1, 3, 2)
    query = parse(memoryview(b"a word"), 0, one("BYTES", -1))
    assert query.inputs["x"].tolist() == [b"a word"]


@pytest.mark.parametrize(
    ("interface", "body", "sentence"),
    [
        (two(), b"", "needs a model of one input, this one has 2"),
        (one("FP32", -1, 3), b"\0" * 13, "has 13 bytes of data, expected 12"),
        (one("FP32", 2, 3), b"\0" * 12, "has 12 bytes of data, expected 24"),
        (one("FP32", 2, -1, -1), b"\0" * 12, "a shape that a raw binary request cannot say"),
        (Interface([spec("x")], []), b"", "has 0 bytes of data, expected 4"),
    ],
)
def test_a_raw_request_that_does_not_fit_is_refused(
    interface: Interface, body: bytes, sentence: str
) -> None:
    with pytest.raises(Failure) as failure:
        parse(memoryview(body), 0, interface)
    assert sentence in failure.value.message


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ([], "not a JSON object"),
        ({}, "has no list of inputs"),
        ({"inputs": {}}, "has no list of inputs"),
        ({"inputs": [1]}, "an input of the request has no name"),
        ({"inputs": [{"name": 1}]}, "an input of the request has no name"),
        ({"inputs": [A | {"datatype": None}]}, "the input 'a' has no datatype"),
        ({"inputs": [A | {"datatype": "INT4"}]}, "unknown datatype 'INT4'"),
        ({"inputs": [A | {"shape": [1, -2]}]}, "a length that is not an integer >= 0"),
        ({"inputs": [{"name": "a", "datatype": "FP32", "shape": [1]}]}, "neither data nor"),
        ({"inputs": [A, A]}, "the input 'a' is given twice"),
        ({"inputs": [A], "id": 7}, "the id is not a text"),
        ({"inputs": [A], "id": "x" * 1025}, "the id is not a text"),
        ({"inputs": [A], "parameters": []}, "the parameters of the request are not an object"),
        (
            {"inputs": [A], "parameters": {"binary_data_output": "yes"}},
            "binary_data_output is neither true nor false",
        ),
        ({"inputs": [A], "outputs": {}}, "the outputs of the request are not a list"),
        ({"inputs": [A], "outputs": [{}]}, "an output of the request has no name"),
        ({"inputs": [A], "outputs": [{"name": "z"}]}, "has no output 'z'; its outputs are 'sum'"),
        ({"inputs": [A], "outputs": [{"name": "sum"}] * 2}, "'sum' is asked for twice"),
        (
            {"inputs": [A], "outputs": [{"name": "sum", "parameters": {"classification": 3}}]},
            "the parameter classification of the output 'sum' is not supported",
        ),
        (
            {"inputs": [A | {"parameters": {"shared_memory_region": "r"}}]},
            "the parameter shared_memory_region of the input 'a' is not supported",
        ),
        ({"inputs": [binary("a", 8, data=[1, 2])]}, "has both data and binary data"),
        ({"inputs": [binary("a", "8")]}, "binary_data_size of 'a' is not an integer"),
        ({"inputs": [binary("a", True)]}, "binary_data_size of 'a' is not an integer"),
        ({"inputs": [binary("a", -8)]}, "binary_data_size of 'a' is not an integer"),
        ({"inputs": [binary("a", 16)]}, "should have 16 bytes of binary data, 8 are left"),
        ({"inputs": [binary("a", 1 << 60)]}, "8 are left"),
        ({"inputs": [binary("a", 4)]}, "has 4 bytes of data, expected 8"),
        ({"inputs": [A]}, "the body has 8 bytes that belong to no input"),
    ],
)
def test_a_request_that_does_not_follow_the_protocol_is_refused(
    request_: Any, sentence: str
) -> None:
    behind = b"\0" * 8 if "binary_data_size" in str(request_) or "belong" in sentence else b""
    with pytest.raises(Failure) as failure:
        parsed(request_, behind)
    assert sentence in failure.value.message
    assert failure.value.kind is Kind.INVALID


@pytest.mark.parametrize(
    ("body", "length", "sentence"),
    [
        (b"", None, "not JSON (line 1"),
        (b"{", None, "not JSON (line 1"),
        (b'{"inputs": [NaN]}', None, "not JSON"),
        (b"[" * 100_000, None, "not JSON"),
        (b"\xff", None, "not JSON"),
        (b"{}", 3, "Inference-Header-Content-Length says 3, and the body has 2 bytes"),
    ],
)
def test_a_body_that_is_not_what_it_says_is_refused(
    body: bytes, length: int | None, sentence: str
) -> None:
    with pytest.raises(Failure) as failure:
        parse(memoryview(body), length, two())
    assert sentence in failure.value.message


KEYS = st.sampled_from(
    ["name", "datatype", "shape", "data", "parameters", "inputs", "outputs", "id", "a", "x"]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-3, 1 << 63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["a", "b", "FP32", "BYTES", "INT8", "sum", "binary_data_size", ""])
)
TREES = st.recursive(
    LEAVES, lambda t: st.lists(t, max_size=3) | st.dictionaries(KEYS, t, max_size=5), max_leaves=25
)


@given(st.dictionaries(KEYS, TREES, max_size=5), st.binary(max_size=16), st.integers(-1, 200))
def test_no_request_fails_otherwise_than_by_refusal(
    request_: dict[str, Any], raw: bytes, length: int
) -> None:
    body = memoryview(json.dumps(request_).encode() + raw)
    found = outcome(lambda: parse(body, None if length < 0 else length, two()))
    assert isinstance(found, Query) or found.kind is Kind.INVALID
    assert isinstance(found, Query) or found.message.isascii()
