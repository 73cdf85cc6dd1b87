"""Opening a sealed model into the memory that is delivered, against a plain copy."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from types import SimpleNamespace
from unittest import mock

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bench.child import drop_caches
from bench.copying import copy_into
from bench.findings import Effort, Findings, Row, interleaved
from bench.room import Room, room
from modelseal import opening
from modelseal.envelope import payload
from modelseal.envelope.floe import Cipher
from modelseal.memory import PlaintextMemory
from modelseal.sources import open_source

TITLE = "Opening into memory"
_SAMPLE = 64 << 20
_TRIED = (
    "The target is missed here. The rows without a step say why: hashing costs most, and the "
    "signed digest needs each byte hashed; without it opening would come within the noise of the "
    "target. The copy's own time is nearly all page faults, as the last row shows. Opening has "
    "fewer: it decrypts into a buffer and writes that into the memfd, so that the kernel neither "
    "zeroes the page nor faults it in (1.28 times as fast as decrypting into a fresh mapping, "
    "nine pairs in one run). Tried without a gain: touching the pages from the decrypting "
    "threads, at low priority, or not ahead at all; huge pages for anonymous memory. What would "
    "help is a SHA-256 that works on several segments at once, which none of the libraries in use "
    "offers."
)


def measure(effort: Effort) -> Findings:
    """Compare fetch, hash and decrypt with a parallel copy, both into a fresh memfd."""
    rows, ablated = [], []
    for megabytes in effort.sizes:
        with room(megabytes) as made:
            rounds = effort.rounds_of(megabytes)
            rows += [_row(made, rounds, cold=cold) for cold in (False, True)]
            if megabytes == effort.megabytes:
                ablated = [_ablated(made, rounds, step) for step in _ABLATIONS]
    rows += ablated
    return Findings(rows=rows, notes=[_shares(), _TRIED])


def _row(made: Room, rounds: int, *, cold: bool) -> Row:
    place = "the disk" if cold else "the page cache"
    return Row(
        question=f"{made.megabytes:,} MiB from {place} to a memfd",
        unit="GiB/s",
        values=_both(made, rounds, cold=cold),
        ours="open",
        baseline="copy",
        target="≥ 0.9",
        limit="the disk, then SHA-256" if cold else "SHA-256 of the ciphertext, on every core",
    )


def _ablated(made: Room, rounds: int, step: str) -> Row:
    """Measure what the figure would be if one step cost nothing."""
    with _ABLATIONS[step]():
        values = _both(made, rounds, touched=step == _TOUCHED)
    return Row(
        question=f"{made.megabytes:,} MiB from the page cache, {step}",
        unit="GiB/s",
        values=values,
        ours="open",
        baseline="copy",
        target="none",
        limit="an experiment: what would be left if this step cost nothing",
    )


def _both(
    made: Room, rounds: int, *, cold: bool = False, touched: bool = False
) -> dict[str, list[float]]:
    """Return GiB/s of opening and of copying; `touched` gives both sides pages that are there."""
    seal, keys = made.read()
    size = opening.plan_sizes(seal)
    payloads = [made.sealed / entry.name for entry in seal.manifest.files]

    def timed(fill: Callable[[PlaintextMemory], object]) -> float:
        if cold:
            drop_caches(made.weights, *payloads)
        with PlaintextMemory(size) as memory:
            if touched:
                memory.prefault()
            start = time.perf_counter()
            fill(memory)
            return size / (time.perf_counter() - start) / (1 << 30)

    def unseal(memory: PlaintextMemory) -> None:
        opening.decrypt_all(seal, open_source(str(made.sealed)), lambda: keys, memory)

    def copy(memory: PlaintextMemory) -> None:
        copy_into(made.weights, memory.view)

    return interleaved(
        {"open": partial(timed, unseal), "copy": partial(timed, copy)}, rounds=rounds
    )


@contextmanager
def _no_digest() -> Iterator[None]:
    """Hash no segment, and take the digest that comes of it for the signed one."""
    agreed = SimpleNamespace(compare_digest=lambda *_: True)
    with (
        mock.patch.object(payload._Job, "hash_segment"),
        mock.patch.object(payload, "hmac", agreed),
    ):
        yield


@contextmanager
def _no_cipher() -> Iterator[None]:
    """Decrypt last segments alone: without the index no file would be known."""
    real = Cipher.decrypt

    def decrypt(
        self: Cipher, position: int, segment: memoryview, plain: memoryview, *, final: bool
    ) -> None:
        if final:
            real(self, position, segment, plain, final=final)

    with mock.patch.object(Cipher, "decrypt", decrypt):
        yield


_TOUCHED = "into pages that are there already"
_ABLATIONS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "without SHA-256": _no_digest,
    "without AES-GCM": _no_cipher,
    _TOUCHED: nullcontext,
}


def _shares() -> str:
    """Say what each step of opening costs alone, on one core."""
    data, out = bytearray(os.urandom(_SAMPLE)), bytearray(1 << 20)
    aead = AESGCM(bytes(32))
    segment = aead.encrypt(bytes(12), bytes(1 << 20), b"")
    steps = {
        "SHA-256": _rate(lambda: hashlib.sha256(data)),
        "AES-256-GCM": _rate(
            lambda: [
                aead.decrypt_into(bytes(12), segment, b"", out) for _ in range(_SAMPLE // len(out))
            ]
        ),
        "first touch of a memfd's pages": max(_touch() for _ in range(5)),
    }
    told = ", ".join(f"{name} {rate:.1f} GiB/s" for name, rate in steps.items())
    bound = 1 / sum(1 / rate for rate in steps.values())
    return (
        f"What one core does alone, best of five: {told}. One after another they make "
        f"{bound:.2f} GiB/s for each core; a copy pays for the first touch and for the copying "
        "only. The ratio therefore falls where page faults are cheap, and rises where they are "
        "dear or where the ciphertext comes from a disk or a network."
    )


def _rate(action: Callable[[], object]) -> float:
    def once() -> float:
        start = time.perf_counter()
        action()
        return _SAMPLE / (time.perf_counter() - start) / (1 << 30)

    return max(once() for _ in range(5))


def _touch() -> float:
    with PlaintextMemory(_SAMPLE) as memory:
        start = time.perf_counter()
        memory.prefault()
        return _SAMPLE / (time.perf_counter() - start) / (1 << 30)
