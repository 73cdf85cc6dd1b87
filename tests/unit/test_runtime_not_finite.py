"""Numbers that are not finite: JSON has no form for them, in neither direction; raw bytes have."""

import json
from typing import Any

import numpy as np
import orjson
import pytest

from modelseal_runtime.protocol.failure import Failure
from modelseal_runtime.protocol.query import Identity
from modelseal_runtime.protocol.rest import encode, parse
from support.protocol_interfaces import one

NOT_FINITE = [float("nan"), float("inf"), float("-inf")]
KINDS = ("FP32", "FP64")


def body(data: str, datatype: str) -> memoryview:
    """Return a request whose data is this text."""
    tensor = f'{{"name": "x", "datatype": "{datatype}", "shape": [2], "data": {data}}}'
    return memoryview(f'{{"inputs": [{tensor}]}}'.encode())


@pytest.mark.parametrize("datatype", KINDS)
@pytest.mark.parametrize("number", NOT_FINITE)
def test_what_pythons_json_writes_for_them_is_refused_with_the_way_out(
    number: float, datatype: str
) -> None:
    data = json.dumps([1.5, number])
    assert any(word in data for word in ("NaN", "Infinity"))
    with pytest.raises(Failure, match=r"no NaN and no Infinity \(line 1, .*binary data"):
        parse(body(data, datatype), None, one(datatype, -1))


@pytest.mark.parametrize(
    "data", ["[1.5, null]", '[1.5, "NaN"]', '[1.5, "Infinity"]', "[1.5, 1e999]"]
)
@pytest.mark.parametrize("datatype", KINDS)
def test_nothing_else_stands_for_them(data: str, datatype: str) -> None:
    with pytest.raises(Failure, match=r"a value that is not FP|is not JSON"):
        parse(body(data, datatype), None, one(datatype, -1))


def test_a_number_beyond_fp32_becomes_infinity_as_in_every_parser_of_floats() -> None:
    query = parse(body("[1e39, -1e39]", "FP32"), None, one("FP32", -1))
    assert query.inputs["x"].tolist() == [float("inf"), float("-inf")]


@pytest.mark.parametrize("datatype", KINDS)
def test_they_come_and_go_as_raw_bytes_bit_for_bit(datatype: str) -> None:
    array = np.array(NOT_FINITE, np.float32 if datatype == "FP32" else np.float64)
    parameters = {"binary_data_size": array.nbytes}
    tensor = {"name": "x", "datatype": datatype, "shape": [3], "parameters": parameters}
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    query = parse(memoryview(text + array.tobytes()), len(text), one(datatype, -1))
    assert query.inputs["x"].tobytes() == array.tobytes()
    answer = encode(Identity(name="m", version="1"), query, {"y": query.inputs["x"]})
    assert answer.body[answer.header_length :] == array.tobytes()


@pytest.mark.parametrize("datatype", KINDS)
def test_an_answer_in_json_has_null_for_them_and_is_json(datatype: str) -> None:
    query = parse(body("[1.5, 2.5]", datatype), None, one(datatype, -1))
    array = np.array([*NOT_FINITE, 1.5], np.float32 if datatype == "FP32" else np.float64)
    answer = encode(Identity(name="m", version="1"), query, {"y": array})
    said: Any = orjson.loads(answer.body)
    assert said["outputs"][0]["data"] == [None, None, None, 1.5]
