"""Many clients for a while: nothing is lost when the server goes, and nothing is left behind."""

import http.client
import resource
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from modelseal.contract import Env
from modelseal.handover import Loaded
from modelseal_runtime.proto import open_inference_pb2 as pb
from support import models
from support.protocol_runtime import Agent, Runtime, eventually, joined, stop

pytestmark = pytest.mark.e2e
URL = "/v2/models/model/infer"
RAW = {"Inference-Header-Content-Length": "0"}
BODY = np.linspace(-1, 1, 64, dtype=np.float32).tobytes()


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[tuple[Runtime, Agent]]:
    """Serve a small model."""
    settings = {Env.QUEUE_SIZE: "2000", Env.PERFORMANCE_HINT: "LATENCY"}
    with joined(tmp_path / "log", settings) as (runtime, agent):
        assert isinstance(agent.deliver(models.perceptron()), Loaded), runtime.describe()
        runtime.wait_ready()
        yield runtime, agent


def status(connection: http.client.HTTPConnection) -> tuple[int, bool]:
    """Ask once; return the status and whether the server ends the connection."""
    connection.request("POST", URL, BODY, RAW)
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.will_close


def ask_until_told_to_leave(runtime: Runtime, asked: threading.Event) -> list[int]:
    """Ask on one connection over REST until the server ends it; return every status."""
    connection = http.client.HTTPConnection("127.0.0.1", runtime.ports["rest"], timeout=60)
    found, leaves = [], False
    while not leaves:
        one, leaves = status(connection)
        found.append(one)
        asked.set()
    connection.close()
    return found


def ask_until_not_ready(runtime: Runtime, unready: threading.Event) -> list[str]:
    """Ask over gRPC until clients are sent elsewhere; return every failure."""
    request = pb.ModelInferRequest(model_name="model")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 64])
    request.raw_input_contents.append(BODY)
    failed = []
    with grpc.insecure_channel(f"127.0.0.1:{runtime.ports['grpc']}") as channel:
        ask: Any = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            lambda message: message.SerializeToString(),
            pb.ModelInferResponse.FromString,
        )
        while not unready.is_set():
            try:
                ask(request, timeout=60)
            except grpc.RpcError as error:
                failed.append(str(error))
    return failed


def test_a_server_that_goes_away_under_load_answers_every_request(
    serving: tuple[Runtime, Agent],
) -> None:
    runtime, _ = serving
    unready = threading.Event()
    with ThreadPoolExecutor(12) as pool:
        asked = [threading.Event() for _ in range(8)]
        rest = [pool.submit(ask_until_told_to_leave, runtime, one) for one in asked]
        calls = [pool.submit(ask_until_not_ready, runtime, unready) for _ in range(4)]
        assert all(one.wait(60) for one in asked)
        stop(runtime)
        eventually(lambda: runtime.ask("/readyz", port="health").status == 503)
        unready.set()
        assert {one for found in rest for one in found.result()} == {200}
        assert [failure for found in calls for failure in found.result()] == []
    assert runtime.exit_code() == 0


HEAD = f"POST {URL} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n"
REQUEST = f"{HEAD}Inference-Header-Content-Length: 0\r\n\r\n".encode() + BODY


@contextmanager
def many_connections(runtime: Runtime, count: int) -> Iterator[list[socket.socket]]:
    """Open connections, more than a program may without asking."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    try:
        with ExitStack() as stack:
            address = ("127.0.0.1", runtime.ports["rest"])
            yield [stack.enter_context(socket.create_connection(address, 60)) for _ in range(count)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_connections_are_answered_at_once(serving: tuple[Runtime, Agent]) -> None:
    runtime, _ = serving
    with many_connections(runtime, 1000) as connections:
        for connection in connections:
            connection.sendall(REQUEST)
        heads = [connection.recv(15) for connection in connections]
        assert runtime.ask("/readyz", port="health").status == 200
    assert set(heads) == {b"HTTP/1.1 200 OK"}


def test_a_thousand_slow_clients_hold_up_nobody_and_leave_nothing(
    serving: tuple[Runtime, Agent],
) -> None:
    runtime, _ = serving
    beginnings = (REQUEST[:40], REQUEST[:-100], REQUEST * 50)
    whole = metric(runtime, "modelseal_request_memory_left_bytes")
    with many_connections(runtime, 1000) as connections:
        for number, connection in enumerate(connections):  # in the head, in the body, unread
            connection.sendall(beginnings[number % len(beginnings)])
        asked = http.client.HTTPConnection("127.0.0.1", runtime.ports["rest"], timeout=60)
        for _ in range(100):
            assert status(asked) == (200, False)
        asked.close()
        assert metric(runtime, "modelseal_request_memory_left_bytes") < whole
    eventually(lambda: metric(runtime, "modelseal_request_memory_left_bytes") == whole)
    assert metric(runtime, "modelseal_in_flight") == 0


def metric(runtime: Runtime, name: str) -> float:
    """Return a metric's value."""
    for line in runtime.ask("/metrics", port="health").body.decode().splitlines():
        if line.startswith(f"{name} "):
            return float(line.rsplit(" ", 1)[1])
    raise LookupError(name)


def resident(runtime: Runtime) -> int:
    """Return the runtime's resident memory in KiB."""
    for line in Path(f"/proc/{runtime.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise LookupError("VmRSS")


def test_ten_thousand_requests_leave_nothing_behind(serving: tuple[Runtime, Agent]) -> None:
    runtime, _ = serving
    connection = http.client.HTTPConnection("127.0.0.1", runtime.ports["rest"], timeout=60)
    for _ in range(3000):
        status(connection)
    before = resident(runtime)
    for number in range(10_000):
        assert status(connection) == (200, False)
        if number % 100 == 0:  # failures are kept no longer than answers
            assert runtime.ask("/v2/models/other/infer", b"{}").status == 404
    connection.close()
    assert resident(runtime) - before < 4096, "KiB"
