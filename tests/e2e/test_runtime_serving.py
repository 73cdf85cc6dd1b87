"""The runtime as a process: clients over REST and gRPC get what OpenVINO itself answers."""

import gzip
import json
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from modelseal.contract import Env
from modelseal.engine import convert_onnx
from modelseal.handover import Loaded
from modelseal_runtime.proto import open_inference_pb2 as pb
from support import models
from support.models_slow import rows, slow
from support.protocol_runtime import Agent, Answer, Runtime, eventually, joined, stop

pytestmark = pytest.mark.e2e
LENGTH = "Inference-Header-Content-Length"
BODY_LIMIT = 1 << 20


@pytest.fixture(scope="module")
def magika(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """Serve the real model of `magika`, converted."""
    with convert_onnx(models.magika_onnx()) as converted, converted.open_weights() as weights:
        contents = {"model.xml": converted.xml, "model.bin": weights.read()}
    log = tmp_path_factory.mktemp("magika") / "log"
    limits = {Env.MAX_BODY_BYTES: str(BODY_LIMIT), Env.PERFORMANCE_HINT: "LATENCY"}
    with joined(log, limits) as (runtime, agent):
        loaded = agent.deliver(contents, model="vision/filetype")
        assert isinstance(loaded, Loaded), runtime.describe()
        assert loaded.device == "CPU"
        runtime.wait_ready()
        yield runtime


@pytest.fixture(scope="module")
def expected() -> models.Array:
    """Return what OpenVINO itself answers to two rows."""
    compiled = models.core().compile_model(
        models.magika_onnx(), "CPU", {"PERFORMANCE_HINT": "LATENCY"}
    )
    result: models.Array = compiled(models.magika_input())[0]
    return result


def call(runtime: Runtime, method: str, request: Message, kind: type[Message]) -> Any:
    """Call a method over gRPC."""
    with grpc.insecure_channel(f"127.0.0.1:{runtime.ports['grpc']}") as channel:
        method = f"/inference.GRPCInferenceService/{method}"
        ask = channel.unary_unary(
            method, lambda message: message.SerializeToString(), kind.FromString
        )
        return ask(request, timeout=60)


def status_of(runtime: Runtime, method: str, request: Message) -> tuple[grpc.StatusCode, str]:
    """Call a method over gRPC that fails; return its status."""
    with pytest.raises(grpc.RpcError) as failure:
        call(runtime, method, request, pb.ModelInferResponse)
    error: Any = failure.value
    return error.code(), error.details()


def infer_message(array: models.Array, **fields: Any) -> pb.ModelInferRequest:
    """Return a request for `magika` with raw contents."""
    message = pb.ModelInferRequest(model_name="filetype", **fields)
    message.inputs.add(name="bytes", datatype="INT32", shape=array.shape)
    message.raw_input_contents.append(array.tobytes())
    return message


def binary_request(array: models.Array, **fields: Any) -> tuple[bytes, dict[str, str]]:
    """Return a body with binary data, and its headers."""
    size = {"binary_data_size": array.nbytes}
    tensor = {"name": "bytes", "datatype": "INT32", "shape": array.shape, "parameters": size}
    text = json.dumps({"inputs": [tensor], **fields}).encode()
    return text + array.tobytes(), {LENGTH: str(len(text))}


def binary_answer(answer: Answer) -> models.Array:
    """Return the one binary output of an answer."""
    length = int(answer.headers[LENGTH.lower()])
    (output,) = json.loads(answer.body[:length])["outputs"]
    assert output["parameters"]["binary_data_size"] == len(answer.body) - length
    return np.frombuffer(answer.body[length:], np.float32).reshape(output["shape"])


URL = "/v2/models/filetype/infer"


def test_json_answers_bit_for_bit_as_openvino_itself(
    magika: Runtime, expected: models.Array
) -> None:
    array = models.magika_input()
    tensor = {"name": "bytes", "datatype": "INT32", "shape": array.shape, "data": array.tolist()}
    answer = magika.infer({"id": "a1", "inputs": [tensor]}, "filetype").json
    (output,) = answer["outputs"]
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("filetype", "3", "a1")
    assert (output["name"], output["datatype"], output["shape"]) == (
        "target_label",
        "FP32",
        [2, 214],
    )
    found = np.array(output["data"], np.float32).reshape(output["shape"])
    np.testing.assert_array_equal(found, expected)


def test_binary_data_answers_bit_for_bit_as_openvino_itself(
    magika: Runtime, expected: models.Array
) -> None:
    wish = {"parameters": {"binary_data_output": True}}
    body, headers = binary_request(models.magika_input(), **wish)
    np.testing.assert_array_equal(binary_answer(magika.ask(URL, body, headers=headers)), expected)


def test_a_raw_request_answers_bit_for_bit_as_openvino_itself(
    magika: Runtime, expected: models.Array
) -> None:
    answer = magika.ask(URL, models.magika_input().tobytes(), headers={LENGTH: "0"})
    np.testing.assert_array_equal(binary_answer(answer), expected)


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_a_compressed_body_is_taken(
    magika: Runtime, expected: models.Array, encoding: str, pack: Any
) -> None:
    wish = {"parameters": {"binary_data_output": True}}
    body, headers = binary_request(models.magika_input(), **wish)
    answer = magika.ask(URL, pack(body), headers=headers | {"Content-Encoding": encoding})
    np.testing.assert_array_equal(binary_answer(answer), expected)


def test_grpc_answers_bit_for_bit_as_openvino_itself(
    magika: Runtime, expected: models.Array
) -> None:
    request = infer_message(models.magika_input(), id="b2", model_version="3")
    answer = call(magika, "ModelInfer", request, pb.ModelInferResponse)
    assert (answer.id, answer.model_name, answer.model_version) == ("b2", "filetype", "3")
    found = np.frombuffer(answer.raw_output_contents[0], np.float32)
    np.testing.assert_array_equal(found.reshape(answer.outputs[0].shape), expected)


def test_grpc_takes_typed_contents(magika: Runtime, expected: models.Array) -> None:
    array = models.magika_input()
    message = pb.ModelInferRequest(model_name="filetype")
    tensor = message.inputs.add(name="bytes", datatype="INT32", shape=array.shape)
    tensor.contents.int_contents.extend(array.ravel().tolist())
    answer = call(magika, "ModelInfer", message, pb.ModelInferResponse)
    found = np.frombuffer(answer.raw_output_contents[0], np.float32)
    np.testing.assert_array_equal(found.reshape(2, 214), expected)


INPUT: dict[str, Any] = {"name": "bytes", "datatype": "INT32", "shape": [-1, 2048]}
OUTPUT: dict[str, Any] = {"name": "target_label", "datatype": "FP32", "shape": [-1, 214]}


@pytest.mark.parametrize("path", ["/v2/models/filetype", "/v2/models/filetype/versions/3"])
def test_metadata_over_rest(magika: Runtime, path: str) -> None:
    found = magika.ask(path).json
    assert found["parameters"].pop("workers") >= 1
    hint = found["parameters"].pop("performance_hint")
    assert hint in ("LATENCY", "THROUGHPUT")
    assert found["parameters"].pop("performance_hint_why")
    assert "ENABLE_CPU_PINNING=False" in found["parameters"].pop("device_properties")
    assert found == {
        "name": "filetype",
        "versions": ["3"],
        "platform": "OpenVINO",
        "inputs": [INPUT],
        "outputs": [OUTPUT],
        "parameters": {
            "device": "CPU",
            "devices_refused": "",
            "digest": "sha256:" + "ab" * 32,
        },
    }


def test_metadata_over_grpc(magika: Runtime) -> None:
    found = call(
        magika, "ModelMetadata", pb.ModelMetadataRequest(name="filetype"), pb.ModelMetadataResponse
    )
    assert (found.name, list(found.versions), found.platform) == ("filetype", ["3"], "OpenVINO")
    assert found.inputs[0] == pb.ModelMetadataResponse.TensorMetadata(**INPUT)
    assert found.outputs[0] == pb.ModelMetadataResponse.TensorMetadata(**OUTPUT)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/filetype/ready", {"name": "filetype", "ready": True}),
        ("/v2/models/filetype/versions/3/ready", {"name": "filetype", "ready": True}),
    ],
)
def test_health_over_rest(magika: Runtime, path: str, found: dict[str, Any]) -> None:
    answer = magika.ask(path)
    assert (answer.status, answer.json) == (200, found)


def test_health_and_server_metadata_over_grpc(magika: Runtime) -> None:
    live = call(magika, "ServerLive", pb.ServerLiveRequest(), pb.ServerLiveResponse)
    ready = call(magika, "ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse)
    model = call(magika, "ModelReady", pb.ModelReadyRequest(name="filetype"), pb.ModelReadyResponse)
    server = call(magika, "ServerMetadata", pb.ServerMetadataRequest(), pb.ServerMetadataResponse)
    assert (live.live, ready.ready, model.ready) == (True, True, True)
    assert json.loads(magika.ask("/v2").body) == {
        "name": server.name,
        "version": server.version,
        "extensions": list(server.extensions),
    }
    assert "binary_tensor_data" in server.extensions


@pytest.mark.parametrize("service", ["", "inference.GRPCInferenceService"])
def test_the_standard_health_service_says_serving(magika: Runtime, service: str) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{magika.ports['grpc']}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=60)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_names_the_services(magika: Runtime) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{magika.ports['grpc']}") as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = stub.ServerReflectionInfo(iter([ask]), timeout=60)
    names = {service.name for service in answer.list_services_response.service}
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= names


@pytest.mark.parametrize("body", [b"", b"{}", b'{"ready": true}'])
def test_the_repository_index_lists_the_one_model(magika: Runtime, body: bytes) -> None:
    assert magika.ask("/v2/repository/index", body).json == [
        {"name": "filetype", "version": "3", "state": "READY", "reason": ""}
    ]


@pytest.mark.parametrize(
    ("path", "method", "body", "headers", "status", "sentence"),
    [
        ("/", "GET", None, {}, 404, "there is nothing at '/'"),
        ("/v2/models/other", "GET", None, {}, 404, "there is no model 'other'"),
        ("/v2/models/other/infer", "POST", b"{}", {}, 404, "there is no model 'other'"),
        ("/v2/models/filetype/versions/9/infer", "POST", b"{}", {}, 404, "no version '9'"),
        ("/v2/repository/models/filetype/load", "POST", b"{}", {}, 501, "does not have the"),
        ("/v2/systemsharedmemory/status", "GET", None, {}, 501, "does not have the extension"),
        ("/v2/models/filetype/generate", "POST", b"{}", {}, 501, "does not have the extension"),
        ("/v2/logging", "GET", None, {}, 501, "does not have the extension"),
        ("/v2/models/%22%0a/infer", "POST", b"{}", {}, 404, "no model '\"\\n'"),
        (URL, "GET", None, {}, 405, "the method 'GET' is not allowed"),
        ("/v2", "DELETE", None, {}, 405, "the method 'DELETE' is not allowed"),
        (URL, "POST", b"", {}, 400, "not JSON"),
        (URL, "POST", b"{}", {LENGTH: "-1"}, 400, "is '-1', not a number"),
        (URL, "POST", b"{}", {LENGTH: "3"}, 400, "says 3, and the body has 2 bytes"),
        (URL, "POST", b"{}", {"Content-Encoding": "br"}, 415, "'br' is not supported"),
        (URL, "POST", b"{}", {"Content-Encoding": "gzip"}, 400, "not what its content encoding"),
        (URL, "POST", b"\0" * 6, {LENGTH: "0"}, 400, "has 6 bytes of data, expected 0"),
        ("/v2/repository/index", "POST", b"[]", {}, 400, "not an object"),
        ("/v2/repository/index", "POST", b"{", {}, 400, "not JSON"),
    ],
)
def test_a_wrong_request_gets_its_status_and_a_sentence(  # noqa: PLR0917 -- the columns of a table
    magika: Runtime,
    path: str,
    method: str,
    body: bytes | None,
    headers: dict[str, str],
    status: int,
    sentence: str,
) -> None:
    answer = magika.ask(path, body, method=method, headers=headers)
    assert answer.status == status
    assert sentence in answer.json["error"]
    assert answer.headers["content-type"] == "application/json"
    assert ("allow" in answer.headers) == (status == 405)


def test_a_body_beyond_the_limit_is_refused_before_it_is_read(magika: Runtime) -> None:
    answer = magika.ask(URL, b"", headers={"Content-Length": str(BODY_LIMIT + 1)})
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    assert answer.json == {"error": f"the body of the request is larger than {BODY_LIMIT} bytes"}


def test_a_chunked_body_beyond_the_limit_is_refused(magika: Runtime) -> None:
    answer = magika.ask(URL, iter([b"x" * 65536] * 17))  # type: ignore[arg-type] # sent in chunks
    assert answer.status == 413


def test_a_body_that_expands_beyond_the_limit_is_refused(magika: Runtime) -> None:
    bomb = gzip.compress(b"\0" * (64 << 20))
    assert len(bomb) < BODY_LIMIT
    answer = magika.ask(URL, bomb, headers={"Content-Encoding": "gzip"})
    assert answer.status == 413


def test_a_header_beyond_the_limit_is_refused(magika: Runtime) -> None:
    answer = magika.ask("/v2", headers={"X-Long": "x" * 40_000})
    assert answer.status in (400, 431)
    assert "header" in answer.json["error"]


@pytest.mark.parametrize(
    ("message", "code", "sentence"),
    [
        (pb.ModelInferRequest(model_name="z"), grpc.StatusCode.NOT_FOUND, "no model 'z'"),
        (
            pb.ModelInferRequest(model_name="filetype", model_version="9"),
            grpc.StatusCode.NOT_FOUND,
            "no version '9'",
        ),
        (
            pb.ModelInferRequest(model_name="filetype"),
            grpc.StatusCode.INVALID_ARGUMENT,
            "the input 'bytes' is missing",
        ),
        (
            infer_message(models.magika_input()[:, :7]),
            grpc.StatusCode.INVALID_ARGUMENT,
            "the shape [2, 7], expected [-1, 2048]",
        ),
        (
            infer_message(models.magika_input(400)),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "larger than max",
        ),
    ],
)
def test_a_wrong_call_gets_its_status_and_a_sentence(
    magika: Runtime, message: Message, code: grpc.StatusCode, sentence: str
) -> None:
    found, details = status_of(magika, "ModelInfer", message)
    assert found is code
    assert sentence in details


def test_bytes_that_are_no_message_are_refused(magika: Runtime) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{magika.ports['grpc']}") as channel:
        ask = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", None, None)
        with pytest.raises(grpc.RpcError) as failure:
            ask(b"\xff\xff", timeout=60)
    error: Any = failure.value
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "method", ["RepositoryModelLoad", "ModelStreamInfer", "SystemSharedMemoryRegister"]
)
def test_what_triton_adds_to_manage_a_server_is_unimplemented(magika: Runtime, method: str) -> None:
    code, _ = status_of(magika, method, pb.ServerLiveRequest())
    assert code is grpc.StatusCode.UNIMPLEMENTED


def test_the_metrics_follow(magika: Runtime) -> None:
    def counted(name: str) -> float:
        lines = magika.ask("/metrics", port="health").body.decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    answered, failed = (
        'modelseal_inference_requests_total{protocol="rest"}',
        ('modelseal_inference_failures_total{protocol="rest",reason="invalid"}'),
    )
    before = counted(answered), counted(failed)
    magika.ask(URL, models.magika_input().tobytes(), headers={LENGTH: "0"})
    magika.ask(URL, b"{}")
    assert (counted(answered), counted(failed)) == (before[0] + 1, before[1] + 1)
    assert counted("modelseal_model_ready") == 1
    assert 0 < counted("modelseal_lease_seconds_left") <= 600


def test_many_clients_at_once_get_their_own_answers(magika: Runtime) -> None:
    compiled = models.core().compile_model(models.magika_onnx(), "CPU")
    inputs = [models.magika_input(1, seed) for seed in range(24)]

    def ask(array: models.Array) -> models.Array:
        return binary_answer(magika.ask(URL, array.tobytes(), headers={LENGTH: "0"}))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, inputs))
    for array, answer in zip(inputs, answers, strict=True):
        np.testing.assert_allclose(answer, compiled(array)[0], rtol=1e-5)


@pytest.fixture
def slow_runtime(tmp_path: Path) -> Iterator[tuple[Runtime, Agent]]:
    """Serve a slow model with one worker and a queue of one."""
    limits = {Env.QUEUE_SIZE: "1", Env.PERFORMANCE_HINT: "LATENCY"}
    with joined(tmp_path / "log", limits) as (runtime, agent):
        loaded = agent.deliver(slow(repeats=16))
        assert isinstance(loaded, Loaded), runtime.describe()
        runtime.wait_ready()
        yield runtime, agent


def ask_slowly(runtime: Runtime, count: int, clients: int) -> list[Answer]:
    """Send the same slow request from several clients at once."""
    body = rows(512)

    def ask(_: int) -> Answer:
        return runtime.ask("/v2/models/model/infer", body, headers={LENGTH: "0"})

    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(ask, range(count)))


def test_what_does_not_fit_into_the_queue_is_refused_at_once(
    slow_runtime: tuple[Runtime, Agent],
) -> None:
    runtime, _ = slow_runtime
    answers = ask_slowly(runtime, 8, 8)
    assert {answer.status for answer in answers} == {200, 503}
    refused = next(answer for answer in answers if answer.status == 503)
    assert refused.json == {"error": "the queue is full; try again later"}
    assert refused.headers["retry-after"] == "1"
    assert runtime.ask("/readyz", port="health").status == 200


def test_sigterm_loses_no_request_that_was_taken(tmp_path: Path) -> None:
    limits = {Env.QUEUE_SIZE: "16", Env.PERFORMANCE_HINT: "LATENCY"}
    with joined(tmp_path / "log", limits) as (runtime, agent):
        agent.deliver(slow(repeats=48))  # the first lasts until the sixth is there
        runtime.wait_ready()
        with ThreadPoolExecutor(1) as pool:
            answers = pool.submit(ask_slowly, runtime, 6, 6)
            eventually(lambda: b"modelseal_in_flight 6.0" in metrics(runtime), runtime.describe)
            stop(runtime)
            eventually(lambda: runtime.ask("/readyz", port="health").status == 503)
            assert [answer.status for answer in answers.result()] == [200] * 6
        assert runtime.exit_code() == 0


def metrics(runtime: Runtime) -> bytes:
    """Return the metrics' text."""
    return runtime.ask("/metrics", port="health").body
