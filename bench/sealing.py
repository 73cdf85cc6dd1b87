"""Sealing, against copying to the same disk as durably."""

import itertools
import os
import shutil
import time
from pathlib import Path

from bench.findings import Effort, Findings, Row, interleaved
from bench.room import Room, room

TITLE = "Sealing"


def measure(effort: Effort) -> Findings:
    """Compare sealing with `cp` and `fsync` of the same file into the same folder."""
    with room(effort.megabytes) as made:
        return Findings(rows=[_row(made, effort.rounds)])


def _row(made: Room, rounds: int) -> Row:
    numbers = itertools.count()
    size = made.weights.stat().st_size

    def ours() -> float:
        output = made.folder / f"sealed-{next(numbers)}"
        start = time.perf_counter()
        made.seal_into(output)
        spent = time.perf_counter() - start
        shutil.rmtree(output)
        return size / spent / (1 << 30)

    def copy() -> float:
        output = made.folder / f"copied-{next(numbers)}"
        start = time.perf_counter()
        shutil.copyfile(made.weights, output)
        _sync(output)
        spent = time.perf_counter() - start
        output.unlink()
        return size / spent / (1 << 30)

    return Row(
        question=f"{made.megabytes} MiB to the disk, synced",
        unit="GiB/s",
        values=interleaved({"seal": ours, "copy": copy}, rounds=rounds),
        ours="seal",
        baseline="copy",
        target="none",
        limit="two SHA-256 passes (plaintext, in order; ciphertext, in parallel), then the disk",
    )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
