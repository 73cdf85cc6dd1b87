"""One load in a process of its own, told as one line of JSON: seconds, peak memory, a checksum.

Memory can only be compared between processes that did nothing else.
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PROPERTIES = {"PERFORMANCE_HINT": "LATENCY"}


def load(kind: str, *arguments: str | Path) -> dict[str, float]:
    """Run `plain XML` or `sealed FOLDER KEY MODEL` in a new process.

    Returns:
        `seconds` from the start of loading to the first answer, `process` from the start of the
        process to its end, `peak` and `base` resident bytes (`base` is before loading), and the
        `total` of the answer, by which both kinds can be seen to compute the same.

    """
    command = [sys.executable, "-m", "bench.child", kind, *map(str, arguments)]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result | {"process": time.perf_counter() - start}


def drop_caches(*paths: Path) -> None:
    """Take files out of the page cache, as far as the kernel follows the advice."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def _main() -> None:
    kind, *arguments = sys.argv[1:]
    import openvino as ov  # noqa: PLC0415 - the parent process needs none of it

    core = ov.Core()
    core.get_property("CPU", "FULL_DEVICE_NAME")  # loads the plugin, which both sides need
    run = _plain if kind == "plain" else _sealed
    base = _peak()
    start = time.perf_counter()
    total = run(core, *arguments)
    spent = time.perf_counter() - start
    print(json.dumps({"seconds": spent, "peak": _peak(), "base": base, "total": total}))


def _plain(core: Any, path: str) -> float:
    compiled = core.compile_model(core.read_model(path), "CPU", PROPERTIES)
    return _total(compiled(_inputs(compiled.inputs[0].shape[1]))[0])


def _sealed(core: Any, folder: str, key: str, model: str) -> float:
    import modelseal  # noqa: PLC0415 - counted: an application pays for it too

    with modelseal.open(folder, key=key, model=model, allow_unsigned=True) as sealed:
        compiled = sealed.compile_model(core, "CPU", PROPERTIES)
        _, width = compiled.inputs[0].shape or ()
        return _total(compiled(_inputs(width))["y"])


def _inputs(width: int) -> dict[str, Any]:
    import numpy as np  # noqa: PLC0415 - as above

    return {"x": np.linspace(-1, 1, width, dtype=np.float32).reshape(1, width)}


def _total(answer: Any) -> float:
    return float(answer.astype("float64").sum())


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    _main()
