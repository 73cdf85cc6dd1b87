"""Clients of gRPC that mean no good: each is bounded, and the others are answered meanwhile."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2

from modelseal.contract import Env
from modelseal.handover import Loaded
from modelseal_runtime.program import SPARE_CALLS
from modelseal_runtime.proto import open_inference_pb2 as pb
from modelseal_runtime.rpc.server import MAX_STREAMS
from support import http2, models
from support.protocol_runtime import Runtime, eventually, joined

pytestmark = pytest.mark.e2e
BODY_LIMIT = 1 << 20
SECONDS = 2.0
QUEUE = 2
INFER = "/inference.GRPCInferenceService/ModelInfer"
WATCH = "/grpc.health.v1.Health/Watch"
WIDTH = 4096


@pytest.fixture
def runtime(tmp_path: Any) -> Iterator[Runtime]:
    """Serve a model whose answers are twice as large as its requests, with small bounds."""
    bounds = {
        Env.MAX_BODY_BYTES: str(BODY_LIMIT),
        Env.QUEUE_SIZE: str(QUEUE),
        Env.REQUEST_TIMEOUT: str(SECONDS),
    }
    with joined(tmp_path / "log", bounds) as (started, agent):
        assert isinstance(agent.deliver(models.joined("f32", [-1, WIDTH])), Loaded)
        started.wait_ready()
        yield started


def connect(runtime: Runtime) -> Any:
    """Return a channel; its methods have no types worth the name."""
    return grpc.insecure_channel(f"127.0.0.1:{runtime.ports['grpc']}")


@pytest.fixture
def channel(runtime: Runtime) -> Iterator[Any]:
    """Connect as a client does."""
    with connect(runtime) as one:
        yield one


def request(rows: int = 1) -> bytes:
    """Return a request of so many rows."""
    made = pb.ModelInferRequest(model_name="model")
    made.inputs.add(name="x", datatype="FP32", shape=[rows, WIDTH])
    made.raw_input_contents.append(np.zeros((rows, WIDTH), np.float32).tobytes())
    return made.SerializeToString()


def code(channel: Any, **options: Any) -> grpc.StatusCode:
    """Ask once; return the status."""
    try:
        channel.unary_unary(INFER)(request(), timeout=60, **options)
    except grpc.RpcError as error:
        found: Any = error
        return found.code()  # type: ignore[no-any-return]
    return grpc.StatusCode.OK


def answered(channel: Any) -> bool:
    """Whether somebody else is answered."""
    return code(channel) is grpc.StatusCode.OK


def counted(runtime: Runtime, name: str) -> float:
    """Return a metric's value."""
    for line in runtime.ask("/metrics", port="health").body.decode().splitlines():
        if line.startswith(name):
            return float(line.rsplit(" ", 1)[1])
    raise LookupError(name)


def resident(runtime: Runtime) -> int:
    """Return the runtime's resident memory in bytes."""
    return int(counted(runtime, "process_resident_memory_bytes"))


@pytest.mark.parametrize("method", [INFER, "/grpc.health.v1.Health/Check"])
def test_calls_whose_message_does_not_come_end_in_time_and_make_room(
    runtime: Runtime, channel: Any, method: str
) -> None:
    never = threading.Event()

    def nothing() -> Iterator[bytes]:
        never.wait()
        yield b""  # pragma: no cover -- it ends before

    many = QUEUE + SPARE_CALLS
    with ExitStack() as stack:
        stack.callback(never.set)
        silent = [stack.enter_context(connect(runtime)) for _ in range(2)]
        calls = [one.stream_unary(method).future(nothing()) for one in silent for _ in range(many)]
        errors: list[Any] = [one.exception(60) for one in calls]
        assert {one.code() for one in errors} <= {
            grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED,
        }  # fmt: skip
        late = [one for one in errors if one.code() is grpc.StatusCode.DEADLINE_EXCEEDED]
        assert len(late) >= many - 1
        assert late[0].details() == "the message of the request did not come in time"
        eventually(lambda: answered(channel), runtime.describe)


def test_a_call_without_a_message_is_refused(channel: Any) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        channel.stream_unary(INFER)(iter(()), timeout=60)
    error: Any = failure.value
    assert (error.code(), error.details()) == (
        grpc.StatusCode.INVALID_ARGUMENT, "the request has no message",
    )  # fmt: skip


def test_streams_that_only_listen_are_so_many_and_keep_nobody_out(
    runtime: Runtime, channel: Any
) -> None:
    watch: Callable[..., Any] = channel.unary_stream(
        WATCH, lambda one: one.SerializeToString(), health_pb2.HealthCheckResponse.FromString
    )
    streams = [watch(health_pb2.HealthCheckRequest()) for _ in range(MAX_STREAMS)]
    for one in streams:
        assert next(one).status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as failure:
        next(watch(health_pb2.HealthCheckRequest()))
    error: Any = failure.value
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "too many streams" in error.details()
    assert answered(channel)
    streams[0].cancel()
    eventually(lambda: _watches(watch), runtime.describe)


def _watches(watch: Callable[..., Any]) -> bool:
    stream = watch(health_pb2.HealthCheckRequest())
    try:
        return bool(next(stream).status)
    except grpc.RpcError:
        return False
    finally:
        stream.cancel()


def test_more_calls_than_may_run_are_refused_or_wait_with_their_client(
    runtime: Runtime, channel: Any
) -> None:
    ask = channel.unary_unary(INFER)
    calls = [ask.future(request(), timeout=60) for _ in range(1000)]
    codes = {one.code() for one in calls}
    assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert grpc.StatusCode.OK in codes
    assert answered(channel)


def test_metadata_beyond_the_limit_is_refused_and_below_it_is_not(channel: Any) -> None:
    long = (("x-long", "x" * 40_000),)
    assert code(channel, metadata=long) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert code(channel, metadata=(("x-long", "x" * 28_000),)) is grpc.StatusCode.OK


def test_a_header_that_does_not_end_is_thrown_away(runtime: Runtime, channel: Any) -> None:
    assert answered(channel)
    before = resident(runtime)
    with http2.connected(runtime.ports["grpc"]) as connection:
        start = http2.fields(http2.call(INFER))
        part = http2.frame(http2.CONTINUATION, 0, 1, http2.fields({"x-more": "y" * 8000}))
        with suppress(OSError):  # the server may end the connection
            connection.sendall(http2.frame(http2.HEADERS, 0, 1, start))
            for _ in range(2048):
                connection.sendall(part * 128)  # 1 MiB
        assert answered(channel)
        assert resident(runtime) - before < 1 << 30, "half of what was sent"


def test_an_answer_that_is_not_read_counts_as_held_memory_until_its_client_goes(
    runtime: Runtime, channel: Any
) -> None:
    name, whole = "modelseal_request_memory_left_bytes", QUEUE * BODY_LIMIT
    body = http2.message(request(2))
    with http2.connected(runtime.ports["grpc"], {http2.INITIAL_WINDOW: 0}) as connection:
        connection.sendall(
            http2.frame(http2.HEADERS, http2.END_HEADERS, 1, http2.fields(http2.call(INFER)))
        )
        for start in range(0, len(body), 16384):
            connection.sendall(http2.frame(http2.DATA, 0, 1, body[start : start + 16384]))
        answer = 2 * 2 * WIDTH * 4
        eventually(lambda: counted(runtime, name) <= whole - answer, runtime.describe)
        assert answered(channel)
    eventually(lambda: counted(runtime, name) == whole, runtime.describe)


def test_a_message_beyond_the_limit_is_refused(channel: Any) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        channel.unary_unary(INFER)(b"\0" * (BODY_LIMIT * 3), timeout=60)
    error: Any = failure.value
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert answered(channel)
