"""A holder for key bytes: masked when printed, wiped when left.

What Python cannot promise is written in docs/threat-model.md: copies that a parser, a TLS library
or the allocator made are beyond this class.
"""

from types import TracebackType
from typing import Self


class Secret:
    """Key bytes in a buffer of our own, which `wipe` overwrites with zeros.

    Use it as a context manager so that the bytes live no longer than the block. Reading it after
    the wipe raises `ValueError`: a key of zeros must never encrypt anything.
    """

    __slots__ = ("_buffer", "_wiped")

    def __init__(self, value: bytes | bytearray | memoryview) -> None:
        self._buffer = bytearray(value)
        self._wiped = False

    @property
    def buffer(self) -> bytearray:
        """The bytes themselves, not a copy."""
        if self._wiped:
            raise ValueError("the secret was wiped")
        return self._buffer

    def wipe(self) -> None:
        """Overwrite the bytes with zeros; idempotent."""
        self._buffer[:] = bytes(len(self._buffer))
        self._wiped = True

    def __len__(self) -> int:
        return len(self._buffer)

    def __repr__(self) -> str:
        return "Secret(****)"

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.wipe()
