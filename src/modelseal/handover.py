"""What the agent and the runtime say to each other (design section 8, "Socket").

One `SOCK_SEQPACKET` connection carries messages of at most 64 KiB: one JSON object each, of a
closed schema. Only the agent sends descriptors. A malformed message ends the connection, and for
the runtime the end of the connection ends the lease.

    runtime → agent   Hello(empty)              first message; `empty`: holds no model
    agent → runtime   Model, Files ...         the memfd rides on Model; Files lists its content
    agent → runtime   Lease(valid_for)          again at every successful check
    runtime → agent   Loaded | LoadFailed       once per Model
    agent → runtime   Revoke(reason)            the runtime refuses requests and exits
"""

import contextlib
import json
import os
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from modelseal.contract import (
    MAX_DESCRIPTORS,
    MAX_FILES,
    MAX_MESSAGE_BYTES,
    OVERFLOW_UID,
    Reason,
)
from modelseal.errors import PeerRejected

PROTOCOL: Final = 1
MAX_TEXT: Final = 1024
_MAX_NUMBER: Final = 1 << 53
_CREDENTIALS: Final = struct.Struct("3i")


@dataclass(frozen=True, kw_only=True)
class Hello:
    """The runtime's first message."""

    protocol: int
    empty: bool


@dataclass(frozen=True, kw_only=True)
class Model:
    """What the attached memfd holds; `files` entries follow in `Files` messages."""

    model: str
    version: str
    digest: str
    size: int
    files: int


@dataclass(frozen=True, kw_only=True)
class File:
    """One file inside the memfd: its path in the sealed model and where its bytes lie."""

    path: str
    role: str
    offset: int
    length: int


@dataclass(frozen=True, kw_only=True)
class Files:
    """A run of the model's files, in load order."""

    files: tuple[File, ...]


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The model may stay loaded for `valid_for` seconds from the message's arrival."""

    valid_for: float


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """The runtime serves the model on `device`."""

    device: str
    load_seconds: float


@dataclass(frozen=True, kw_only=True)
class LoadFailed:
    """The runtime could not load the model; `reason` says why in our own words."""

    reason: Reason


@dataclass(frozen=True, kw_only=True)
class Revoke:
    """The right to the model has ended."""

    reason: Reason


_TYPES: Final = {
    kind.__name__: kind for kind in (Hello, Model, Files, Lease, Loaded, LoadFailed, Revoke)
}
Message = Hello | Model | Files | Lease | Loaded | LoadFailed | Revoke


def encode(message: Message) -> bytes:
    """Return the message as JSON with its type's name."""
    return json.dumps({"type": type(message).__name__} | asdict(message)).encode()


def decode(data: bytes) -> Message:
    """Parse one message strictly.

    Raises:
        PeerRejected: it is malformed, of an unknown type, or has other fields than that type.

    """
    try:
        fields = json.loads(data)
        kind = _TYPES[fields.pop("type")]
        message: Message = _PARSERS[kind](fields)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PeerRejected("failed to read a message on the agent's socket: malformed") from error
    if fields:
        raise PeerRejected("failed to read a message on the agent's socket: unknown fields")
    return message


def split_files(files: Sequence[File]) -> list[Files]:
    """Group files into messages that stay below the size bound."""
    groups: list[Files] = []
    run: list[File] = []
    size = 0
    for file in files:
        cost = len(json.dumps(asdict(file))) + 2
        if run and size + cost > MAX_MESSAGE_BYTES - 256:
            groups.append(Files(files=tuple(run)))
            run, size = [], 0
        run.append(file)
        size += cost
    if run:
        groups.append(Files(files=tuple(run)))
    return groups


class Channel:
    """One end of the connection: one thread reads, any thread writes."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def fileno(self) -> int:
        """Return the descriptor, for `select`."""
        return self._socket.fileno()

    def set_timeout(self, seconds: float | None) -> None:
        """Bound each following send and receive."""
        self._socket.settimeout(seconds)

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send one message; `OSError` where the peer is gone."""
        data = encode(message)
        if descriptors:
            socket.send_fds(self._socket, [data], list(descriptors))
        else:
            self._socket.send(data)

    def receive(self) -> tuple[Message, list[int]] | None:
        """Return the next message and its descriptors, or `None` at the end of the stream.

        Raises:
            PeerRejected: the message is malformed; its descriptors are closed.
            TimeoutError: nothing came in time.

        """
        data, descriptors, flags, _ = socket.recv_fds(
            self._socket, MAX_MESSAGE_BYTES, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
        )
        if not data:
            close_all(descriptors)
            return None
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise PeerRejected("failed to read a message on the agent's socket: too long")
            return decode(data), descriptors
        except PeerRejected:
            close_all(descriptors)
            raise

    def peer_uid(self) -> int:
        """Return the uid of the process that made the other end (`SO_PEERCRED`)."""
        packed = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return int(_CREDENTIALS.unpack(packed)[1])

    def require_peer(self, uid: int) -> None:
        """Refuse a peer of another uid; pid and gid say nothing across containers.

        Raises:
            PeerRejected: the peer's uid is another one, or the overflow uid.

        """
        peer = self.peer_uid()
        if peer != uid or peer == OVERFLOW_UID:
            raise PeerRejected(f"failed to trust the socket's peer: uid {peer}, expected {uid}")

    def close(self) -> None:
        """End the connection; idempotent."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def close_all(descriptors: Sequence[int]) -> None:
    """Close descriptors, whatever state they are in."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.pop(name)
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise ValueError(name)
    return value


def _integer(fields: dict[str, Any], name: str) -> int:
    value = fields.pop(name)
    if type(value) is not int or not 0 <= value <= _MAX_NUMBER:
        raise ValueError(name)
    return value


def _seconds(fields: dict[str, Any], name: str) -> float:
    value = fields.pop(name)
    if type(value) not in (int, float) or not 0 <= value <= _MAX_NUMBER:
        raise ValueError(name)
    return float(value)


def _hello(fields: dict[str, Any]) -> Hello:
    protocol, empty = _integer(fields, "protocol"), fields.pop("empty")
    if protocol != PROTOCOL or not isinstance(empty, bool):
        raise ValueError("protocol")
    return Hello(protocol=protocol, empty=empty)


def _model(fields: dict[str, Any]) -> Model:
    model = Model(
        model=_text(fields, "model"),
        version=_text(fields, "version"),
        digest=_text(fields, "digest"),
        size=_integer(fields, "size"),
        files=_integer(fields, "files"),
    )
    if not 0 < model.files <= MAX_FILES:
        raise ValueError("files")
    return model


def _file(fields: dict[str, Any]) -> File:
    file = File(
        path=_text(fields, "path"),
        role=_text(fields, "role"),
        offset=_integer(fields, "offset"),
        length=_integer(fields, "length"),
    )
    if fields:
        raise ValueError("unknown fields")
    return file


def _files(fields: dict[str, Any]) -> Files:
    entries = fields.pop("files")
    if not isinstance(entries, list) or not entries:
        raise ValueError("files")
    return Files(files=tuple(_file(entry) for entry in entries))


_PARSERS: Final[dict[type, Callable[[dict[str, Any]], Any]]] = {
    Hello: _hello,
    Model: _model,
    Files: _files,
    Lease: lambda fields: Lease(valid_for=_seconds(fields, "valid_for")),
    Loaded: lambda fields: Loaded(
        device=_text(fields, "device"), load_seconds=_seconds(fields, "load_seconds")
    ),
    LoadFailed: lambda fields: LoadFailed(reason=Reason(_text(fields, "reason"))),
    Revoke: lambda fields: Revoke(reason=Reason(_text(fields, "reason"))),
}
