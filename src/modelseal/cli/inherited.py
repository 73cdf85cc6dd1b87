"""Secrets for a child process: in a sealed memfd that it inherits, as a path that only it can use.

Neither the environment nor the command line of the child holds the secret, and no file system ever
does. The child reads `/proc/self/fd/N` like any file.
"""

import fcntl
import os
from types import TracebackType
from typing import Final, Self

from modelseal.secret import Secret

_SEALS: Final = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


class Inherited:
    """Descriptors that a child is started with; closed in this process at the end of the block."""

    def __init__(self) -> None:
        self.descriptors: list[int] = []

    def secret(self, name: str, content: Secret) -> str:
        """Put a secret into a memfd, wipe it here, and return the path for the child."""
        descriptor = self.file(name)
        with content:
            os.write(descriptor, content.buffer)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        return path_of(descriptor)

    def file(self, name: str) -> int:
        """Return a new memfd that the child may write, and that is read here."""
        descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.fchmod(descriptor, 0o600)
        self.descriptors.append(descriptor)
        return descriptor

    def add(self, descriptor: int) -> int:
        """Take over a descriptor that was made elsewhere."""
        self.descriptors.append(descriptor)
        return descriptor

    def close(self) -> None:
        """Close everything in this process; idempotent."""
        while self.descriptors:
            os.close(self.descriptors.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def path_of(descriptor: int) -> str:
    """Return the path under which a process that has the descriptor can open it."""
    return f"/proc/self/fd/{descriptor}"
