"""The whole agent on every mutation of a sealed model: a process for each, forked from a warm one.

    python -m support.agent_mutations STRIDE FOLDER KEY SIGNER NAME [NAME ...]

Every STRIDE-th byte of each named file is changed once, in one bit. The agent's program is imported
before the first fork and begins after it, so a run costs its work and not Python's start. Prints a
JSON list of `[name, position, exit code, reason, whether a model was handed over]`.
"""

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modelseal import handover
from modelseal.contract import Env
from modelseal_sidecar.__main__ import main as agent
from support.agent_models import MODEL
from support.agent_peer import BOUND, Peer

AT_ONCE: Final = 32


@dataclass(frozen=True, kw_only=True)
class Room:
    """Where one run after another finds its sealed model; runs at once have rooms of their own."""

    folder: Path
    key: str
    signer: str

    @property
    def sealed(self) -> Path:
        """The folder that is changed and put back."""
        return self.folder / "sealed"

    @property
    def told(self) -> Path:
        """The termination message."""
        return self.folder / "termination"

    def environ(self, descriptor: int) -> dict[str, str]:
        """Return the agent's variables."""
        values = {
            Env.MODEL: MODEL,
            Env.SOURCE: str(self.sealed),
            Env.SIGNERS: self.signer,
            Env.KEY: f"file:{self.key}",
            Env.SOCKET_FD: str(descriptor),
            Env.REPORT_HOST: "127.0.0.1",
            Env.REPORT_PORT: "0",
            Env.ALLOW_SWAP: "true",
            Env.TERMINATION_LOG: str(self.told),
        }
        return {str(name): value for name, value in values.items()}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One agent that looks at one change."""

    room: Room
    name: str
    position: int
    whole: bytes
    pid: int
    peer: Peer

    def end(self) -> tuple[str, int, int, str, bool]:
        """Wait until it is clear what the agent makes of it, and put the model back."""
        with self.peer:
            handed = _handed_over(self.peer)
        if handed:
            os.kill(self.pid, signal.SIGTERM)
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        told = self.room.told
        reason = json.loads(told.read_bytes())["reason"] if told.exists() else ""
        told.unlink(missing_ok=True)
        (self.room.sealed / self.name).write_bytes(self.whole)
        return self.name, self.position, code, reason, handed


def begin(room: Room, name: str, position: int) -> Run:
    """Change one byte and start an agent."""
    path = room.sealed / name
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[position] ^= 1 << position % 8
    path.write_bytes(changed)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        ours.close()
        _become_agent(room.environ(theirs.fileno()))
    theirs.close()
    peer = Peer(ours)
    with contextlib.suppress(BrokenPipeError):
        peer.hello()
    return Run(room=room, name=name, position=position, whole=whole, pid=pid, peer=peer)


def _become_agent(environ: dict[str, str]) -> None:
    """Run the program as `python -m modelseal_sidecar` does, and end with its code."""
    code = 1
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        os.environ.clear()
        os.environ.update(environ)
        code = agent()
    finally:
        os._exit(code)


def _handed_over(peer: Peer) -> bool:
    """Say whether a model arrives before the agent ends the connection."""
    peer.channel.set_timeout(BOUND)
    try:
        while received := peer.channel.receive():
            handover.close_all(received[1])
            if isinstance(received[0], handover.Model):
                return True
    except ConnectionResetError:
        pass
    return False


def runs(
    rooms: Sequence[Room], names: Sequence[str], stride: int
) -> Iterator[tuple[str, int, int, str, bool]]:
    """Yield what became of each change, as many at once as there are rooms."""
    sizes = {name: (rooms[0].sealed / name).stat().st_size for name in names}
    changes = ((name, position) for name in names for position in range(0, sizes[name], stride))
    while batch := list(itertools.islice(changes, len(rooms))):
        begun = [begin(room, *change) for room, change in zip(rooms, batch, strict=False)]
        yield from [run.end() for run in begun]


def main() -> None:
    """Look at the bytes of the named files."""
    stride, folder, key, signer, *names = sys.argv[1:]
    with tempfile.TemporaryDirectory() as base:
        rooms = [
            Room(folder=Path(base) / str(number), key=key, signer=signer)
            for number in range(AT_ONCE)
        ]
        for room in rooms:
            shutil.copytree(folder, room.sealed)
        json.dump(list(runs(rooms, names, int(stride))), sys.stdout)


if __name__ == "__main__":
    main()
