"""The agent's three addresses, over real HTTP."""

import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import urllib3

from modelseal.contract import Delivery
from modelseal.errors import PortInUse, SettingsError
from modelseal_sidecar.server import ReportServer
from modelseal_sidecar.status import Board, Status

LOCAL = "127.0.0.1"


@pytest.fixture
def board() -> Board:
    return Board(Status(delivery=Delivery.MEMFD, model="a/b", since=datetime.now(UTC)))


@pytest.fixture
def server(board: Board) -> Iterator[ReportServer]:
    made = ReportServer(board, LOCAL, 0)
    made.start()
    yield made
    made.stop()


def ask(server: ReportServer, path: str, method: str = "GET") -> tuple[int, bytes]:
    with urllib3.PoolManager(retries=False, timeout=5) as pool:
        answer = pool.request(method, f"http://{LOCAL}:{server.port}{path}")
        return answer.status, answer.data


def test_the_report_is_served(server: ReportServer) -> None:
    code, body = ask(server, "/report")
    assert code == 200
    assert json.loads(body)["model"] == "a/b"


def test_lease_and_healthz_follow_the_board(server: ReportServer, board: Board) -> None:
    assert ask(server, "/lease")[0] == 200
    assert ask(server, "/healthz")[0] == 503
    board.change(healthy=False, started=True)
    assert ask(server, "/lease")[0] == 503
    assert ask(server, "/healthz")[0] == 200


@pytest.mark.parametrize(
    ("path", "method", "code"),
    [
        ("/", "GET", 404),
        ("/report/", "GET", 404),
        ("/%72eport/..", "GET", 404),
        ("/report?x=1", "GET", 200),
        ("/report", "HEAD", 200),
        ("/report", "POST", 405),
        ("/lease", "DELETE", 405),
    ],
)
def test_nothing_else_is_answered(server: ReportServer, path: str, method: str, code: int) -> None:
    assert ask(server, path, method)[0] == code


def test_an_endless_request_head_is_cut_off(server: ReportServer) -> None:
    with socket.create_connection((LOCAL, server.port), timeout=5) as connection:
        connection.sendall(b"GET /report HTTP/1.1\r\nHost: x\r\nX: " + b"x" * (64 << 10))
        assert connection.recv(12) in (b"HTTP/1.1 400", b"HTTP/1.1 431")


def test_a_taken_port_is_named(server: ReportServer, board: Board) -> None:
    with pytest.raises(PortInUse, match=str(server.port)):
        ReportServer(board, LOCAL, server.port)


def test_an_address_of_another_machine_is_a_wrong_setting(board: Board) -> None:
    with pytest.raises(SettingsError, match=r"192\.0\.2\.1"):
        ReportServer(board, "192.0.2.1", 0)


def test_a_stopped_server_answers_no_more(board: Board) -> None:
    made = ReportServer(board, LOCAL, 0)
    made.start()
    ask(made, "/report")
    port = made.port
    made.stop()
    made.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((LOCAL, port), timeout=5)
