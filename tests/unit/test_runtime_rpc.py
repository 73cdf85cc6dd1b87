"""Requests and answers over gRPC, from messages to values and back; and the generated classes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelseal.engine import DTYPES, Array
from modelseal_runtime.proto import open_inference_pb2 as pb
from modelseal_runtime.protocol.failure import Failure, Kind
from modelseal_runtime.protocol.query import Identity, Query
from modelseal_runtime.protocol.rpc import encode, metadata, parse
from support.protocol_interfaces import one, two

IDENTITY = Identity(name="m", version="3")
REPOSITORY = Path(__file__).parents[2]
Tensor = pb.ModelInferRequest.InferInputTensor


def tensor(name: str, datatype: str, shape: list[int], **contents: Any) -> Any:
    """Return an input, with typed contents if there are any."""
    made = Tensor(name=name, datatype=datatype, shape=shape)
    if contents:
        made.contents.CopyFrom(pb.InferTensorContents(**contents))
    return made


def request(*inputs: Any, **fields: Any) -> Any:
    """Return a request."""
    return pb.ModelInferRequest(model_name="m", inputs=inputs, **fields)


FIELDS: dict[str, tuple[str, list[Any]]] = {
    "BOOL": ("bool_contents", [True, False]),
    "INT8": ("int_contents", [-128, 127]),
    "INT16": ("int_contents", [-32768, 32767]),
    "INT32": ("int_contents", [-(1 << 31), 7]),
    "INT64": ("int64_contents", [-(1 << 63), 7]),
    "UINT8": ("uint_contents", [0, 255]),
    "UINT16": ("uint_contents", [0, 65535]),
    "UINT32": ("uint_contents", [0, (1 << 32) - 1]),
    "UINT64": ("uint64_contents", [0, (1 << 64) - 1]),
    "FP32": ("fp32_contents", [0.5, -1.25]),
    "FP64": ("fp64_contents", [0.1, 1e300]),
    "BYTES": ("bytes_contents", [b"", b"\xff\0x"]),
}


@pytest.mark.parametrize("datatype", FIELDS)
def test_typed_contents_become_the_same_values(datatype: str) -> None:
    field, values = FIELDS[datatype]
    message = request(tensor("x", datatype, [2, 1], **{field: values}))
    query = parse(message, one(datatype, -1, 1))
    assert query.inputs["x"].tolist() == [[value] for value in values]
    assert query.inputs["x"].dtype == DTYPES[datatype]


@pytest.mark.parametrize("datatype", sorted(set(DTYPES) - {"BYTES"}))
def test_raw_contents_go_both_ways_bit_for_bit(datatype: str) -> None:
    raw = bytes(range(2)) * DTYPES[datatype].itemsize
    message = request(tensor("x", datatype, [2]), raw_input_contents=[raw], id="9")
    query = parse(message, one(datatype, -1))
    answer = encode(IDENTITY, query, {"y": query.inputs["x"]})
    assert answer.raw_output_contents == [raw]
    assert (answer.id, answer.model_name, answer.model_version) == ("9", "m", "3")
    assert [(out.name, out.datatype, list(out.shape)) for out in answer.outputs] == [
        ("y", datatype, [2])
    ]


def test_outputs_come_in_the_wanted_order_under_the_wanted_name() -> None:
    wanted = [
        pb.ModelInferRequest.InferRequestedOutputTensor(name=one) for one in ("number", "sum")
    ]
    query = parse(request(outputs=wanted), two())
    results: dict[str, Array] = {
        "sum": np.zeros((1, 2), np.float32),
        "count": np.ones((1, 2), np.int64),
    }
    answer = encode(IDENTITY, query, results)
    assert [output.name for output in answer.outputs] == ["number", "sum"]
    assert answer.raw_output_contents[0] == results["count"].tobytes()


def test_an_empty_tensor_has_empty_raw_contents() -> None:
    query = parse(
        request(tensor("x", "FP32", [0, 3]), raw_input_contents=[b""]), one("FP32", -1, 3)
    )
    assert query.inputs["x"].shape == (0, 3)


X = tensor("x", "FP32", [1], fp32_contents=[1.0])
EMPTY = tensor("x", "FP32", [1])


def output(name: str, **parameters: Any) -> Any:
    """Return a wanted output."""
    return pb.ModelInferRequest.InferRequestedOutputTensor(
        name=name,
        parameters={key: pb.InferParameter(int64_param=value) for key, value in parameters.items()},
    )


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (request(X, X), "the input 'x' is given twice"),
        (request(EMPTY), "has 0 elements, which do not make [1]"),
        (request(EMPTY, raw_input_contents=[b"", b""]), "2 raw contents for 1 inputs"),
        (request(EMPTY, raw_input_contents=[b"\0"]), "has 1 bytes of data, expected 4"),
        (request(X, raw_input_contents=[b"\0" * 4]), "both contents and raw contents"),
        (request(tensor("x", "FP16", [1], fp32_contents=[1])), "no form but raw contents"),
        (request(tensor("x", "FP32", [1], int_contents=[1])), "is FP32 and carries int_contents"),
        (request(tensor("x", "INT8", [1], int_contents=[128])), "beyond the range of INT8"),
        (request(tensor("x", "UINT8", [1], uint_contents=[256])), "beyond the range of UINT8"),
        (request(tensor("x", "FP9", [1])), "the unknown datatype 'FP9'"),
        (request(tensor("x", "FP32", [-1])), "a length that is not an integer >= 0"),
        (request(tensor("x", "FP32", [1 << 62])), "a length that is not an integer >= 0"),
        (request(X, id="x" * 1025), "the id is longer than 1024"),
        (request(X, outputs=[output("z")]), "the model has no output 'z'"),
        (request(X, outputs=[output("y"), output("y")]), "'y' is asked for twice"),
        (request(X, outputs=[output("y", classification=3)]), "classification is not supported"),
    ],
)
def test_a_message_that_does_not_follow_the_protocol_is_refused(
    message: Any, sentence: str
) -> None:
    with pytest.raises(Failure) as failure:
        parse(message, one("FP32", -1))
    assert sentence in failure.value.message
    assert failure.value.kind is Kind.INVALID


def test_metadata_says_what_the_model_takes() -> None:
    found = metadata(IDENTITY, two(), "OpenVINO")
    assert (found.name, list(found.versions), found.platform) == ("m", ["3"], "OpenVINO")
    assert [(one.name, one.datatype, list(one.shape)) for one in found.inputs] == [
        ("a", "FP32", [-1, 2]),
        ("b", "INT64", [-1, 2]),
    ]


def test_a_query_is_what_both_ways_make() -> None:
    assert isinstance(parse(request(X), one("FP32", -1)), Query)


def test_the_generated_classes_are_those_of_the_proto_file(tmp_path: Path) -> None:
    source = "runtime/src/modelseal_runtime/proto/open_inference.proto"
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", "runtime/src"]
    subprocess.run([*command, f"--python_out={tmp_path}", source], cwd=REPOSITORY, check=True)
    (made,) = tmp_path.rglob("*_pb2.py")
    kept = (REPOSITORY / source).with_name("open_inference_pb2.py")
    assert made.read_text() == kept.read_text(), "run `make proto`"


NUMBERS = {
    "ModelInferRequest": "model_name model_version id parameters inputs outputs raw_input_contents",
    "ModelInferResponse": "model_name model_version id parameters outputs raw_output_contents",
    "ModelMetadataResponse": "name versions platform inputs outputs",
    "ModelReadyRequest": "name version",
    "ServerMetadataResponse": "name version extensions",
    "InferParameter": "bool_param int64_param string_param double_param uint64_param",
    "InferTensorContents": "bool_contents int_contents int64_contents uint_contents "
    "uint64_contents fp32_contents fp64_contents bytes_contents",
}


@pytest.mark.parametrize("message", NUMBERS)
def test_field_numbers_are_those_of_the_published_protocol(message: str) -> None:
    fields = pb.DESCRIPTOR.message_types_by_name[message].fields
    assert {field.number: field.name for field in fields} == dict(
        enumerate(NUMBERS[message].split(), 1)
    )
