"""The conversation with the agent: a model comes, its lease is renewed, both end.

One thread reads. While nothing was delivered it waits for ever: an agent that is not there, that is
somebody else, or that talks nonsense is tried again. Once a model is here, the end of the stream, a
malformed message, a revocation and the deadline all end the process.
"""

import contextlib
import logging
import random
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from modelseal.errors import LeaseError, ModelsealError, PeerRejected
from modelseal.handover import (
    PROTOCOL,
    Channel,
    Files,
    Hello,
    Lease,
    Loaded,
    LoadFailed,
    Message,
    Model,
    Revoke,
    close_all,
)
from modelseal_runtime.delivery import Delivery, Mapped
from modelseal_runtime.logs import log
from modelseal_runtime.serving import Served, Serving

SLICE_SECONDS: Final = 0.5
"""How long one read waits, so that the deadline is seen in time after the machine slept."""
FIRST_LEASE_SECONDS: Final = 60.0
RETRY_SECONDS: Final = (0.1, 2.0)

Load = Callable[[Model, Mapped], Served]


class AgentLink:
    """Keeps the connection to the agent, on a thread of its own."""

    def __init__(
        self,
        *,
        connect: Callable[[], Channel],
        reconnects: bool,
        serving: Serving,
        load: Load,
        end: Callable[[ModelsealError], None],
    ) -> None:
        """Take what the link needs.

        Args:
            connect: returns a channel to the agent, trusted already; raises where there is none.
            reconnects: whether to connect anew after a connection without a model.
            serving: the state that the link moves.
            load: makes a delivered model serve.
            end: ends the process because of an error.

        """
        self._connect: Final = connect
        self._reconnects: Final = reconnects
        self._serving: Final = serving
        self._load: Final = load
        self._end: Final = end
        self._delivery: Delivery | None = None
        self._holds_model = False
        self._thread: Final = threading.Thread(target=self._run, name="agent", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._until_ended()
        except BaseException as error:  # a thread that dies in silence would keep the model
            log(logging.ERROR, "the connection to the agent failed", failure=error)
            self._end(unexpected())

    def _until_ended(self) -> None:
        said, pause = "", RETRY_SECONDS[0]
        while True:
            try:
                with self._connect() as channel:
                    self._converse(channel)
            except (OSError, ModelsealError) as error:
                if self._holds_model or not self._reconnects:
                    self._end(_as_ours(error))
                    return
                why = _as_ours(error).message
                if why != said:
                    log(logging.INFO, "waiting for the agent", why=why)
                    said, pause = why, RETRY_SECONDS[0]
            finally:
                self._forget()
            time.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 -- spreads the retries
            pause = min(pause * 2, RETRY_SECONDS[1])

    def _converse(self, channel: Channel) -> None:
        channel.set_timeout(SLICE_SECONDS)
        channel.send(Hello(protocol=PROTOCOL, empty=True))
        while True:
            received = self._next(channel)
            if received is None:
                continue
            message, descriptors = received
            if isinstance(message, Model) and self._delivery is None and not self._holds_model:
                self._delivery = Delivery.begin(message, descriptors)
                continue
            if descriptors:
                close_all(descriptors)
                raise PeerRejected("failed to read a message: it carries unexpected descriptors")
            self._take(channel, message)

    def _next(self, channel: Channel) -> tuple[Message, list[int]] | None:
        if self._holds_model and not self._serving.lease.valid:
            raise LeaseError("failed to keep the model: its lease has run out")
        try:
            received = channel.receive()
        except TimeoutError:
            return None
        if received is None:
            raise LeaseError("failed to keep the connection: the agent has ended it")
        return received

    def _take(self, channel: Channel, message: Message) -> None:
        match message:
            case Files() if self._delivery is not None and not self._holds_model:
                if self._delivery.add(message):
                    self._accept(channel, self._delivery)
            case Lease():
                self._serving.lease.renew(message.valid_for)
            case Revoke():
                raise LeaseError(f"failed to keep the model: {message.reason}")
            case _:
                raise PeerRejected("failed to read a message: it is not the agent's turn to say so")

    def _accept(self, channel: Channel, delivery: Delivery) -> None:
        try:
            memory = delivery.map()
        except PeerRejected as error:
            self._holds_model = True  # ends the process: whoever sent this is not our agent
            with contextlib.suppress(OSError):
                channel.send(LoadFailed(reason=error.reason))
            raise
        self._holds_model = True
        if not self._serving.lease.valid:
            self._serving.lease.renew(FIRST_LEASE_SECONDS)
        self._serving.load()
        threading.Thread(
            target=self._load_model, args=(channel, delivery.model, memory), daemon=True
        ).start()

    def _load_model(self, channel: Channel, model: Model, memory: Mapped) -> None:
        started = time.monotonic()
        try:
            served = self._load(model, memory)
            seconds = time.monotonic() - started
            channel.send(Loaded(device=served.model.device, load_seconds=seconds))
            log(
                logging.INFO,
                "the model is loaded",
                model=served.identity.name,
                version=served.identity.version,
                digest=served.digest,
                device=served.model.device,
                refused=[f"{one.device}: {one.why}" for one in served.model.refused],
                properties=served.model.properties,
                hint=served.choice.hint,
                hintWhy=served.choice.why,
                workers=served.model.requests,
                seconds=round(seconds, 3),
            )
        except ModelsealError as error:
            with contextlib.suppress(OSError):
                channel.send(LoadFailed(reason=error.reason))
            self._end(error)
        except BaseException as error:
            log(logging.ERROR, "the model could not be loaded", failure=error)
            self._end(unexpected())

    def _forget(self) -> None:
        if self._delivery is not None:
            self._delivery.close()
            self._delivery = None


def connect(path: Path, uid: int) -> Channel:
    """Connect to the agent's socket and check who listens there.

    Raises:
        OSError: nobody does.
        PeerRejected: somebody else does.

    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = Channel(connection)
    try:
        channel.set_timeout(SLICE_SECONDS)
        connection.connect(str(path))
        channel.require_peer(uid)
    except BaseException:
        channel.close()
        raise
    return channel


def inherit(descriptor: int) -> Channel:
    """Take over a socket that this process was started with: it authenticates itself.

    Raises:
        OSError: the descriptor is not a socket.

    """
    connection = socket.socket(fileno=descriptor)
    connection.set_inheritable(False)
    return Channel(connection)


def unexpected() -> ModelsealError:
    """Return the error that stands for one nobody thought of."""
    return ModelsealError("failed to go on: an unexpected error, which the log describes")


def _as_ours(error: OSError | ModelsealError) -> ModelsealError:
    if isinstance(error, ModelsealError):
        return error
    return LeaseError(f"failed to talk to the agent: {type(error).__name__}")
