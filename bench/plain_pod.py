"""Runs in the runtime's image: the same runtime, given a plain model instead of an agent's.

    python3 plain_pod.py FOLDER

The folder's files go through the same socket messages into the same kind of memory; what is left
out is the seal: no second container, no login, no unwrapping, no decryption, no lease.
"""

import os
import socket
import sys
import threading
from pathlib import Path

from modelseal.contract import Env
from modelseal.handover import Channel, File, Lease, Model, split_files
from modelseal.memory import PlaintextMemory, page_aligned
from modelseal_runtime import __main__ as runtime

ROLES = {".xml": "model", ".bin": "weights"}
A_DAY = 86400.0


def main() -> None:
    """Hand the files over from a thread, and be the runtime."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    os.environ[Env.SOCKET_FD] = str(theirs.detach())
    threading.Thread(target=deliver, args=(Channel(ours), Path(sys.argv[1])), daemon=True).start()
    runtime.main()


def deliver(channel: Channel, folder: Path) -> None:
    """Say what an agent says, then listen until the end."""
    channel.receive()
    contents = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    memory = PlaintextMemory(sum(page_aligned(len(data)) for data in contents.values()))
    files, offset = [], 0
    for name, data in contents.items():
        memory.view[offset : offset + len(data)] = data
        role = ROLES[Path(name).suffix]
        files.append(File(path=name, role=role, offset=offset, length=len(data)))
        offset += page_aligned(len(data))
    memory.seal()
    digest = f"sha256:{'0' * 64}"
    model = Model(
        model="bench/plain", version="1", digest=digest, size=len(memory), files=len(files)
    )
    channel.send(model, [memory.reader()])
    for run in split_files(files):
        channel.send(run)
    channel.send(Lease(valid_for=A_DAY))
    while channel.receive() is not None:
        pass


if __name__ == "__main__":
    main()
