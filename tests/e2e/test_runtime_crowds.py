"""A million tiny tensors in one request, whichever way they come, are refused at little cost."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from modelseal.handover import Loaded
from support import models
from support.protocol_runtime import Runtime, joined

pytestmark = pytest.mark.e2e
MILLION = 1_000_000
MIB = 1 << 20
URL = "/v2/models/model/infer"
ONE = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 64], "data": [0.5] * 64}]}


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """Serve a small model with the default bounds."""
    with joined(tmp_path_factory.mktemp("crowds") / "log") as (started, agent):
        assert isinstance(agent.deliver(models.perceptron()), Loaded), started.describe()
        started.wait_ready()
        yield started


def over_json(runtime: Runtime) -> str:
    """Send tensors with one number each; return the error."""
    tensor = '{"name":"x","datatype":"FP32","shape":[],"data":[1]}'
    text = f'{{"inputs":[{",".join([tensor] * MILLION)}]}}'.encode()
    found = runtime.ask(URL, text)
    assert found.status == 400
    return str(found.json["error"])


def over_binary(runtime: Runtime) -> str:
    """Send tensors with four bytes each; return the error."""
    tensor = '{"name":"x","parameters":{"binary_data_size":4}}'
    text = f'{{"inputs":[{",".join([tensor] * MILLION)}]}}'.encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    found = runtime.ask(URL, text + bytes(4 * MILLION), headers=headers)
    assert found.status == 400
    return str(found.json["error"])


def over_grpc(runtime: Runtime) -> str:
    """Send tensors with four bytes each; return the error."""
    tensor = b"\x2a\x03\x0a\x01x"
    with grpc.insecure_channel(f"127.0.0.1:{runtime.ports['grpc']}") as channel:
        untyped: Any = channel
        ask = untyped.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as failure:
            ask(b"\x0a\x05model" + (tensor + b"\x3a\x04\0\0\0\0") * MILLION, timeout=60)
    error: Any = failure.value
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    return str(error.details())


@pytest.mark.parametrize("send", [over_json, over_binary, over_grpc])
def test_a_million_tiny_tensors_are_refused_without_being_built(
    runtime: Runtime, send: Callable[[Runtime], str]
) -> None:
    errors: list[str] = []
    sender = threading.Thread(target=lambda: errors.append(send(runtime)))
    sender.start()
    while sender.is_alive():
        assert runtime.infer(ONE).status == 200
    assert "more than" in errors[0]
    # The body, a copy of it, and what the connection holds; built, it would be over 500 MiB.
    assert peak(runtime) < 450 * MIB


def peak(runtime: Runtime) -> int:
    """Return the most memory that the runtime has had, in bytes."""
    with open(f"/proc/{runtime.process.pid}/status") as status:
        lines = dict(line.split(":", 1) for line in status)
    return int(lines["VmHWM"].split()[0]) << 10
