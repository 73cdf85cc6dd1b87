"""What a figure was measured on: a figure without its machine says nothing."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("cryptography", "numpy", "openvino", "uvicorn", "grpcio", "hvac")


def describe() -> dict[str, str]:
    """Return the processor, memory, kernel and versions, as text for a table."""
    return {
        "processor": _field("/proc/cpuinfo", "model name"),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{int(_field('/proc/meminfo', 'MemTotal').split()[0]) / (1 << 20):.0f} GiB",
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"
