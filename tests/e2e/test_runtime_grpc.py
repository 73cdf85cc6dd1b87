"""gRPC beside the messages: ids, deadlines, cancellation, and when to come again."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from modelseal.contract import Env
from modelseal.handover import Loaded
from modelseal_runtime.proto import open_inference_pb2 as pb
from support import models
from support.models_slow import WIDTH, rows, slow
from support.protocol_runtime import Runtime, eventually, joined

pytestmark = pytest.mark.e2e
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """Serve a slow model with one worker and a queue of two."""
    settings = {Env.QUEUE_SIZE: "2", Env.PERFORMANCE_HINT: "LATENCY"}
    with joined(tmp_path_factory.mktemp("grpc") / "log", settings) as (started, agent):
        assert isinstance(agent.deliver(slow(repeats=16)), Loaded), started.describe()
        started.wait_ready()
        yield started


@pytest.fixture
def ask(runtime: Runtime) -> Iterator[Any]:
    """Return the method `ModelInfer`."""
    with connected(runtime) as method:
        yield method


@contextmanager
def connected(runtime: Runtime) -> Iterator[Any]:
    """Connect to a runtime's method `ModelInfer`."""
    with grpc.insecure_channel(f"127.0.0.1:{runtime.ports['grpc']}") as channel:
        yield channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            lambda message: message.SerializeToString(),
            pb.ModelInferResponse.FromString,
        )


def test_bf16_keeps_every_bit_over_grpc(tmp_path: Path) -> None:
    bits = np.array([0x3F80, 0xC2F7, 0x0000, 0x8000, 0x7F7F], np.uint16).tobytes()
    message = pb.ModelInferRequest(model_name="model", raw_input_contents=[bits])
    message.inputs.add(name="x", datatype="BF16", shape=[5])
    with joined(tmp_path / "log", {Env.PERFORMANCE_HINT: "LATENCY"}) as (started, agent):
        agent.deliver(models.joined("bf16", [-1]))
        started.wait_ready()
        with connected(started) as ask:
            answer = ask(message, timeout=60)
    assert answer.outputs[0].datatype == "BF16"
    assert list(answer.raw_output_contents) == [bits + bits]


def request(count: int) -> pb.ModelInferRequest:
    """Return a request of so many rows."""
    message = pb.ModelInferRequest(model_name="model")
    message.inputs.add(name="x", datatype="FP32", shape=[count, WIDTH])
    message.raw_input_contents.append(rows(count))
    return message


def counted(runtime: Runtime, name: str) -> float:
    """Return a metric's value, summed over its labels."""
    lines = runtime.ask("/metrics", port="health").body.decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def test_ids_come_back_with_answers_and_with_refusals(ask: Any) -> None:
    sent = (("x-request-id", "job-9"), ("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01"))
    answer, call = ask.with_call(request(1), timeout=60, metadata=sent)
    assert np.frombuffer(answer.raw_output_contents[0], np.float32).shape == (1,)
    with pytest.raises(grpc.RpcError) as failure:
        ask(pb.ModelInferRequest(model_name="other"), timeout=60, metadata=sent)
    refused: Any = failure.value
    for trailers in (dict(call.trailing_metadata()), dict(refused.trailing_metadata())):
        assert trailers["x-request-id"] == "job-9"
        assert re.fullmatch(f"00-{TRACE}-[0-9a-f]{{16}}-01", trailers["traceresponse"])


def test_a_full_queue_says_when_to_come_again(runtime: Runtime, ask: Any) -> None:
    futures = [ask.future(request(1024), timeout=60) for _ in range(6)]
    refused = [one for one in futures if one.exception() is not None]
    assert 0 < len(refused) < 6
    for one in refused:
        trailers = dict(one.trailing_metadata())
        assert one.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (trailers["retry-after"], trailers["grpc-retry-pushback-ms"]) == ("1", "1000")


def test_a_call_that_is_cancelled_while_it_waits_does_not_run(runtime: Runtime, ask: Any) -> None:
    ran = "modelseal_inference_compute_seconds_count"
    before = counted(runtime, ran)
    first = ask.future(request(2048), timeout=60)
    eventually(lambda: counted(runtime, "modelseal_in_flight") == 1, runtime.describe)
    waiting = ask.future(request(2048), timeout=60)
    eventually(lambda: counted(runtime, "modelseal_in_flight") == 2, runtime.describe)
    waiting.cancel()
    gone = 'modelseal_inference_failures_total{protocol="grpc",reason="cancelled"}'
    eventually(lambda: counted(runtime, gone) == 1, runtime.describe)
    assert first.result(60)
    eventually(lambda: counted(runtime, "modelseal_in_flight") == 0, runtime.describe)
    assert counted(runtime, ran) == before + 1


def test_a_deadline_is_kept_and_holds_nothing(runtime: Runtime, ask: Any) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        ask(request(2048), timeout=0.02)
    error: Any = failure.value
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    eventually(lambda: counted(runtime, "modelseal_in_flight") == 0, runtime.describe)
