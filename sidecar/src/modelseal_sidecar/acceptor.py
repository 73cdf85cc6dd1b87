"""Where connections of a runtime come from: a Unix socket in a directory, or a pair's one end.

The directory is a memory-backed volume that only the agent can write (design section 8, "Socket");
the socket is never abstract, because a pod shares its network namespace.
"""

import contextlib
import os
import select
import socket
import stat
from pathlib import Path
from typing import Final, Protocol

from modelseal.errors import SettingsError, shown

_MAX_PATH: Final = 107


class Acceptor(Protocol):
    """A source of connections, one at a time."""

    @property
    def stale(self) -> bool:
        """Whether an earlier agent left its socket: a runtime may still hold its memory."""

    @property
    def once(self) -> bool:
        """Whether there is one connection and never another."""

    @property
    def peer_uid(self) -> int | None:
        """The uid that a peer must have; `None` where having the other end is the proof."""

    def listen(self) -> None:
        """Become reachable."""

    def accept(self, closing: int) -> socket.socket | None:
        """Return the next connection, or `None` for ever once `closing` is readable."""

    def close(self) -> None:
        """Stop being reachable; idempotent."""


class SocketAcceptor:
    """Listens on a `SOCK_SEQPACKET` socket at a path."""

    once: Final = False

    def __init__(self, path: Path, peer_uid: int) -> None:
        self.peer_uid: Final[int | None] = peer_uid
        self.stale = False
        self._path: Final = path
        self._socket: socket.socket | None = None

    def listen(self) -> None:
        """Remove a stale socket and listen.

        Raises:
            SettingsError: the path cannot be a socket's: too long, no directory, or taken by
                something that is not a socket.

        """
        if len(os.fsencode(self._path)) > _MAX_PATH:
            raise SettingsError(
                f"failed to listen on {shown(str(self._path))}: the path is too long"
            )
        self.stale = _remove_stale(self._path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            listener.bind(str(self._path))
            self._path.chmod(0o666)  # the runtime has another uid; the directory and uid guard it
            listener.listen(1)
        except OSError as error:
            listener.close()
            raise SettingsError(
                f"failed to listen on {shown(str(self._path))}: {error.strerror}"
            ) from None
        listener.setblocking(False)
        self._socket = listener

    def accept(self, closing: int) -> socket.socket | None:
        """Wait for the next connection."""
        listener = self._socket
        while listener is not None:
            if closing in wait_readable(closing, listener.fileno()):
                return None
            with contextlib.suppress(BlockingIOError, ConnectionError):
                return listener.accept()[0]
        return None

    def close(self) -> None:
        """Remove the socket, which says that nothing of ours is left behind."""
        if self._socket is not None:
            self._path.unlink(missing_ok=True)
            self._socket.close()
            self._socket = None


class PairAcceptor:
    """Has one end of a socketpair whose other end the runtime inherited.

    Credentials of a pair name whoever made it, so they prove nothing; holding the end does.
    """

    once: Final = True
    stale: Final = False
    peer_uid: Final[int | None] = None

    def __init__(self, descriptor: int) -> None:
        """Take over an inherited descriptor.

        Raises:
            SettingsError: it is not a connected Unix socket that keeps messages apart.

        """
        try:
            connection = socket.socket(fileno=descriptor)
        except OSError:
            raise _no_pair(descriptor) from None
        if not _is_pair_end(connection):
            connection.close()
            raise _no_pair(descriptor)
        self._socket: socket.socket | None = connection
        os.set_inheritable(descriptor, False)

    def listen(self) -> None:
        """Do nothing: the pair is connected."""

    def accept(self, closing: int) -> socket.socket | None:
        """Return the one connection, then wait for the end."""
        connection, self._socket = self._socket, None
        if connection is None:
            wait_readable(closing)
        return connection

    def close(self) -> None:
        """Give an unused end back."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def wait_readable(*descriptors: int, seconds: float | None = None) -> set[int]:
    """Return those that are readable or at their end; none after `seconds`."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    timeout = None if seconds is None else max(int(seconds * 1000), 0)
    return {descriptor for descriptor, _ in poll.poll(timeout)}


def _is_pair_end(connection: socket.socket) -> bool:
    """Whether this is a connected Unix socket that keeps messages apart."""
    if (connection.family, connection.type) != (socket.AF_UNIX, socket.SOCK_SEQPACKET):
        return False
    try:
        connection.getpeername()
    except OSError:
        return False
    return True


def _no_pair(descriptor: int) -> SettingsError:
    return SettingsError(
        f"failed to use descriptor {descriptor} as the runtime's socket: "
        "it is not one end of a SOCK_SEQPACKET pair"
    )


def _remove_stale(path: Path) -> bool:
    """Remove the socket that an earlier agent left; whether there was one."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    except OSError as error:
        raise SettingsError(f"failed to listen on {shown(str(path))}: {error.strerror}") from None
    if not stat.S_ISSOCK(mode):
        raise SettingsError(f"failed to listen on {shown(str(path))}: it is not a socket")
    path.unlink()
    return True
