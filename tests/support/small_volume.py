"""A memory-backed volume that is too small for a model."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

for_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a small volume")


@contextlib.contextmanager
def small_volume(folder: Path, size: str) -> Iterator[Path]:
    """Mount a tmpfs of a size such as `64k` below a folder."""
    small = folder / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "small", str(small)]
    subprocess.run(mount, check=True)
    try:
        yield small
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)
        small.rmdir()
