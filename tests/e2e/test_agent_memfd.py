"""The real agent with a key file: it delivers over a socket, recovers, and takes back."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from modelseal import handover
from modelseal.contract import MAX_REPORT_BYTES, MAX_TERMINATION_BYTES, Env, Reason
from modelseal.errors import PostureRefused, RollbackRejected
from modelseal.keys.local import KeyFileProvider, PassphraseProvider, generate_key_file
from modelseal.memory import page_aligned
from modelseal.secret import Secret
from support.agent_models import FILES, MODEL, SOON, WEIGHTS, SealedModel, seal_ending, seal_model
from support.agent_peer import Peer, until
from support.agent_process import AgentProcess, descriptor_path

pytestmark = pytest.mark.e2e
RUNTIME_UID = 10002


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "model.key"
    generate_key_file(path)
    return path


@pytest.fixture
def sealed(tmp_path: Path, key: Path) -> SealedModel:
    return seal_model(tmp_path / "sealed", KeyFileProvider(key))


@pytest.fixture
def shared() -> Iterator[Path]:
    """Return a directory in memory that every user may enter, as the pod's volume."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="modelseal-test-") as path:
        Path(path).chmod(0o755)
        yield Path(path)


@pytest.fixture
def environ(sealed: SealedModel, key: Path, shared: Path) -> dict[Env, str]:
    """Return what an agent needs that listens for this process as its runtime."""
    return sealed.environ() | {
        Env.KEY: f"file:{key}",
        Env.SOCKET: str(shared / "agent.sock"),
        Env.PEER_UID: str(os.getuid()),
    }


Paired = tuple[AgentProcess, Peer]


@pytest.fixture
def pair(tmp_path: Path, environ: dict[Env, str]) -> Iterator[Callable[..., Paired]]:
    """Return a function that starts an agent on one end of a socketpair."""
    with contextlib.ExitStack() as stack:

        def start(
            changes: dict[Env, str] | None = None, descriptors: tuple[int, ...] = ()
        ) -> Paired:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                values = environ | {Env.SOCKET_FD: str(theirs.fileno())} | (changes or {})
                passed = (theirs.fileno(), *descriptors)
                agent = stack.enter_context(AgentProcess(tmp_path, values, descriptors=passed))
            return agent, stack.enter_context(Peer(ours))

        yield start


def test_a_sealed_model_is_served_over_a_socketpair(
    pair: Callable[..., Paired], sealed: SealedModel
) -> None:
    agent, peer = pair()
    delivered = peer.hello().model()
    assert delivered.content() == FILES
    assert [file.role for file in delivered.files] == ["model", "weights", "other"]
    assert delivered.model.digest == sealed.seal.digest
    assert peer.expect(handover.Lease).valid_for == pytest.approx(60 * 1.2 + 10, abs=2)
    peer.loaded()
    report = agent.until_reason("Serving")
    assert (report["stage"], report["model"], report["version"]) == ("Lease", MODEL, "1.2")
    assert report["digest"] == sealed.seal.digest
    assert report["modelSize"] == sum(page_aligned(len(content)) for content in FILES.values())
    assert report["runtime"] == {
        "connected": True, "result": "Serving", "device": "CPU", "loadSeconds": 0.25,
    }  # fmt: skip
    assert agent.get("/healthz")[0] == agent.lease() == 200
    assert agent.children() == []


def test_on_sigterm_the_agent_takes_the_model_back_and_ends_well(
    pair: Callable[..., Paired],
) -> None:
    agent, peer = pair()
    descriptor = peer.hello().model().descriptor
    agent.process.send_signal(signal.SIGTERM)
    assert peer.next_of(handover.Revoke).reason is Reason.LEASE_ENDED
    until(lambda: os.fstat(descriptor).st_size == 0, what="the memory was truncated")
    assert agent.wait() == 0


def test_a_stop_before_any_model_is_an_orderly_end_too(
    tmp_path: Path, environ: dict[Env, str]
) -> None:
    with AgentProcess(tmp_path, environ | {Env.SOURCE: str(tmp_path / "nowhere")}) as agent:
        agent.until_reason("SourceNotFound")
        assert agent.stop() == 0


def test_the_lease_ends_with_the_runtime_of_a_pair(pair: Callable[..., Paired]) -> None:
    agent, peer = pair()
    peer.hello().model()
    peer.close()
    assert agent.wait() == 90
    assert agent.termination()["reason"] == "DeliveryFailed"


def test_a_runtime_that_restarted_gets_the_same_bytes_in_the_same_memory(
    tmp_path: Path, environ: dict[Env, str]
) -> None:
    path = Path(environ[Env.SOCKET])
    with AgentProcess(tmp_path, environ) as agent:
        with Peer.connect(path).hello() as peer:
            first = peer.model()
            inode, content = os.fstat(first.descriptor).st_ino, first.content()
            peer.loaded()
            agent.until_reason("Serving")
        agent.until_reason("WaitingForRuntime")
        assert agent.lease() == 200
        with Peer.connect(path).hello() as peer:
            second = peer.model()
            assert os.fstat(second.descriptor).st_ino == inode
            assert second.content() == content == FILES
            peer.loaded()
            agent.until_reason("Serving")
        assert agent.stop() == 0
    assert not path.exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can take another uid")
def test_a_process_of_another_user_gets_nothing(tmp_path: Path, environ: dict[Env, str]) -> None:
    path = Path(environ[Env.SOCKET])
    with AgentProcess(tmp_path, environ | {Env.PEER_UID: str(RUNTIME_UID)}) as agent:
        with Peer.connect(path) as stranger:
            assert stranger.refused()
        agent.until_reason("PeerRejected")
        with connected_as(RUNTIME_UID, path).hello() as peer:
            assert peer.model().content() == FILES
            agent.until_reason("Starting")


def connected_as(uid: int, path: Path) -> Peer:
    """Connect with another effective uid, which is what the kernel tells the listener."""
    os.seteuid(uid)
    try:
        return Peer.connect(path)
    finally:
        os.seteuid(0)


def test_a_killed_agent_ends_the_stream_and_its_successor_waits_for_an_empty_runtime(
    tmp_path: Path, environ: dict[Env, str]
) -> None:
    path = Path(environ[Env.SOCKET])
    with AgentProcess(tmp_path, environ) as agent, Peer.connect(path).hello() as peer:
        peer.model()
        agent.kill()
        assert peer.ended(seconds=2)
    assert path.is_socket()
    with AgentProcess(tmp_path, environ) as agent:
        with Peer.connect(path).hello(empty=False) as full:
            until(lambda: agent.report()["runtime"]["connected"])
            report = agent.report()
            assert (report["stage"], report["reason"]) == ("Deliver", "WaitingForRuntime")
            assert report["digest"] is None, "nothing was opened"
            assert agent.get("/healthz")[0] == 200
            assert full.silent(0.5)
            assert "memfd:modelseal" not in open_files(agent)
        with Peer.connect(path).hello() as empty:
            assert empty.model().content() == FILES


def open_files(agent: AgentProcess) -> str:
    folder = Path(f"/proc/{agent.pid}/fd")
    return "\n".join(os.readlink(entry) for entry in folder.iterdir())


def test_no_file_system_holds_anything_of_the_model(
    tmp_path: Path, environ: dict[Env, str]
) -> None:
    with (
        AgentProcess(tmp_path, environ) as agent,
        Peer.connect(Path(environ[Env.SOCKET])).hello() as peer,
    ):
        peer.model()
        writable = [line for line in open_files(agent).splitlines() if line.startswith("/")]
        allowed = ("/dev/", "/memfd:modelseal", str(tmp_path / "agent-"), str(tmp_path / "sealed"))
        assert [line for line in writable if not line.startswith(allowed)] == []
        maps = Path(f"/proc/{agent.pid}/maps").read_text()
        assert " rw-s" not in [line for line in maps.splitlines() if "memfd:modelseal" in line]
        assert "Max core file size        1 " in Path(f"/proc/{agent.pid}/limits").read_text()


def test_a_published_model_is_found_without_a_restart(
    tmp_path: Path, environ: dict[Env, str], sealed: SealedModel
) -> None:
    hidden = sealed.folder.with_name("hidden")
    sealed.folder.rename(hidden)
    with AgentProcess(tmp_path, environ) as agent:
        report = agent.until_reason("SourceNotFound")
        assert report["stage"] == "Fetch"
        until(lambda: agent.report()["attempts"] >= 2)
        hidden.rename(sealed.folder)
        with Peer.connect(Path(environ[Env.SOCKET])).hello() as peer:
            assert peer.model(seconds=10).content() == FILES
        until(lambda: agent.report()["attempts"] == 0)


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset, os.SEEK_SET if offset >= 0 else os.SEEK_END)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


def extend(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def unsign(path: Path) -> None:
    document = json.loads(path.read_text())
    document["envelope"]["signatures"] = []
    path.write_text(json.dumps(document))


def spoil(damage: Callable[[Path], object], code: int, reason: str, name: str) -> ParameterSet:
    """Return a row: what is done to the sealed model, and the agent's end."""
    return pytest.param(damage, {}, (code, reason), id=name)


def demand(variable: Env, value: str, code: int, reason: str) -> ParameterSet:
    """Return a row: what is demanded of an unharmed model, and the agent's end."""
    return pytest.param(lambda _: None, {variable: value}, (code, reason), id=f"{variable}={value}")


@pytest.mark.parametrize(
    ("damage", "changes", "expected"),
    [
        spoil(lambda f: flip(f / "p/2.floe", -1), 82, "SegmentInvalid", "last byte flipped"),
        spoil(lambda f: flip(f / "p/2.floe", 80), 82, "SegmentInvalid", "segment flipped"),
        spoil(lambda f: flip(f / "p/1.floe", 20), 81, "KeyCommitmentMismatch", "header flipped"),
        spoil(lambda f: os.truncate(f / "p/2.floe", 3 << 20), 83, "Truncated", "truncated"),
        spoil(lambda f: extend(f / "p/2.floe"), 84, "TrailingData", "extended"),
        spoil(lambda f: unsign(f / "seal.json"), 31, "SignatureMissing", "unsigned"),
        spoil(lambda f: (f / "seal.json").write_text("{"), 20, "HeaderInvalid", "not JSON"),
        spoil(lambda f: (f / "seal.json").write_text("<?xml?>"), 22, "NotSealed", "plaintext"),
        demand(Env.MODEL, "vision/other", 40, "ModelNameMismatch"),
        demand(Env.MIN_SEQUENCE, "8", 41, "RollbackRejected"),
        demand(Env.DIGEST, "sha256:" + "0" * 64, 41, "RollbackRejected"),
        demand(Env.MODEL_SIZE, "4096", 43, "ModelTooLarge"),
        demand(Env.LEASE_INTERVAL, "1", 10, "SettingsInvalid"),
        demand(Env.SIGNERS, "ed25519:AAAA", 10, "SettingsInvalid"),
        demand(Env.KEY, "tpm:0", 10, "SettingsInvalid"),
    ],
)
def test_what_no_try_can_cure_ends_the_agent_with_its_name(
    pair: Callable[..., Paired],
    sealed: SealedModel,
    damage: Callable[[Path], object],
    changes: dict[Env, str],
    expected: tuple[int, str],
) -> None:
    code, reason = expected
    damage(sealed.folder)
    agent, peer = pair(changes)
    with contextlib.suppress(BrokenPipeError):
        peer.hello()
    assert agent.wait() == code, agent.log_text()
    assert peer.ended(), "no model was handed over"
    message = agent.termination()
    assert (message["reason"], message["exitCode"]) == (reason, code)
    assert agent.termination_size() <= MAX_TERMINATION_BYTES
    if reason == "ModelTooLarge":
        assert message["modelSize"] == sum(page_aligned(len(content)) for content in FILES.values())
    assert agent.log_lines()[-1]["reason"] == reason


def test_another_key_file_ends_the_agent(pair: Callable[..., Paired], tmp_path: Path) -> None:
    generate_key_file(tmp_path / "other.key")
    agent, _ = pair({Env.KEY: f"file:{tmp_path / 'other.key'}"})
    assert agent.wait() == 68


def test_a_key_file_that_is_taken_away_ends_the_lease(
    pair: Callable[..., Paired], key: Path
) -> None:
    agent, peer = pair({Env.LEASE_INTERVAL: "5"})
    peer.hello().model()
    key.unlink()
    assert peer.next_of(handover.Revoke, seconds=5 * 1.2 + 2).reason is Reason.KEY_NOT_FOUND
    peer.close()
    assert agent.wait() == 62


def test_the_seals_end_ends_a_running_lease(
    pair: Callable[..., Paired], tmp_path: Path, key: Path
) -> None:
    short = seal_ending(tmp_path / "short", KeyFileProvider(key))
    agent, peer = pair(dict(short.environ()))
    peer.hello().model()
    assert peer.expect(handover.Lease).valid_for <= SOON.total_seconds()
    assert peer.next_of(handover.Revoke).reason is Reason.EXPIRED
    end = short.seal.manifest.not_after
    assert end is not None
    assert datetime.now(UTC) < end + timedelta(seconds=2)
    peer.close()
    assert agent.wait() == 42
    assert agent.termination()["reason"] == "Expired"


def test_a_passphrase_comes_through_an_inherited_pipe(
    pair: Callable[..., Paired], tmp_path: Path
) -> None:
    phrase = b"correct horse CANARY staple"
    locked = seal_model(tmp_path / "locked", PassphraseProvider(lambda: Secret(phrase)))
    read, write = os.pipe()
    os.write(write, phrase + b"\n")
    os.close(write)
    changes = {Env.KEY: "passphrase:", Env.PASSPHRASE_FILE: descriptor_path(read)}
    agent, peer = pair(dict(locked.environ()) | changes, descriptors=(read,))
    os.close(read)
    assert peer.hello().model().content() == FILES
    peer.loaded()
    agent.until_reason("Serving")
    told = agent.get("/report")[1] + agent.log_text().encode()
    told += Path(f"/proc/{agent.pid}/environ").read_bytes()
    told += Path(f"/proc/{agent.pid}/cmdline").read_bytes()
    assert b"CANARY" not in told


@pytest.mark.negative(33)
def test_nothing_that_the_agent_says_holds_a_secret(pair: Callable[..., Paired], key: Path) -> None:
    agent, peer = pair({Env.LOG_LEVEL: "debug"})
    peer.hello().model()
    peer.loaded("\x1b[2J<b>" + "x" * 900)
    report = agent.until_reason("Serving")
    assert report["runtime"]["device"].startswith("?[2J?b?x".replace("[", "?"))
    body = agent.get("/report")[1]
    assert len(body) <= MAX_REPORT_BYTES
    secrets = [key.read_bytes().strip(), WEIGHTS[:64], b"net.xml", b"net.bin"]
    told = body + agent.log_text().encode()
    assert [secret for secret in secrets if secret in told] == []
    assert all(line["event"] for line in agent.log_lines())


def test_a_taken_report_port_has_its_own_exit_code(
    pair: Callable[..., Paired],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        agent, _ = pair({Env.REPORT_PORT: str(taken.getsockname()[1])})
        assert agent.wait() == 15


HUNG: str = """
import mmap, signal, sys
m = mmap.mmap(int(sys.argv[1]), 0, prot=mmap.PROT_READ)
first = m[:64]
print("mapped", flush=True)
while m[:64] == first:
    pass
print("zeros" if m[:64] == bytes(64) else "else", flush=True)
while True:
    m[:64]
"""


def test_a_hung_runtime_loses_the_model_under_its_feet(
    tmp_path: Path, environ: dict[Env, str], key: Path
) -> None:
    """A reader that ignores `Revoke` is killed by its next access; its probe fails until then."""
    short = seal_ending(tmp_path / "short", KeyFileProvider(key))
    path = Path(environ[Env.SOCKET])
    with (
        AgentProcess(tmp_path, environ | short.environ()) as agent,
        Peer.connect(path).hello() as peer,
    ):
        descriptor = peer.model().descriptor
        hung = subprocess.Popen(
            [sys.executable, "-c", HUNG, str(descriptor)],
            pass_fds=(descriptor,),
            stdout=subprocess.PIPE,
        )
        assert hung.stdout is not None
        assert hung.stdout.readline() == b"mapped\n"
        peer.next_of(handover.Revoke)
        assert agent.lease() == 503
        assert hung.wait(5) == -signal.SIGBUS
        assert hung.stdout.read() in (b"zeros\n", b"")
        hung.stdout.close()
        assert os.fstat(descriptor).st_size == 0
        assert agent.lease() == 503, "until the connection has ended"
        assert agent.process.poll() is None
        peer.close()
        assert agent.wait() == 42


def test_below_the_demanded_posture_no_key_is_asked_for(
    tmp_path: Path, environ: dict[Env, str]
) -> None:
    changes = {Env.POSTURE: "NoNewPrivileges,ConfidentialMemory", Env.KEY: "file:/nowhere"}
    with AgentProcess(tmp_path, environ | changes) as agent:
        assert agent.wait() == PostureRefused.exit_code
        assert agent.termination()["reason"] == "PostureRefused"


def test_a_version_that_is_withdrawn_while_it_is_served_is_unloaded(
    tmp_path: Path, environ: dict[Env, str]
) -> None:
    provider = tmp_path / "provider"
    provider.mkdir()
    changes = {Env.PROVIDER_DIRECTORY: str(provider), Env.LEASE_INTERVAL: "5"}
    with AgentProcess(tmp_path, environ | changes) as agent:
        with Peer.connect(Path(environ[Env.SOCKET])).hello() as peer:
            descriptor = peer.model().descriptor
            peer.loaded()
            agent.until_reason("Serving")
            (provider / "min-sequence").write_text("8")
            assert peer.next_of(handover.Revoke).reason is Reason.ROLLBACK_REJECTED
            until(lambda: os.fstat(descriptor).st_size == 0, what="the memory was truncated")
        assert agent.wait() == RollbackRejected.exit_code
    with AgentProcess(tmp_path, environ | changes) as agent:
        assert agent.wait() == RollbackRejected.exit_code, "and it does not open again"
