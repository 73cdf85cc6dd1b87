"""HTTP as clients use it: one connection for many requests, deadlines, compression, trace ids."""

import gzip
import http.client
import json
import re
import socket
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelseal.contract import Env
from modelseal.engine import LoadedModel
from modelseal.handover import Loaded
from support import models
from support.models_slow import rows, slow
from support.protocol_runtime import Agent, Runtime, eventually, joined

pytestmark = pytest.mark.e2e
URL = "/v2/models/model/infer"
RAW = {"Inference-Header-Content-Length": "0"}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """Serve a small model."""
    settings = {Env.LOG_LEVEL: "debug", Env.PERFORMANCE_HINT: "LATENCY"}
    with joined(tmp_path_factory.mktemp("http") / "log", settings) as (started, agent):
        assert isinstance(agent.deliver(models.perceptron()), Loaded), started.describe()
        started.wait_ready()
        yield started


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[tuple[Runtime, Agent]]:
    """Serve a model that one request keeps busy for a while, with one worker."""
    with joined(tmp_path / "log", {Env.PERFORMANCE_HINT: "LATENCY"}) as (started, agent):
        assert isinstance(agent.deliver(slow(repeats=16)), Loaded), started.describe()
        started.wait_ready()
        yield started, agent


def values(count: int = 1) -> bytes:
    """Return a raw request."""
    return np.linspace(-1, 1, 64 * count, dtype=np.float32).tobytes()


def request(body: bytes, headers: str = "") -> bytes:
    """Return a request as it goes over the wire."""
    head = f"POST {URL} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {len(body)}\r\n"
    return head.encode() + b"Inference-Header-Content-Length: 0\r\n\r\n" + body


def read_answers(connection: socket.socket, count: int) -> list[tuple[int, bytes]]:
    """Return status and body of that many answers."""
    found = []
    with connection.makefile("rb") as stream:
        for _ in range(count):
            status = int(stream.readline().split()[1])
            headers = http.client.parse_headers(stream)
            found.append((status, stream.read(int(headers["content-length"]))))
    return found


def logged(runtime: Runtime, event: str) -> list[dict[str, Any]]:
    """Return the lines of the log that say this."""
    lines = [json.loads(line) for line in runtime.describe().splitlines()]
    return [line for line in lines if line["event"] == event]


def counted(runtime: Runtime, name: str) -> float:
    """Return a metric's value, summed over its labels."""
    lines = runtime.ask("/metrics", port="health").body.decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def test_requests_sent_without_waiting_are_answered_in_their_order(runtime: Runtime) -> None:
    with socket.create_connection(("127.0.0.1", runtime.ports["rest"]), 30) as connection:
        connection.sendall(b"".join(request(values(n)) for n in range(1, 21)))
        answers = read_answers(connection, 20)
    assert [status for status, _ in answers] == [200] * 20
    sizes = [len(body) for _, body in answers]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 20


@pytest.mark.parametrize("cut", [1, 7, 60, 180])
def test_a_request_may_come_in_pieces_of_any_size(runtime: Runtime, cut: int) -> None:
    whole = request(values())
    with socket.create_connection(("127.0.0.1", runtime.ports["rest"]), 30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(whole), cut):
            connection.sendall(whole[start : start + cut])
        ((status, body),) = read_answers(connection, 1)
    assert (status, body) == (200, runtime.ask(URL, values(), headers=RAW).body)


def test_a_client_that_asks_before_it_sends_the_body_is_told_to_go_on(runtime: Runtime) -> None:
    whole = request(values(), "Expect: 100-continue\r\n")
    head, body = whole[: -len(values())], whole[-len(values()) :]
    with socket.create_connection(("127.0.0.1", runtime.ports["rest"]), 30) as connection:
        connection.sendall(head)
        assert connection.recv(64) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        ((status, _),) = read_answers(connection, 1)
    assert status == 200


def test_a_connection_goes_on_after_a_request_that_was_refused(runtime: Runtime) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", runtime.ports["rest"], timeout=30)
    statuses = []
    for path, body in (("/v2/models/other/infer", b"x" * 30_000), (URL, b"{"), (URL, values())):
        connection.request("POST", path, body, RAW if body == values() else {})
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)
        local = connection.sock.getsockname()
    assert statuses == [404, 400, 200]
    assert connection.sock.getsockname() == local
    connection.close()


def test_a_large_body_that_is_refused_still_gets_its_answer(runtime: Runtime) -> None:
    answer = runtime.ask("/v2/models/other/infer", b"x" * (8 << 20))
    assert (answer.status, answer.headers["connection"]) == (404, "close")


@pytest.mark.parametrize("http_version", ["HTTP/1.0", "HTTP/1.1\r\nConnection: close"])
def test_a_connection_ends_where_its_client_says_so(runtime: Runtime, http_version: str) -> None:
    with socket.create_connection(("127.0.0.1", runtime.ports["rest"]), 30) as connection:
        connection.sendall(f"GET /v2 {http_version}\r\nHost: x\r\n\r\n".encode())
        received = b""
        while part := connection.recv(65536):
            received += part
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")


def test_an_upgrade_that_is_offered_is_declined_by_an_ordinary_answer(runtime: Runtime) -> None:
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAA"}
    assert runtime.ask("/v2/health/live", headers=offer).status == 200


@pytest.mark.parametrize(
    ("encoding", "unpack"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)]
)
def test_an_answer_is_compressed_for_a_client_that_asks(
    runtime: Runtime, encoding: str, unpack: Any
) -> None:
    plain = runtime.ask(URL, values(200), headers=RAW)
    packed = runtime.ask(URL, values(200), headers=RAW | {"Accept-Encoding": f"br, {encoding}"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == encoding
    assert unpack(packed.body) == plain.body


@pytest.mark.parametrize("accepted", ["identity", "gzip;q=0", "br", "*;q=0"])
def test_an_answer_stays_plain_for_a_client_that_does_not_take_gzip(
    runtime: Runtime, accepted: str
) -> None:
    answer = runtime.ask(URL, values(200), headers=RAW | {"Accept-Encoding": accepted})
    assert "content-encoding" not in answer.headers


def test_ids_of_a_request_come_back_and_are_logged(runtime: Runtime) -> None:
    headers = RAW | {"X-Request-Id": "checkout-7", "traceparent": PARENT}
    answer = runtime.ask(URL, values(), headers=headers)
    assert answer.headers["x-request-id"] == "checkout-7"
    assert re.fullmatch(f"00-{TRACE}-[0-9a-f]{{16}}-01", answer.headers["traceresponse"])
    refused = runtime.ask(URL, b"{", headers={"X-Request-Id": "bad-8", "traceparent": PARENT})
    assert refused.headers["x-request-id"] == "bad-8"
    (line,) = [
        line
        for line in logged(runtime, "a request was answered")
        if line["requestId"] == "checkout-7"
    ]
    assert (line["traceId"], line["protocol"]) == (TRACE, "rest")


@pytest.mark.parametrize("bad", ["a b", "x" * 129, "ä", '"}'])
def test_an_id_that_could_break_a_log_is_replaced(runtime: Runtime, bad: str) -> None:
    headers = {"X-Request-Id": bad.encode("latin-1").decode("latin-1"), "traceparent": "00-0-0-00"}
    answer = runtime.ask("/v2/models/other", headers=headers)
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]+", answer.headers["x-request-id"])
    assert "traceresponse" not in answer.headers


@pytest.mark.parametrize("header", ["X-Request-Timeout-Ms", "X-Envoy-Expected-Rq-Timeout-Ms"])
def test_a_clients_deadline_is_kept(busy: tuple[Runtime, Agent], header: str) -> None:
    runtime, _ = busy
    answer = runtime.ask(URL, rows(512), headers=RAW | {header: "20"})
    assert (answer.status, answer.json) == (
        504,
        {"error": "the request took longer than is allowed"},
    )
    wrong = runtime.ask(URL, rows(1), headers=RAW | {header: "soon"})
    assert (wrong.status, "is 'soon', not a number" in wrong.json["error"]) == (400, True)


def test_a_client_that_goes_away_takes_its_waiting_request_with_it(
    busy: tuple[Runtime, Agent],
) -> None:
    runtime, _ = busy
    body = rows(1024)
    first = socket.create_connection(("127.0.0.1", runtime.ports["rest"]), 30)
    first.sendall(request(body))
    eventually(lambda: counted(runtime, "modelseal_in_flight") == 1, runtime.describe)
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", runtime.ports["rest"]), 30) as leaver:
            leaver.sendall(request(body))
    gone = 'modelseal_inference_failures_total{protocol="rest",reason="cancelled"}'
    eventually(lambda: counted(runtime, gone) == 20, runtime.describe)
    ((status, _),) = read_answers(first, 1)
    first.close()
    assert status == 200
    eventually(lambda: counted(runtime, "modelseal_in_flight") == 0, runtime.describe)
    ran = counted(runtime, "modelseal_inference_compute_seconds_count")
    assert ran < 6, "requests of clients that had left were computed"


def test_requests_that_come_together_run_together_where_the_user_says_so(tmp_path: Path) -> None:
    settings = {Env.BATCH_ROWS: "8", Env.BATCH_WAIT: "0.01", Env.PERFORMANCE_HINT: "LATENCY"}
    contents = models.perceptron()
    with LoadedModel.load(models.views(contents), release=lambda: None) as here:
        inputs = [np.full((1, 64), n / 16, np.float32) for n in range(16)]
        expected = [here.infer({"x": one})["y"] for one in inputs]
    with joined(tmp_path / "log", settings) as (runtime, agent):
        agent.deliver(contents)
        runtime.wait_ready()

        def ask(array: models.Array) -> models.Array:
            answer = runtime.ask(URL, array.tobytes(), headers=RAW)
            assert answer.status == 200, answer.body
            return np.frombuffer(answer.body[-256:], np.float32).reshape(1, 64)

        with ThreadPoolExecutor(16) as pool:
            for found, wanted in zip(pool.map(ask, inputs), expected, strict=True):
                np.testing.assert_allclose(found, wanted, rtol=1e-5)
        size = "modelseal_inference_batch_size"
        assert counted(runtime, f"{size}_sum") > counted(runtime, f"{size}_count")


def test_a_client_that_does_not_read_is_ended_and_the_others_are_answered(tmp_path: Path) -> None:
    settings = {Env.REQUEST_TIMEOUT: "5", Env.PERFORMANCE_HINT: "LATENCY"}
    with joined(tmp_path / "log", settings) as (runtime, agent):
        agent.deliver(models.joined("u8", [-1]))
        runtime.wait_ready()
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.settimeout(30)
            deaf.connect(("127.0.0.1", runtime.ports["rest"]))
            deaf.sendall(request(bytes(24 << 20)))
            assert runtime.ask(URL, b"ab", headers=RAW).status == 200
            unread = "modelseal_unread_answer_bytes"
            eventually(lambda: counted(runtime, unread) > 1 << 20, runtime.describe)
            eventually(lambda: counted(runtime, unread) == 0, runtime.describe)


def test_bf16_keeps_every_bit_on_its_way_to_a_model_and_back(tmp_path: Path) -> None:
    bits = np.array([0x3F80, 0xC2F7, 0x0000, 0x8000, 0x7F7F], np.uint16).tobytes()
    with joined(tmp_path / "log", {Env.PERFORMANCE_HINT: "LATENCY"}) as (runtime, agent):
        agent.deliver(models.joined("bf16", [-1]))
        runtime.wait_ready()
        answer = runtime.ask(URL, bits, headers=RAW)
        assert b'"BF16"' in answer.body
        assert answer.body.endswith(bits + bits)


def test_the_same_refusal_again_and_again_is_logged_once(tmp_path: Path) -> None:
    with joined(tmp_path / "log") as (runtime, agent):
        agent.deliver(models.perceptron())
        runtime.wait_ready()
        for _ in range(50):
            assert runtime.ask(URL, b"{").status == 400
        lines = logged(runtime, "a request was refused")
    assert len(lines) == 1
    assert (lines[0]["why"], lines[0]["protocol"]) == ("invalid", "rest")


def test_statistics_and_configuration_are_those_that_tritons_clients_read(
    runtime: Runtime,
) -> None:
    before = runtime.ask("/v2/models/model/stats").json["model_stats"][0]
    assert runtime.ask(URL, values(), headers=RAW).status == 200
    after = runtime.ask("/v2/models/stats").json["model_stats"][0]
    assert after["inference_count"] == before["inference_count"] + 1
    assert after["inference_stats"]["success"]["ns"] > before["inference_stats"]["success"]["ns"]
    assert runtime.ask("/v2/models/model/config").json == {
        "name": "model",
        "platform": "OpenVINO",
        "backend": "openvino",
        "max_batch_size": 0,
        "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [-1, 64]}],
        "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [-1, 64]}],
    }


def test_the_openapi_document_names_every_path_that_is_answered(runtime: Runtime) -> None:
    document = runtime.ask("/v2/openapi.json").json
    for path, item in document["paths"].items():
        real = path.replace("{model}", "model").replace("{version}", "3")
        for method in {"get", "post"} & item.keys():
            answer = runtime.ask(real, b"{}" if method == "post" else None)
            assert answer.status in (200, 400), path
