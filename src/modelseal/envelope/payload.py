"""Reading payloads: fetched, hashed and decrypted in parallel (docs/format.md, section 8).

Ciphertext is read into private buffers first, and hashed and decrypted from there. Decrypting out
of a mapping that another process may write is unsafe: the cipher may read twice, and a racing
writer then gets wrong plaintext accepted.

Nothing is trusted before the last check: whoever passed `out` must not look at it until the call
returns, and it is wiped if the call raises.
"""

import hashlib
import hmac
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, Protocol

from modelseal.envelope.derive import KeySource, payload_context
from modelseal.envelope.floe import GCM256_IV256_1M, HEADER_LENGTH, OVERHEAD, Cipher, Parameters
from modelseal.envelope.manifest import FileEntry, Seal
from modelseal.envelope.workers import RUN_LENGTH, Progress, default_threads, share_out
from modelseal.errors import DigestMismatch, KeyCommitmentMismatch, ModelsealError

_ZEROS: Final = bytes(1 << 20)
Store = Callable[[int, memoryview], None]
"""Takes the plaintext of one segment and its offset in the file; thread-safe."""


class Payload(Protocol):
    """What is read of an opened object; every `sources.interface.Payload` fits."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the whole buffer from `offset`; thread-safe."""


def decrypt_payload(
    *,
    seal: Seal,
    entry: FileEntry,
    payload: Payload,
    keys: KeySource,
    out: memoryview,
    store: Store | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    parameters: Parameters = GCM256_IV256_1M,
) -> None:
    """Fetch, verify and decrypt one payload into `out`, which is wiped on any failure.

    `keys` is asked once, after the first run has been fetched and hashed, so that it may still be
    waiting for the key service while ciphertext arrives. A failure is raised only when everything
    before it in the order of section 9 has passed.

    Args:
        seal: the verified seal.
        entry: the file in it.
        payload: its opened object, of exactly the signed length.
        keys: returns the data keys, once their MAC was verified; may block.
        out: writable, of exactly the file's plaintext length.
        store: copies plaintext to its offset in `out`, where that is faster than to decrypt there.
        threads: at most so many at once; by default one for each processor, at most eight.
        progress: called with plaintext bytes as they are done.
        parameters: for tests only; the format has one parameter set.

    Raises:
        SourceError: the ciphertext could not be fetched.
        KeyCommitmentMismatch: the header is not the signed one, or of another key.
        SegmentInvalid: a segment is malformed or altered; the first one is named.
        DigestMismatch: every segment is of the data key, but the ciphertext is not the signed one.

    """
    if len(out) != entry.plaintext_length:
        raise ValueError(f"out has {len(out)} bytes for a file of {entry.plaintext_length}")
    job = _Job(seal, entry, payload, parameters, keys=keys, out=out, store=store, progress=progress)
    try:
        job.run(threads)
    except BaseException:
        _wipe(out[: job.reached])
        raise


def verify_payload(
    *,
    seal: Seal,
    entry: FileEntry,
    payload: Payload,
    keys: KeySource,
    threads: int | None = None,
    progress: Progress | None = None,
    parameters: Parameters = GCM256_IV256_1M,
) -> None:
    """Do all that `decrypt_payload` does, and drop the plaintext as it is made.

    Raises:
        ModelsealError: as `decrypt_payload` does.

    """
    _Job(seal, entry, payload, parameters, keys=keys, progress=progress).run(threads)


def verify_digest(
    seal: Seal,
    entry: FileEntry,
    payload: Payload,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
    parameters: Parameters = GCM256_IV256_1M,
) -> None:
    """Compare a payload's header and digest with the signed ones; needs no key.

    Raises:
        SourceError: the ciphertext could not be fetched.
        KeyCommitmentMismatch: the header is not the signed one.
        DigestMismatch: the ciphertext is not the signed one.

    """
    _Job(seal, entry, payload, parameters, progress=progress).run(threads)


class _Job:
    """One pass over a payload; without `keys` only digests are compared."""

    def __init__(
        self,
        seal: Seal,
        entry: FileEntry,
        payload: Payload,
        parameters: Parameters,
        *,
        keys: KeySource | None = None,
        out: memoryview | None = None,
        store: Store | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.entry = entry
        self.payload = payload
        self.parameters = parameters
        self.out = out if store is None else None
        """Where segments are decrypted to; else to a buffer, from which `store` takes them."""
        self.store = store
        self.reached = 0
        """Plaintext bytes up to which anything may have been written to `out`."""
        self.count = parameters.segments(entry.plaintext_length)
        self.run_segments = max(1, RUN_LENGTH // parameters.segment_length)
        self.ciphertext_length = parameters.ciphertext_length(entry.plaintext_length)
        self.opened: Future[Cipher | None] = Future()
        """Set by whoever works on the first run; no segment is decrypted before."""
        self._keys = keys
        self._context = payload_context(
            seal.manifest.seal_id, entry.number, len(seal.manifest.files), entry.plaintext_length
        )
        self._hashes = [b""] * self.count
        self._progress = progress
        self._lock = threading.Lock()

    def run(self, threads: int | None) -> None:
        """Read all runs, then compare the digest."""
        runs = -(-self.count // self.run_segments)
        try:
            share_out(runs, threads or default_threads(), lambda: _Reader(self))
        finally:
            self._forget()
        digest = hashlib.sha256(hashlib.sha256(self.entry.header).digest())
        for one in self._hashes:
            digest.update(one)
        if not hmac.compare_digest(digest.digest(), self.entry.digest):
            raise DigestMismatch(
                f"failed to verify {self.entry.name}: its digest is not the signed one"
            )

    def open(self, fetch_header: Callable[[], memoryview]) -> Cipher | None:
        """Compare the header and derive the payload's keys, in the order of section 9."""
        failure: ModelsealError | None = None
        header = memoryview(b"")
        try:
            header = fetch_header()
        except ModelsealError as error:
            failure = error
        keys = self._keys() if self._keys is not None else None
        if failure is not None:
            raise failure
        if not hmac.compare_digest(header, self.entry.header):
            raise KeyCommitmentMismatch(
                f"failed to open {self.entry.name}: its header is not the signed one"
            )
        if keys is None:
            return None
        return Cipher.open(keys.payload, self._context, self.entry.header, self.parameters)

    def hash_segment(self, position: int, segment: memoryview) -> None:
        """Remember the hash of one segment's ciphertext."""
        self._hashes[position] = hashlib.sha256(segment).digest()

    def advance(self, count: int) -> None:
        """Report plaintext bytes as done."""
        if self._progress is not None:
            with self._lock:
                self._progress(count)

    def _forget(self) -> None:
        if self.opened.done() and self.opened.exception() is None:
            cipher = self.opened.result()
            if cipher is not None:
                cipher.wipe()


class _Reader:
    """What one thread does: fetch a run into a private buffer, then hash and decrypt it."""

    def __init__(self, job: _Job) -> None:
        self._job = job
        length = min(job.run_segments * job.parameters.segment_length, job.ciphertext_length)
        self._buffer = memoryview(bytearray(HEADER_LENGTH + length))
        scratch = job.parameters.capacity if job.out is None else 0
        self._scratch = memoryview(bytearray(min(scratch, job.entry.plaintext_length)))

    def take(self, run: int) -> None:
        """Note how far plaintext may be written."""
        job = self._job
        end = (run + 1) * job.run_segments * job.parameters.capacity
        job.reached = min(end, job.entry.plaintext_length)

    def work(self, run: int) -> None:
        """Read one run; the header comes with the first."""
        job = self._job
        if run == 0:
            cipher = self._first()
        else:
            self._fetch(run)
            cipher = job.opened.result()
        done = 0
        first = run * job.run_segments
        for position in range(first, min(first + job.run_segments, job.count)):
            done += self._segment(cipher, position, position - first)
        job.advance(done)

    def close(self) -> None:
        """Wipe the plaintext that was dropped or stored."""
        _wipe(self._scratch)

    def _first(self) -> Cipher | None:
        opened = self._job.opened
        try:
            cipher = self._job.open(lambda: self._fetch(0)[:HEADER_LENGTH])
        except BaseException as error:
            opened.set_exception(error)
            raise
        opened.set_result(cipher)
        return cipher

    def _fetch(self, run: int) -> memoryview:
        """Fill the buffer: room for the header, then the run's segments."""
        job = self._job
        length = job.run_segments * job.parameters.segment_length
        start = HEADER_LENGTH + run * length if run else 0
        place = 0 if run == 0 else HEADER_LENGTH
        end = min(HEADER_LENGTH + (run + 1) * length, job.ciphertext_length)
        filled = self._buffer[place : place + end - start]
        job.payload.read_into(start, filled)
        return filled

    def _segment(self, cipher: Cipher | None, position: int, place: int) -> int:
        """Hash and decrypt one segment, and return its plaintext length."""
        job = self._job
        capacity = job.parameters.capacity
        start = position * capacity
        length = min(capacity, job.entry.plaintext_length - start)
        offset = HEADER_LENGTH + place * job.parameters.segment_length
        segment = self._buffer[offset : offset + length + OVERHEAD]
        job.hash_segment(position, segment)
        if cipher is not None:
            plain = self._scratch[:length] if job.out is None else job.out[start : start + length]
            cipher.decrypt(position, segment, plain, final=position == job.count - 1)
            if job.store is not None:
                job.store(start, plain)
        return length


def _wipe(buffer: memoryview) -> None:
    for start in range(0, len(buffer), len(_ZEROS)):
        part = buffer[start : start + len(_ZEROS)]
        part[:] = _ZEROS[: len(part)]
