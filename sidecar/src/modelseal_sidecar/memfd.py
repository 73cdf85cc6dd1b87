"""Delivery of a sealed memfd over a socket to one runtime at a time (design section 8).

One thread accepts a connection, checks who it is, and reads what it says; the main thread offers a
parcel, extends the lease, and withdraws. The parcel stays this side's property: a runtime that
restarted gets the same memory again. Nothing here forks, so no child can keep a connection open.
"""

import contextlib
import logging
import os
import socket
import threading
from dataclasses import dataclass
from typing import Final

from modelseal import handover
from modelseal.contract import RUNTIME_EXIT_BOUND, Reason
from modelseal.errors import (
    DeliveryError,
    DeviceUnavailable,
    ModelLoadFailed,
    ModelsealError,
    OutOfMemory,
    PeerRejected,
)
from modelseal_sidecar.acceptor import Acceptor, wait_readable
from modelseal_sidecar.delivery import Parcel
from modelseal_sidecar.logs import log
from modelseal_sidecar.report import load_result, safe
from modelseal_sidecar.status import Board
from modelseal_sidecar.wake import Wake

SEND_BOUND: Final = 1.0
HELLO_BOUND: Final = 10.0
_REJECTED_PAUSE: Final = 0.2


@dataclass
class _Connection:
    """The live connection; guarded by the delivery's lock."""

    socket: socket.socket
    channel: handover.Channel
    greeted: bool = False
    empty: bool = False
    holds: bool = False


class MemfdDelivery:
    """Hands one parcel to whichever runtime is connected, and takes it back."""

    memory_name: str | None = "modelseal"

    def __init__(self, acceptor: Acceptor, board: Board, wake: Wake) -> None:
        self._acceptor: Final = acceptor
        self._board: Final = board
        self._wake: Final = wake
        self._lock: Final = threading.Condition()
        self._closing: Final = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread: Final = threading.Thread(target=self._run, name="socket", daemon=True)
        self._connection: _Connection | None = None
        self._parcel: Parcel | None = None
        self._valid_until = 0.0
        self._cleared = False
        self._closed = False
        self._over: ModelsealError | None = None

    @property
    def again(self) -> bool:
        """Whether another runtime can connect."""
        return not self._acceptor.once

    # --- for the main thread ---

    def start(self) -> None:
        """Listen; from now on the agent counts as started."""
        self._acceptor.listen()
        self._cleared = not self._acceptor.stale
        self._thread.start()
        self._board.change(started=True)

    def has_room(self) -> bool:
        """Whether no runtime may still hold the memory of an agent before this one."""
        with self._lock:
            return self._cleared

    def deliver(self, parcel: Parcel, valid_for: float) -> None:
        """Offer the parcel to the runtime that is connected, and to those that come later."""
        parcel.memory.seal()
        self._board.change_runtime(result=None)
        with self._lock:
            self._parcel = parcel
            self._valid_until = self._wake.now() + valid_for
            self._hand_over()

    def extend(self, valid_for: float) -> None:
        """Send the lease anew."""
        with self._lock:
            self._valid_until = self._wake.now() + valid_for
            if self._connection is not None and self._connection.holds:
                self._send(self._connection, handover.Lease(valid_for=valid_for))

    def lost(self) -> ModelsealError | None:
        """Return why the only runtime there can be is gone."""
        with self._lock:
            return self._over

    def withdraw(self, reason: Reason) -> None:
        """Revoke, give the runtime its time to exit, then zero and truncate the memory."""
        with self._lock:
            parcel, self._parcel = self._parcel, None
            if parcel is None:
                return
            connection = self._connection
            if connection is not None and connection.holds:
                self._board.change(healthy=False)
                self._send(connection, handover.Revoke(reason=reason))
                self._lock.wait_for(
                    lambda: self._connection is not connection, timeout=RUNTIME_EXIT_BOUND
                )
        parcel.memory.release()  # zeroes first, truncates last

    def released(self) -> bool:
        """Whether no connection that held a withdrawn model is left."""
        with self._lock:
            return self._connection is None or not self._connection.holds

    def close(self) -> None:
        """Withdraw what is left, then end the thread and the socket."""
        self.withdraw(Reason.LEASE_ENDED)
        if self._closed:
            return
        self._closed = True
        os.eventfd_write(self._closing, 1)
        if self._thread.ident is not None:
            self._thread.join()
        self._acceptor.close()
        os.close(self._closing)

    # --- the thread ---

    def _run(self) -> None:
        while (accepted := self._acceptor.accept(self._closing)) is not None:
            with handover.Channel(accepted) as channel:
                self._attend(_Connection(socket=accepted, channel=channel))
        self._wake.ring()

    def _attend(self, connection: _Connection) -> None:
        """Serve one connection to its end."""
        try:
            if self._acceptor.peer_uid is not None:
                connection.channel.require_peer(self._acceptor.peer_uid)
            connection.channel.set_timeout(SEND_BOUND)
            self._join(connection)
            self._converse(connection)
        except PeerRejected as error:
            log(logging.WARNING, "peer rejected", reason=error.reason, detail=error.message)
            self._board.change_runtime(rejected=True)
            wait_readable(self._closing, seconds=_REJECTED_PAUSE)
        except OSError:
            log(logging.INFO, "the runtime's connection broke")
        finally:
            self._part(connection)

    def _converse(self, connection: _Connection) -> None:
        while True:
            # the one peer of a pair is there before its program has started
            patient = connection.greeted or self._acceptor.once
            bound = None if patient else HELLO_BOUND
            ready = wait_readable(self._closing, connection.channel.fileno(), seconds=bound)
            if not ready:
                raise PeerRejected("failed to greet the socket's peer: it said nothing")
            if self._closing in ready:
                return
            received = connection.channel.receive()
            if received is None:
                return
            message, descriptors = received
            if descriptors:
                handover.close_all(descriptors)
                raise PeerRejected("failed to read a message on the socket: it has descriptors")
            self._hear(connection, message)
            self._wake.ring()

    def _join(self, connection: _Connection) -> None:
        with self._lock:
            self._connection = connection

    def _part(self, connection: _Connection) -> None:
        with self._lock:
            if self._connection is connection:
                self._connection = None
                self._board.change(healthy=True)
                self._note_gone()
                self._lock.notify_all()
        self._wake.ring()

    def _note_gone(self) -> None:
        """Forget what the runtime told, but for why it failed, until another one does better."""
        result = self._board.read().runtime.result
        if self._acceptor.once:
            self._over = _why_gone(result)
        kept = None if result is Reason.SERVING else result
        self._board.change_runtime(connected=False, result=kept, device=None, load_seconds=None)
        log(logging.INFO, "the runtime is gone")

    def _hear(self, connection: _Connection, message: handover.Message) -> None:
        """Act on one message of the runtime's, in the only order that is allowed."""
        if isinstance(message, handover.Hello) and not connection.holds:
            self._greet(connection, message)
        elif isinstance(message, handover.Loaded) and connection.holds:
            self._note_loaded(message)
        elif isinstance(message, handover.LoadFailed) and connection.holds:
            result = load_result(message.reason)
            log(logging.ERROR, "the runtime could not load the model", reason=result)
            self._board.change_runtime(result=result)
        else:
            raise PeerRejected("failed to understand the socket's peer: message out of order")

    def _note_loaded(self, message: handover.Loaded) -> None:
        log(logging.INFO, "the runtime loaded the model", device=safe(message.device, 64))
        self._board.change_runtime(
            result=Reason.SERVING, device=message.device, load_seconds=message.load_seconds
        )

    def _greet(self, connection: _Connection, hello: handover.Hello) -> None:
        log(logging.INFO, "a runtime connected", empty=hello.empty)
        with self._lock:
            connection.greeted, connection.empty = True, hello.empty
            self._cleared = self._cleared or hello.empty
            self._board.change_runtime(connected=True, rejected=False)
            self._hand_over()

    # --- with the lock held ---

    def _hand_over(self) -> None:
        """Give the parcel to the connected runtime where both are there."""
        connection, parcel = self._connection, self._parcel
        if connection is None or parcel is None or not connection.empty or connection.holds:
            return
        connection.holds = True
        descriptor = parcel.memory.reader()
        try:
            sent = self._send(connection, parcel.model, descriptor)
        finally:
            os.close(descriptor)
        now = self._wake.now()
        left = max(0.0, self._valid_until - now)
        rest: list[handover.Message] = [*handover.split_files(parcel.files)]
        rest.append(handover.Lease(valid_for=left))
        if sent and all(self._send_by(connection, message, now + SEND_BOUND) for message in rest):
            log(logging.INFO, "the model was handed over", files=len(parcel.files))

    def _send_by(self, connection: _Connection, message: handover.Message, deadline: float) -> bool:
        """Send unless it is too late: a slow reader must not hold the lock for long."""
        if self._wake.now() < deadline:
            return self._send(connection, message)
        self._break(connection)
        return False

    def _send(self, connection: _Connection, message: handover.Message, *descriptors: int) -> bool:
        """Send, or break the connection, which ends the runtime's lease."""
        try:
            connection.channel.send(message, descriptors)
        except OSError:
            self._break(connection)
            return False
        return True

    def _break(self, connection: _Connection) -> None:
        """End the stream both ways; the thread that reads it notices."""
        with contextlib.suppress(OSError):
            connection.socket.shutdown(socket.SHUT_RDWR)


def _why_gone(result: Reason | None) -> ModelsealError:
    """Return why the one runtime of a pair ended, as far as it said."""
    if result is Reason.DEVICE_UNAVAILABLE:
        return DeviceUnavailable("failed to keep the model served: no device could take it")
    if result is Reason.OUT_OF_MEMORY:
        return OutOfMemory("failed to keep the model served: the runtime ran out of memory")
    if result not in (None, Reason.SERVING):
        return ModelLoadFailed("failed to keep the model served: the runtime could not load it")
    return DeliveryError("failed to keep the model served: the runtime ended")
