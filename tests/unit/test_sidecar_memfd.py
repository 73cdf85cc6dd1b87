"""The agent's side of the socket: who is let in, what is handed over, and how it is taken back."""

import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from modelseal import handover
from modelseal.contract import OVERFLOW_UID, RUNTIME_EXIT_BOUND, Delivery, Reason
from modelseal.errors import DeviceUnavailable, SettingsError
from modelseal.memory import PlaintextMemory
from modelseal_sidecar import memfd
from modelseal_sidecar.acceptor import PairAcceptor, SocketAcceptor
from modelseal_sidecar.delivery import Parcel
from modelseal_sidecar.memfd import MemfdDelivery
from modelseal_sidecar.status import Board, Status
from modelseal_sidecar.wake import Wake, boottime
from support.agent_peer import Peer, until

CONTENT = bytes(range(256)) * 64
LEASE = 60.0


def board() -> Board:
    return Board(Status(delivery=Delivery.MEMFD, model="a/b", since=datetime.now(UTC)))


def parcel(files: int = 2) -> Parcel:
    memory = PlaintextMemory(len(CONTENT))
    memory.view[: len(CONTENT)] = CONTENT
    half = len(CONTENT) // 2
    entries = [
        handover.File(path=f"{'d' * 200}/{i}", role="other", offset=(i % 2) * half, length=half)
        for i in range(files)
    ]
    model = handover.Model(
        model="a/b", version="1", digest="sha256:" + "0" * 64, size=len(CONTENT), files=files
    )
    return Parcel(memory=memory, model=model, files=tuple(entries))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent.sock"


@pytest.fixture
def delivery(path: Path) -> Iterator[MemfdDelivery]:
    made = MemfdDelivery(SocketAcceptor(path, os.getuid()), board(), Wake())
    made.start()
    yield made
    made.close()


def status(delivery: MemfdDelivery) -> Status:
    return delivery._board.read()


def test_a_runtime_gets_the_model_its_files_and_its_lease(
    delivery: MemfdDelivery, path: Path
) -> None:
    with Peer.connect(path).hello() as peer:
        delivery.deliver(parcel(), LEASE)
        delivered = peer.model()
        assert b"".join(delivered.content().values()) == CONTENT
        assert peer.expect(handover.Lease).valid_for == pytest.approx(LEASE, abs=1)


def test_many_files_are_split_into_messages(delivery: MemfdDelivery, path: Path) -> None:
    delivery.deliver(parcel(files=1000), LEASE)
    with Peer.connect(path).hello() as peer:
        assert len(peer.model().files) == 1000


def test_what_the_runtime_told_is_on_the_board(delivery: MemfdDelivery, path: Path) -> None:
    delivery.deliver(parcel(), LEASE)
    with Peer.connect(path).hello() as peer:
        peer.model()
        peer.loaded("GPU.0")
        until(lambda: status(delivery).runtime.result is Reason.SERVING)
        assert status(delivery).runtime.connected
        assert status(delivery).runtime.device == "GPU.0"
    until(lambda: not status(delivery).runtime.connected)
    assert status(delivery).runtime.result is None


def test_why_loading_failed_stays_on_show_while_the_runtime_restarts(
    delivery: MemfdDelivery, path: Path
) -> None:
    delivery.deliver(parcel(), LEASE)
    with Peer.connect(path).hello() as peer:
        peer.model()
        peer.channel.send(handover.LoadFailed(reason=Reason.DEVICE_UNAVAILABLE))
        until(lambda: status(delivery).runtime.result is Reason.DEVICE_UNAVAILABLE)
    until(lambda: not status(delivery).runtime.connected)
    assert status(delivery).runtime.result is Reason.DEVICE_UNAVAILABLE
    with Peer.connect(path).hello() as peer:
        peer.model()
        peer.loaded()
        until(lambda: status(delivery).runtime.result is Reason.SERVING)


def test_a_runtime_that_restarted_gets_the_same_memory(delivery: MemfdDelivery, path: Path) -> None:
    delivery.deliver(parcel(), LEASE)
    inodes = []
    for _ in range(3):
        with Peer.connect(path).hello() as peer:
            inodes.append(os.fstat(peer.model().descriptor).st_ino)
    assert len(set(inodes)) == 1


def test_a_lease_that_ran_down_is_not_longer_for_a_new_runtime(
    delivery: MemfdDelivery, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery.deliver(parcel(), LEASE)
    now = boottime()
    monkeypatch.setattr(delivery._wake, "now", lambda: now + 50)
    with Peer.connect(path).hello() as peer:
        peer.model()
        assert peer.expect(handover.Lease).valid_for == pytest.approx(10, abs=1)


def test_only_one_connection_is_live(delivery: MemfdDelivery, path: Path) -> None:
    delivery.deliver(parcel(), LEASE)
    with Peer.connect(path).hello() as first:
        first.model()
        with Peer.connect(path).hello() as second:
            assert second.silent(0.3)
            first.close()
            assert second.model().model.model == "a/b"


@pytest.mark.parametrize("uid", [os.getuid() + 1, OVERFLOW_UID])
def test_a_peer_of_another_uid_gets_nothing(path: Path, uid: int) -> None:
    made = MemfdDelivery(SocketAcceptor(path, uid), board(), Wake())
    made.start()
    made.deliver(parcel(), LEASE)
    with Peer.connect(path) as peer:
        assert peer.refused()
    until(lambda: status(made).runtime.rejected)
    assert not status(made).runtime.connected
    made.close()


def test_nobody_is_trusted_with_the_overflow_uid(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover.Channel, "peer_uid", lambda _: OVERFLOW_UID)
    made = MemfdDelivery(SocketAcceptor(path, OVERFLOW_UID), board(), Wake())
    made.start()
    made.deliver(parcel(), LEASE)
    with Peer.connect(path) as peer:
        assert peer.refused()
    made.close()


def test_a_silent_peer_is_dropped(
    delivery: MemfdDelivery, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memfd, "HELLO_BOUND", 0.2)
    delivery.deliver(parcel(), LEASE)
    with Peer.connect(path) as peer:
        assert peer.ended()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"{}", id="no type"),
        pytest.param(b"\xff", id="not JSON"),
        pytest.param(b'{"type":"Hello","protocol":2,"empty":true}', id="another protocol"),
        pytest.param(b'{"type":"Hello","protocol":1,"empty":true,"x":1}', id="unknown field"),
        pytest.param(
            b'{"type":"Loaded","device":"CPU","load_seconds":1}', id="loaded before model"
        ),
        pytest.param(b'{"type":"Lease","valid_for":1}', id="a message that only agents send"),
        pytest.param(b"x" * (65 << 10), id="too long"),
    ],
)
def test_a_malformed_message_ends_the_connection(
    delivery: MemfdDelivery, path: Path, data: bytes
) -> None:
    delivery.deliver(parcel(), LEASE)
    with Peer.connect(path) as peer:
        peer.raw(data)
        assert peer.ended()
    assert status(delivery).runtime.rejected


def test_a_runtime_may_not_send_descriptors(delivery: MemfdDelivery, path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with Peer.connect(path) as peer:
        hello = handover.encode(handover.Hello(protocol=handover.PROTOCOL, empty=True))
        peer.raw(hello, (0, 1))
        assert peer.ended()
    until(lambda: len(os.listdir("/proc/self/fd")) <= before, what="descriptors were closed")


def test_a_second_hello_after_the_model_is_out_of_order(
    delivery: MemfdDelivery, path: Path
) -> None:
    delivery.deliver(parcel(), LEASE)
    with Peer.connect(path).hello() as peer:
        peer.model()
        peer.hello()
        assert peer.ended()


def test_a_runtime_that_still_holds_a_model_gets_none(delivery: MemfdDelivery, path: Path) -> None:
    delivery.deliver(parcel(), LEASE)
    with Peer.connect(path).hello(empty=False) as peer:
        assert peer.silent(0.3)
        peer.hello(empty=True)
        assert peer.model().model.model == "a/b"


def test_revocation_asks_first_and_wipes_when_the_runtime_is_gone(
    delivery: MemfdDelivery, path: Path
) -> None:
    delivery.deliver(parcel(), LEASE)
    with Peer.connect(path).hello() as peer:
        mapping = peer.model().map()
        withdrawing = threading.Thread(target=delivery.withdraw, args=(Reason.KEY_REVOKED,))
        withdrawing.start()
        assert peer.next_of(handover.Revoke).reason is Reason.KEY_REVOKED
        assert mapping[:16] == CONTENT[:16]
        assert not status(delivery).healthy
        mapping.close()
        peer.close()
        withdrawing.join(RUNTIME_EXIT_BOUND / 2)
        assert not withdrawing.is_alive()
    assert delivery.released()
    until(lambda: status(delivery).healthy)


def test_a_hung_runtime_loses_the_memory_and_its_probe(
    delivery: MemfdDelivery, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memfd, "RUNTIME_EXIT_BOUND", 0.2)
    delivery.deliver(parcel(), LEASE)
    with Peer.connect(path).hello() as peer:
        descriptor = peer.model().descriptor
        delivery.withdraw(Reason.KEY_ACCESS_DENIED)
        assert os.fstat(descriptor).st_size == 0
        assert not status(delivery).healthy
        assert not delivery.released()
    until(delivery.released)
    assert status(delivery).healthy


def test_a_runtime_that_comes_after_a_withdrawal_waits(delivery: MemfdDelivery, path: Path) -> None:
    delivery.deliver(parcel(), LEASE)
    delivery.withdraw(Reason.KEY_REVOKED)
    with Peer.connect(path).hello() as peer:
        assert peer.silent(0.3)
        assert status(delivery).healthy
        delivery.deliver(parcel(), LEASE)
        peer.model()


def test_a_runtime_that_does_not_read_cannot_delay_a_withdrawal(
    delivery: MemfdDelivery, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memfd, "SEND_BOUND", 0.2)
    monkeypatch.setattr(memfd, "RUNTIME_EXIT_BOUND", 0.2)
    with Peer.connect(path).hello():
        until(lambda: status(delivery).runtime.connected)
        begun = time.monotonic()
        delivery.deliver(parcel(files=4000), LEASE)
        delivery.withdraw(Reason.KEY_REVOKED)
        assert time.monotonic() - begun < 2


def test_a_stale_socket_means_waiting_for_an_empty_runtime(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(path))
    made = MemfdDelivery(SocketAcceptor(path, os.getuid()), board(), Wake())
    made.start()
    assert not made.has_room()
    with Peer.connect(path).hello(empty=False):
        until(lambda: status(made).runtime.connected)
        assert not made.has_room()
    with Peer.connect(path).hello(empty=True):
        until(made.has_room)
    made.close()


def test_without_a_stale_socket_memory_may_be_taken_at_once(delivery: MemfdDelivery) -> None:
    assert delivery.has_room()
    assert status(delivery).started


def test_an_orderly_end_leaves_no_socket(path: Path) -> None:
    made = MemfdDelivery(SocketAcceptor(path, os.getuid()), board(), Wake())
    made.start()
    made.close()
    made.close()
    assert not path.exists()


def test_what_is_not_a_socket_is_not_removed(path: Path) -> None:
    path.write_text("precious")
    made = MemfdDelivery(SocketAcceptor(path, 0), board(), Wake())
    with pytest.raises(SettingsError, match="not a socket"):
        made.start()
    assert path.read_text() == "precious"
    made.close()


@pytest.mark.parametrize(
    "path", [Path("/nowhere/agent.sock"), Path("/") / ("x" * 120)], ids=["absent", "long"]
)
def test_a_directory_that_cannot_be_listened_in_is_named(path: Path) -> None:
    with pytest.raises(SettingsError, match="failed to listen"):
        SocketAcceptor(path, 0).listen()


def test_on_a_pair_the_runtime_may_take_long_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memfd, "HELLO_BOUND", 0.0)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made = MemfdDelivery(PairAcceptor(ours.detach()), board(), Wake())
    made.start()
    made.deliver(parcel(), LEASE)
    with Peer(theirs) as peer:
        assert not select.select([theirs], [], [], 0.2)[0], "it was not left"
        assert b"".join(peer.hello().model().content().values()) == CONTENT
    made.close()


def test_on_a_pair_the_runtimes_end_is_final_and_keeps_its_reason() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made = MemfdDelivery(PairAcceptor(ours.detach()), board(), Wake())
    made.start()
    made.deliver(parcel(), LEASE)
    with Peer(theirs).hello() as peer:
        peer.model()
        assert made.lost() is None
        peer.channel.send(handover.LoadFailed(reason=Reason.DEVICE_UNAVAILABLE))
        until(lambda: status(made).runtime.result is Reason.DEVICE_UNAVAILABLE)
    until(lambda: made.lost() is not None)
    assert isinstance(made.lost(), DeviceUnavailable)
    assert not made.again
    made.close()


def test_only_one_end_of_a_message_pair_is_taken_for_one(tmp_path: Path) -> None:
    stream, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with other, pytest.raises(SettingsError, match="not one end"):
        PairAcceptor(stream.detach())
    folder = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(SettingsError, match="not one end"):
        PairAcceptor(folder)
    os.close(folder)


def test_memory_is_given_back_even_while_a_traceback_holds_a_view() -> None:
    for name in ("modelseal", None):
        memory = PlaintextMemory(len(CONTENT), name=name)
        memory.view[: len(CONTENT)] = CONTENT
        part = memory.view[:64]
        memory.release()
        memory.release()
        assert name is not None or bytes(part) == bytes(64)
