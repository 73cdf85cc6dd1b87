"""The plain side of opening: the same bytes, copied into memory by as many threads."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

_CHUNK = 4 << 20


def copy_into(path: Path, out: memoryview) -> None:
    """Copy a file into memory with as many threads as there are processors."""
    descriptor = os.open(path, os.O_RDONLY)
    size = os.fstat(descriptor).st_size
    chunks: Iterator[int] = iter(range(0, size, _CHUNK))
    guard = threading.Lock()

    def work() -> None:
        while True:
            with guard:
                start = next(chunks, None)
            if start is None:
                return
            end = min(start + _CHUNK, size)
            while start < end:
                start += os.preadv(descriptor, [out[start:end]], start)

    threads = [threading.Thread(target=work) for _ in os.sched_getaffinity(0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.close(descriptor)
