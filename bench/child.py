"""One load in a process of its own, told as one line of JSON: seconds, peak memory, a checksum.

Memory can only be compared between processes that did nothing else.
"""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import openvino as ov

import modelseal

PROPERTIES = {"PERFORMANCE_HINT": "LATENCY"}


def main() -> None:
    """Run `plain XML` or `sealed FOLDER KEY MODEL`."""
    kind, *arguments = sys.argv[1:]
    core = ov.Core()
    core.get_property("CPU", "FULL_DEVICE_NAME")  # loads the plugin, which both sides need
    base = _peak()
    start = time.perf_counter()
    total = _plain(core, *arguments) if kind == "plain" else _sealed(core, *arguments)
    spent = time.perf_counter() - start
    print(json.dumps({"seconds": spent, "peak": _peak(), "base": base, "total": total}))


def _plain(core: ov.Core, path: str) -> float:
    compiled = core.compile_model(path, "CPU", PROPERTIES)
    return float(np.sum(compiled(_inputs(compiled.inputs[0].shape[1]))[0], dtype=np.float64))


def _sealed(core: ov.Core, folder: str, key: str, model: str) -> float:
    with modelseal.open(folder, key=key, model=model, allow_unsigned=True) as sealed:
        compiled = sealed.compile_model(core, "CPU", PROPERTIES)
        return float(np.sum(compiled(_inputs(4096))["y"], dtype=np.float64))


def _inputs(width: int) -> dict[str, np.ndarray]:
    return {"x": np.linspace(-1, 1, width, dtype=np.float32).reshape(1, width)}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main()
