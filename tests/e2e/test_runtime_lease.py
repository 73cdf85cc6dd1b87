"""The runtime and its agent: waiting, delivery, lease, revocation, and who is not believed."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from modelseal.contract import RUNTIME_EXIT_BOUND, Env, Reason
from modelseal.errors import DeviceUnavailable, LeaseError, ModelLoadFailed, PeerRejected, PortInUse
from modelseal.handover import Channel, File, Hello, Lease, Loaded, LoadFailed, Model, Revoke
from modelseal.memory import PAGE
from support import models
from support.models_slow import rows, slow
from support.protocol_runtime import Agent, Runtime, eventually, joined, running, stop

pytestmark = pytest.mark.e2e
HEADERS = {"Inference-Header-Content-Length": "0"}
SLOW_ROWS = 4096
HERE = str(os.getuid())
SEEN = 1.0
"""Seconds that starting to look and being told of the end may add."""


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[tuple[Runtime, Agent]]:
    """Start a runtime that waits for its model."""
    with joined(tmp_path / "log") as (runtime, agent):
        yield runtime, agent


@pytest.fixture
def serving(waiting: tuple[Runtime, Agent]) -> tuple[Runtime, Agent]:
    """Deliver a small model to it."""
    runtime, agent = waiting
    assert isinstance(agent.deliver(models.perceptron()), Loaded), runtime.describe()
    runtime.wait_ready()
    return waiting


def status(runtime: Runtime, path: str) -> int:
    """Return the status of a probe."""
    return runtime.ask(path, port="health").status


def test_a_runtime_that_waits_is_live_and_not_ready_and_says_why(
    waiting: tuple[Runtime, Agent],
) -> None:
    runtime, _ = waiting
    assert (status(runtime, "/livez"), status(runtime, "/readyz")) == (200, 503)
    answer = runtime.ask("/v2/models/model/infer", b"{}")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert answer.json == {"error": "the model has not been delivered yet"}
    assert runtime.ask("/v2/health/ready").json == {"ready": False}
    assert runtime.ask("/v2/repository/index", b"").json == []


def test_sigterm_ends_a_runtime_that_waits(waiting: tuple[Runtime, Agent]) -> None:
    runtime, _ = waiting
    stop(runtime)
    assert runtime.exit_code() == 0


def test_a_lease_that_is_not_renewed_unloads_the_model_and_ends_the_process(
    serving: tuple[Runtime, Agent],
) -> None:
    runtime, agent = serving
    agent.lease(1.0)
    began = time.monotonic()
    assert runtime.exit_code() == LeaseError.exit_code
    assert 0.9 <= time.monotonic() - began <= 1.0 + RUNTIME_EXIT_BOUND
    assert "its lease has run out" in runtime.describe()


def test_a_renewed_lease_keeps_the_model(waiting: tuple[Runtime, Agent]) -> None:
    runtime, agent = waiting
    agent.deliver(models.perceptron())
    runtime.wait_ready()
    until = time.monotonic() + 3.0

    def renewed() -> bool:
        agent.lease(2.0)
        assert status(runtime, "/readyz") == 200
        return time.monotonic() > until

    eventually(renewed, runtime.describe)


def test_the_end_of_the_agent_ends_the_process(serving: tuple[Runtime, Agent]) -> None:
    runtime, agent = serving
    agent.channel.close()
    assert runtime.exit_code(RUNTIME_EXIT_BOUND + SEEN) == LeaseError.exit_code


def test_the_end_of_an_inherited_socket_ends_a_runtime_that_waits(
    waiting: tuple[Runtime, Agent],
) -> None:
    runtime, agent = waiting
    agent.channel.close()
    assert runtime.exit_code() == LeaseError.exit_code


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"{", id="not JSON"),
        pytest.param(b'{"type": "Shutdown"}', id="unknown type"),
        pytest.param(b'{"type": "Lease", "valid_for": -1}', id="negative lease"),
        pytest.param(b'{"type": "Lease", "valid_for": 5, "x": 1}', id="unknown field"),
        pytest.param(b'{"type": "Loaded", "device": "CPU", "load_seconds": 1}', id="our own words"),
        pytest.param(b'{"type": "Hello", "protocol": 1, "empty": true}', id="our own hello"),
        pytest.param(b"x" * 100_000, id="too long"),
    ],
)
def test_a_malformed_message_ends_the_process(
    serving: tuple[Runtime, Agent], message: bytes
) -> None:
    runtime, agent = serving
    raw = socket.socket(fileno=os.dup(agent.channel.fileno()))
    with raw:
        raw.send(message)
    assert runtime.exit_code(RUNTIME_EXIT_BOUND + SEEN) == PeerRejected.exit_code


def test_a_second_model_ends_the_process(serving: tuple[Runtime, Agent]) -> None:
    runtime, agent = serving
    second = Agent(channel=agent.channel)
    files = second.place(models.perceptron())
    assert second.memory is not None
    with contextlib.suppress(BrokenPipeError):  # it may be gone after the first of the messages
        second.send_model(files, len(second.memory), [second.memory.reader()])
    assert runtime.exit_code(RUNTIME_EXIT_BOUND + SEEN) == PeerRejected.exit_code
    second.memory.release()


def test_a_revocation_ends_the_process_at_once(serving: tuple[Runtime, Agent]) -> None:
    runtime, agent = serving
    agent.channel.send(Revoke(reason=Reason.KEY_REVOKED))
    assert runtime.exit_code(RUNTIME_EXIT_BOUND + SEEN) == LeaseError.exit_code
    assert "KeyRevoked" in runtime.describe()


def test_a_revocation_does_not_wait_for_an_inference_that_runs(tmp_path: Path) -> None:
    with joined(tmp_path / "log", {Env.PERFORMANCE_HINT: "LATENCY"}) as (runtime, agent):
        agent.deliver(slow())
        runtime.wait_ready()
        with ThreadPoolExecutor(1) as pool:
            path, body = "/v2/models/model/infer", rows(SLOW_ROWS)
            pending = pool.submit(runtime.ask, path, body, headers=HEADERS)
            eventually(lambda: in_flight(runtime) == 1 or pending.done(), runtime.describe)
            assert not pending.done(), "the inference has to last longer than the test needs"
            began = time.monotonic()
            agent.channel.send(Revoke(reason=Reason.KEY_REVOKED))
            answer = pending.result()
            code = runtime.exit_code()
            took = time.monotonic() - began
    assert code == LeaseError.exit_code
    assert took <= RUNTIME_EXIT_BOUND
    assert answer.status == 503
    assert answer.json == {"error": "the right to serve the model has ended"}


def in_flight(runtime: Runtime) -> float:
    """Return how many requests wait or run."""
    for line in runtime.ask("/metrics", port="health").body.decode().splitlines():
        if line.startswith("modelseal_in_flight "):
            return float(line.split()[1])
    raise AssertionError("there is no such metric")


def file(length: int = 1) -> list[File]:
    """Return one file's entry."""
    return [File(path="model.xml", role="model", offset=0, length=length)]


def unsealed(length: int) -> int:
    """Return a memfd that its maker may still write."""
    descriptor = os.memfd_create("model", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, length)
    return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)


def refused(waiting: tuple[Runtime, Agent], descriptors: list[int], size: int) -> str:
    """Deliver something bad; return what the runtime says as it ends."""
    runtime, agent = waiting
    agent.send_model(file(), size, descriptors)
    answer = agent.channel.receive()
    if answer is not None:  # the runtime could say why
        assert answer[0] == LoadFailed(reason=Reason.PEER_REJECTED)
    assert runtime.exit_code(RUNTIME_EXIT_BOUND + SEEN) == PeerRejected.exit_code
    return runtime.describe()


def test_memory_that_is_not_sealed_is_refused(waiting: tuple[Runtime, Agent]) -> None:
    assert "it is not sealed" in refused(waiting, [unsealed(PAGE)], PAGE)


def test_memory_that_could_be_written_is_refused(waiting: tuple[Runtime, Agent]) -> None:
    agent = waiting[1]
    agent.place({"model.xml": b"<net/>"})
    assert agent.memory is not None
    assert "it is not read-only" in refused(waiting, [agent.memory._fd], PAGE)


def test_memory_that_is_shorter_than_announced_is_refused(waiting: tuple[Runtime, Agent]) -> None:
    agent = waiting[1]
    agent.place({"model.xml": b"<net/>"})
    assert agent.memory is not None
    said = refused(waiting, [agent.memory.reader()], PAGE + 1)
    assert "its size is not the announced one" in said


def test_a_file_is_no_memory(waiting: tuple[Runtime, Agent], tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    path.write_bytes(b"x" * PAGE)
    with path.open("rb") as stream:
        assert "it is not a memfd" in refused(waiting, [stream.fileno()], PAGE)


@pytest.mark.parametrize("count", [0, 2])
def test_a_model_without_exactly_one_descriptor_is_refused(
    waiting: tuple[Runtime, Agent], count: int
) -> None:
    agent = waiting[1]
    agent.place({"model.xml": b"<net/>"})
    assert agent.memory is not None
    readers = [agent.memory.reader() for _ in range(count)]
    runtime, _ = waiting
    agent.channel.send(Model(model="a/b", version="1", digest="d", size=PAGE, files=1), readers)
    assert runtime.exit_code() == PeerRejected.exit_code


def test_a_descriptor_where_none_belongs_ends_the_process(serving: tuple[Runtime, Agent]) -> None:
    runtime, agent = serving
    with open("/dev/null", "rb") as stream:
        agent.channel.send(Lease(valid_for=60), [stream.fileno()])
    assert runtime.exit_code(RUNTIME_EXIT_BOUND + SEEN) == PeerRejected.exit_code


def test_a_model_that_does_not_load_is_reported_and_ends_the_process(
    waiting: tuple[Runtime, Agent],
) -> None:
    runtime, agent = waiting
    answer = agent.deliver({"model.xml": b"<net><layer name='canary'/></net>"})
    assert answer == LoadFailed(reason=Reason.MODEL_LOAD_FAILED)
    assert runtime.exit_code() == ModelLoadFailed.exit_code
    assert "canary" not in runtime.describe()


def test_an_absent_device_is_reported_and_ends_the_process(tmp_path: Path) -> None:
    with joined(tmp_path / "log", {Env.DEVICES: "NPU"}) as (runtime, agent):
        answer = agent.deliver(models.perceptron())
        assert answer == LoadFailed(reason=Reason.DEVICE_UNAVAILABLE)
        assert runtime.exit_code() == DeviceUnavailable.exit_code


def listener(path: Path) -> socket.socket:
    """Listen as an agent does."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.bind(str(path))
    sock.listen()
    sock.settimeout(30)
    return sock


def test_a_runtime_finds_its_agent_whenever_it_comes_and_comes_again(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    variables = {Env.SOCKET: str(path), Env.PEER_UID: HERE}
    with running(tmp_path / "log", variables) as runtime:
        eventually(lambda: "waiting for the agent" in runtime.describe())
        assert status(runtime, "/livez") == 200
        with listener(path) as first:
            connection, _ = first.accept()
            with Agent(channel=Channel(connection)) as agent:
                assert agent.hello() == Hello(protocol=1, empty=True)
        path.unlink()
        with listener(path) as second:
            connection, _ = second.accept()
            with Agent(channel=Channel(connection)) as agent:
                agent.hello()
                assert isinstance(agent.deliver(models.perceptron()), Loaded)
                runtime.wait_ready()
                agent.channel.close()
                assert runtime.exit_code(RUNTIME_EXIT_BOUND + SEEN) == LeaseError.exit_code


def test_a_listener_of_another_user_is_told_nothing(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with (
        listener(path) as sock,
        running(
            tmp_path / "log", {Env.SOCKET: str(path), Env.PEER_UID: str(os.getuid() + 1)}
        ) as runtime,
    ):
        for _ in range(2):  # it tries again, and does not believe it again
            connection, _address = sock.accept()
            with connection:
                connection.settimeout(30)
                assert connection.recv(1000) == b""
        eventually(lambda: "failed to trust the socket's peer" in runtime.describe())
        assert (status(runtime, "/livez"), status(runtime, "/readyz")) == (200, 503)


@pytest.mark.parametrize("name", [Env.REST_PORT, Env.GRPC_PORT, Env.HEALTH_PORT])
def test_a_taken_port_is_said_with_its_own_exit_code(tmp_path: Path, name: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        variables = {name: str(port), Env.PEER_UID: HERE, Env.SOCKET: str(tmp_path / "none")}
        with running(tmp_path / "log", variables) as runtime:
            assert runtime.exit_code() == PortInUse.exit_code == 15
            assert f"port {port}" in runtime.describe()


def test_a_missing_setting_is_said_with_its_own_exit_code(tmp_path: Path) -> None:
    with running(tmp_path / "log", {}) as runtime:
        assert runtime.exit_code() == 10
        assert "MODELSEAL_PEER_UID is not set" in runtime.describe()


def test_the_process_is_hardened_and_works_in_a_directory_that_is_gone(
    serving: tuple[Runtime, Agent],
) -> None:
    runtime, _ = serving
    process = Path(f"/proc/{runtime.process.pid}")
    (core,) = [line for line in (process / "limits").read_text().splitlines() if "core" in line]
    assert core.split()[4:6] == ["1", "1"]
    if os.getuid() != 0:  # being undumpable, it shows the rest to root only
        with pytest.raises(PermissionError):
            (process / "maps").read_text()
        return
    assert os.readlink(process / "cwd").endswith("(deleted)")
    kept = [line for line in (process / "maps").read_text().splitlines() if "memfd:" in line]
    assert kept, "the delivered memory is mapped"
    assert all(" r--s " in line for line in kept)
