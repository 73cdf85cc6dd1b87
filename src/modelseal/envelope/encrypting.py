"""Writing one payload: read in order, encrypted in parallel (docs/format.md, section 8).

Memory is bounded by one run of plaintext and one of ciphertext for each thread.
"""

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import RawIOBase
from typing import BinaryIO, cast

from modelseal.envelope.floe import (
    HEADER_LENGTH,
    NONCE_LENGTH,
    OVERHEAD,
    Cipher,
    Parameters,
    Random,
)
from modelseal.envelope.workers import RUN_LENGTH, Progress, share_out
from modelseal.errors import InputUnreadable

Write = Callable[[int, memoryview], None]
"""Writes a piece of ciphertext at an offset; called from several threads."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """What the manifest and the index say of a payload."""

    header: bytes
    digest: bytes
    sha256: bytes
    """Of the plaintext."""


@dataclass(frozen=True, kw_only=True)
class Plaintext:
    """A stream of known length that is encrypted."""

    name: str
    """For messages, already escaped."""
    length: int
    stream: BinaryIO


def encrypt_payload(
    plain: Plaintext,
    cipher: Cipher,
    write: Write,
    *,
    parameters: Parameters,
    random: Random,
    threads: int,
    progress: Progress | None = None,
) -> Written:
    """Encrypt a stream, and return what has to be signed about it.

    Raises:
        InputUnreadable: the stream cannot be read, or has another length than it should.
        OSError: `write` failed.

    """
    job = _Job(plain, cipher, write, parameters, random=random, progress=progress)
    share_out(job.runs, threads, lambda: _Writer(job))
    job.require_end()
    digest = hashlib.sha256(hashlib.sha256(cipher.header).digest())
    for one in job.hashes:
        digest.update(one)
    return Written(header=cipher.header, digest=digest.digest(), sha256=job.plain_hash.digest())


@contextlib.contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn whatever the operating system says about an input into one error.

    Raises:
        InputUnreadable: it cannot be read.

    """
    try:
        yield
    except OSError as error:
        raise InputUnreadable(f"failed to read {name}: {error.strerror}") from error


class _Job:
    """One payload being written."""

    def __init__(
        self,
        plain: Plaintext,
        cipher: Cipher,
        write: Write,
        parameters: Parameters,
        *,
        random: Random,
        progress: Progress | None,
    ) -> None:
        self.plain = plain
        self.cipher = cipher
        self.write = write
        self.parameters = parameters
        self.random = random
        self.count = parameters.segments(plain.length)
        self.run_segments = max(1, RUN_LENGTH // parameters.segment_length)
        self.runs = -(-self.count // self.run_segments)
        self.hashes = [b""] * self.count
        self.plain_hash = hashlib.sha256()
        self._progress = progress
        self._lock = threading.Lock()

    def read(self, buffer: memoryview) -> None:
        """Fill the buffer with the next plaintext; one thread at a time."""
        filled = 0
        while filled < len(buffer):
            count = self._readinto(buffer[filled:])
            if not count:
                raise InputUnreadable(
                    f"failed to read {self.plain.name}: it became shorter while it was sealed"
                )
            filled += count
        self.plain_hash.update(buffer)

    def require_end(self) -> None:
        """Check that nothing follows the declared length."""
        if self._readinto(memoryview(bytearray(1))):
            raise InputUnreadable(
                f"failed to read {self.plain.name}: it became longer while it was sealed"
            )

    def advance(self, count: int) -> None:
        """Report plaintext bytes as done."""
        if self._progress is not None:
            with self._lock:
                self._progress(count)

    def _readinto(self, buffer: memoryview) -> int:
        # typing.BinaryIO lacks readinto, which every binary file and BytesIO has
        stream = cast("RawIOBase", self.plain.stream)
        with reading(self.plain.name):
            return stream.readinto(buffer) or 0


class _Writer:
    """What one thread does: read a run in its turn, then encrypt, hash and write it."""

    def __init__(self, job: _Job) -> None:
        self._job = job
        segments = min(job.run_segments, job.count)
        length = min(segments * job.parameters.capacity, job.plain.length)
        self._plain = memoryview(bytearray(length))
        self._filled = self._plain
        self._sealed = memoryview(bytearray(HEADER_LENGTH + length + OVERHEAD * segments))

    def take(self, run: int) -> None:
        """Read the run's plaintext."""
        start = run * self._job.run_segments * self._job.parameters.capacity
        self._filled = self._plain[: self._job.plain.length - start]
        self._job.read(self._filled)

    def work(self, run: int) -> None:
        """Encrypt, hash and write the run; the header goes with the first."""
        job = self._job
        self._sealed[:HEADER_LENGTH] = job.cipher.header
        end = HEADER_LENGTH
        first = run * job.run_segments
        for position in range(first, min(first + job.run_segments, job.count)):
            end = self._segment(position, position - first)
        place = HEADER_LENGTH if run else 0
        job.write(place + first * job.parameters.segment_length, self._sealed[place:end])
        job.advance(len(self._filled))

    def close(self) -> None:
        """Wipe the plaintext."""
        self._plain[:] = bytes(len(self._plain))

    def _segment(self, position: int, place: int) -> int:
        """Encrypt one segment, and return where it ends in the buffer."""
        job = self._job
        start = place * job.parameters.capacity
        plain = self._filled[start : start + job.parameters.capacity]
        offset = HEADER_LENGTH + place * job.parameters.segment_length
        segment = self._sealed[offset : offset + len(plain) + OVERHEAD]
        final = position == job.count - 1
        nonce = job.random(NONCE_LENGTH)
        job.cipher.encrypt(position, plain, segment, final=final, nonce=nonce)
        job.hashes[position] = hashlib.sha256(segment).digest()
        return offset + len(segment)
