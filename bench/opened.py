"""How fast a sealed model is opened, and at what cost in memory, against the plain model."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.pairs import Row, interleaved
from modelseal import opening
from modelseal.envelope import DataKeys, Seal
from modelseal.memory import PlaintextMemory
from modelseal.sources import open_source

CHUNK = 2 << 20
ROOT = Path(__file__).resolve().parents[1]


def unseal(folder: Path, plain: Path, seal: Seal, keys: Callable[[], DataKeys], rounds: int) -> Row:
    """Compare fetch, hash and decrypt with a parallel copy, both into cold memory of one kind."""
    size = plain.stat().st_size

    def ours() -> float:
        with PlaintextMemory(opening.plan_sizes(seal)) as memory:
            start = time.perf_counter()
            opening.decrypt_all(seal, open_source(str(folder)), keys, memory)
            return size / (time.perf_counter() - start) / (1 << 30)

    def copy() -> float:
        with PlaintextMemory(size) as memory:
            start = time.perf_counter()
            _copy(plain, memory.view)
            return size / (time.perf_counter() - start) / (1 << 30)

    return Row(
        question=f"open {size >> 20} MiB into memory",
        unit="GiB/s",
        values=interleaved({"unseal": ours, "copy": copy}, rounds=rounds),
        ours="unseal",
        baseline="copy",
        target="≥ 0.9",
        limit="SHA-256 of the ciphertext, after first-touch page faults that both sides pay",
    )


def cold_start(folder: Path, key: Path, plain: Path, rounds: int, *, cold: bool) -> Row:
    """Compare sealed and plain loading up to the first answer, each in a process of its own."""
    files = [plain, plain.with_suffix(".bin"), *(folder / "p").iterdir()]

    def run(*arguments: str) -> float:
        if cold:
            _drop_caches(files)
        return float(_child(*arguments)["seconds"])

    size = plain.with_suffix(".bin").stat().st_size >> 20
    return Row(
        question=f"first answer of {size} MiB, {'cold' if cold else 'warm'} page cache",
        unit="s",
        values=interleaved(
            {
                "sealed": lambda: run("sealed", str(folder), f"file:{key}", "bench/dense"),
                "plain": lambda: run("plain", str(plain)),
            },
            rounds=rounds,
        ),
        ours="sealed",
        baseline="plain",
        target="≤ 1.02",
        limit="decryption, which a plain file that is mapped and already cached does not need"
        if not cold
        else "reading from the disk, on which decryption rides along",
    )


def peak_memory(folder: Path, key: Path, plain: Path, rounds: int) -> Row:
    """Compare the peak of resident memory of the two loads."""
    size = plain.with_suffix(".bin").stat().st_size >> 20
    return Row(
        question=f"peak memory of {size} MiB",
        unit="MiB",
        values=interleaved(
            {
                "sealed": lambda: _peak("sealed", str(folder), f"file:{key}", "bench/dense"),
                "plain": lambda: _peak("plain", str(plain)),
            },
            rounds=rounds,
        ),
        ours="sealed",
        baseline="plain",
        target="≤ 1.05",
        limit="libraries and the fetch buffers; the weights exist once on both sides",
    )


def _peak(*arguments: str) -> float:
    result = _child(*arguments)
    return float(result["peak"]) / (1 << 20)


def _child(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.child", *arguments],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _copy(path: Path, out: memoryview) -> None:
    """Copy a file into memory with as many threads as there are processors."""
    descriptor = os.open(path, os.O_RDONLY)
    size = os.fstat(descriptor).st_size
    chunks: Iterator[int] = iter(range(0, size, CHUNK))
    guard = threading.Lock()

    def work() -> None:
        while True:
            with guard:
                start = next(chunks, None)
            if start is None:
                return
            end = min(start + CHUNK, size)
            while start < end:
                start += os.preadv(descriptor, [out[start:end]], start)

    threads = [threading.Thread(target=work) for _ in os.sched_getaffinity(0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.close(descriptor)


def _drop_caches(files: list[Path]) -> None:
    """Take these files out of the page cache, as far as the kernel follows the advice."""
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
