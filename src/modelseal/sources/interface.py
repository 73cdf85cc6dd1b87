"""What every source of ciphertext does.

A source knows nothing of keys or formats: it returns the bytes of named objects. Readers of one
payload come from several threads; each reads into a private buffer that it owns, because
decrypting from a mapping that another process may write is unsafe (docs/format.md, section 8).
"""

from typing import Protocol


class Payload(Protocol):
    """One opened object of known length."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the whole buffer from `offset`; thread-safe.

        Raises:
            SourceError: unreachable, or the object changed since it was opened.
            TruncatedError: the object ends before the buffer is full.

        """

    def close(self) -> None:
        """Give the object back; idempotent."""


class Source(Protocol):
    """A place that holds one sealed model."""

    def read_seal(self) -> bytes:
        """Return the whole of `seal.json`, at most `contract.MAX_SEAL_BYTES`.

        Raises:
            NotSealed: there is a readable place but no `seal.json` in it.
            LimitExceeded: it is longer than allowed; no more than the bound was read.
            SourceError: the place cannot be read.

        """

    def open_payload(self, name: str, length: int) -> Payload:
        """Open the object `name`, such as `p/0.floe`, which must be `length` bytes long.

        Raises:
            SourceNotFound: there is no such object.
            TruncatedError: it is shorter than `length`.
            TrailingData: it is longer than `length`.
            SourceError: it cannot be read.

        """

    def describe(self) -> str:
        """Name the place for messages, without credentials."""

    def close(self) -> None:
        """Give connections and descriptors back; idempotent."""
