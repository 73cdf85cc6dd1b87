"""Clients that mean no good: each is bounded, and the others are answered meanwhile."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from modelseal.contract import Env
from modelseal.handover import Loaded
from support import models
from support.protocol_runtime import Runtime, eventually, joined

pytestmark = pytest.mark.e2e
BODY_LIMIT = 1 << 20
SECONDS = 5.0
INFER = "POST /v2/models/model/infer HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """Serve a model with small bounds."""
    bounds = {
        Env.MAX_BODY_BYTES: str(BODY_LIMIT),
        Env.QUEUE_SIZE: "2",
        Env.REQUEST_TIMEOUT: str(SECONDS),
    }
    with joined(tmp_path_factory.mktemp("bounds") / "log", bounds) as (started, agent):
        assert isinstance(agent.deliver(models.perceptron()), Loaded), started.describe()
        started.wait_ready()
        yield started


def opened(runtime: Runtime, begin: str) -> socket.socket:
    """Connect and send the beginning of a request."""
    connection = socket.create_connection(("127.0.0.1", runtime.ports["rest"]), timeout=30)
    connection.sendall(begin.encode())
    return connection


def answer(connection: socket.socket) -> tuple[int, str]:
    """Return status and error of what comes back, up to the end of the stream."""
    received = b""
    while part := connection.recv(65536):
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]


def answers(runtime: Runtime) -> bool:
    """Whether somebody else is answered."""
    array = [0.5] * 64
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 64], "data": array}
    return runtime.infer({"inputs": [tensor]}).status == 200


def test_a_header_that_does_not_end_is_refused(runtime: Runtime) -> None:
    with opened(runtime, INFER + "X-Long: " + "x" * 60_000) as connection:
        assert answers(runtime)
        status, error = answer(connection)
    assert (status, "header of the request is longer" in error) == (431, True)


def test_a_slow_header_is_refused(runtime: Runtime) -> None:
    with opened(runtime, INFER) as connection:
        assert answers(runtime)
        status, error = answer(connection)
    assert (status, error) == (408, "the header of the request did not come in time")


def test_a_body_that_does_not_come_is_refused(runtime: Runtime) -> None:
    with opened(runtime, INFER + "Content-Length: 100\r\n\r\nab") as connection:
        assert answers(runtime)
        status, error = answer(connection)
    assert (status, error) == (408, "the body of the request did not come in time")


def test_bodies_together_hold_no_more_memory_than_the_queue_may(runtime: Runtime) -> None:
    announce = INFER + f"Content-Length: {BODY_LIMIT}\r\n\r\nab"
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(opened(runtime, announce))
        eventually(lambda: runtime.infer({"inputs": []}).status == 503)
        with opened(runtime, announce) as third:
            third.sendall(b"x")
            third.shutdown(socket.SHUT_WR)
            status, error = answer(third)
        assert (status, "other requests hold the memory" in error) == (503, True)
    eventually(lambda: answers(runtime), runtime.describe)


def test_a_client_that_goes_away_holds_nothing(runtime: Runtime) -> None:
    for _ in range(8):
        opened(runtime, INFER + f"Content-Length: {BODY_LIMIT}\r\n\r\nab").close()
    eventually(lambda: answers(runtime), runtime.describe)


@pytest.mark.parametrize(
    "garbage", ["\x00\x01\x02\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET\r\n\r\n", "\r\n" * 3 + "?"]
)
def test_what_is_not_http_is_refused(runtime: Runtime, garbage: str) -> None:
    with opened(runtime, garbage) as connection:
        connection.shutdown(socket.SHUT_WR)
        status, _ = answer(connection)
    assert status == 400
    assert answers(runtime)


def test_a_length_that_lies_is_refused(runtime: Runtime) -> None:
    request = INFER + "Connection: close\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x"
    with opened(runtime, request) as connection:
        status, _ = answer(connection)
    assert status == 400


def test_nested_json_does_not_exhaust_the_stack(runtime: Runtime) -> None:
    deep = b'{"inputs": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    found = runtime.ask("/v2/models/model/infer", deep)
    assert (found.status, "not JSON" in found.json["error"]) == (400, True)


def test_a_million_tiny_inputs_are_refused_in_time(runtime: Runtime) -> None:
    tensor = {"name": "", "datatype": "FP32", "shape": [], "data": [1]}
    many = [tensor | {"name": str(index)} for index in range(14_000)]
    body = json.dumps({"inputs": many}).encode()
    assert len(body) < BODY_LIMIT
    found = runtime.ask("/v2/models/model/infer", body)
    assert (found.status, "the model has no input '0'" in found.json["error"]) == (400, True)


def test_a_termination_message_says_why_in_fixed_words(tmp_path: Path) -> None:
    message = tmp_path / "termination"
    with joined(tmp_path / "log", {Env.TERMINATION_LOG: str(message)}) as (runtime, agent):
        agent.channel.close()
        code = runtime.exit_code()
    said = json.loads(message.read_bytes())
    assert said["exitCode"] == code
    assert (said["stage"], said["reason"]) == ("Lease", "LeaseEnded")
