"""A million requests to one runtime: what it holds afterwards that it did not hold before."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.findings import Curves, Effort, Findings, Row
from bench.served import NAME, Endpoint, served
from bench.serving import load_for, request_file
from bench.serving_models import write_model

TITLE = "A million requests"
REQUESTS = 1_000_000
SECONDS = 5.0
HALF = REQUESTS // 2
_UNKNOWN = "/v2/models/other/infer"
_NOTE = """One runtime, eight connections that ask without a pause (binary requests of 49 kB,
inferences of about 0.1 ms), new connections every five seconds, and each time some thousand
requests that are refused. Memory is the resident memory of the runtime's process."""


def measure(effort: Effort) -> Findings:
    """Ask until there were a million requests, and look at the memory in between."""
    with tempfile.TemporaryDirectory(prefix="modelseal-bench-", dir="/var/tmp") as name:
        folder = Path(name)
        write_model(folder / "model.xml", 0.1)
        with served(folder / "model.xml", folder) as runtime:
            points = _asked(runtime, folder)
    return findings([(count / 1e6, size / (1 << 20)) for count, size in points])


def findings(megabytes: Sequence[tuple[float, float]]) -> Findings:
    """Return what the points say: MiB by millions of requests."""
    half = next(size for count, size in megabytes if count * 1e6 >= HALF)
    last = megabytes[-1]
    row = Row(
        question=f"memory after {last[0]:.2f} million requests",
        unit="MiB",
        values={"then": [last[1]], "half-way": [half]},
        ours="then",
        baseline="half-way",
        target="≤ 1.02",
        limit="what the allocator keeps for the next request",
    )
    curve = Curves(
        name="memory",
        title="Resident memory of the runtime",
        x="million requests",
        y="MiB",
        lines={"runtime": megabytes},
    )
    return Findings(rows=[row], curves=[curve], notes=[_NOTE])


def _asked(runtime: Endpoint, folder: Path) -> list[tuple[float, float]]:
    good = request_file(folder, "binary", f"/v2/models/{NAME}/infer")
    bad = request_file(folder, "binary", _UNKNOWN)
    asked, points = 0.0, []
    while asked < REQUESTS:
        asked += load_for(runtime.port, good, seconds=SECONDS)["total"]
        _refused(runtime.port, bad)
        points.append((asked, float(_resident(runtime.pid))))
        print(f"{asked:,.0f} requests, {points[-1][1] / (1 << 20):.1f} MiB", flush=True)
    return points


def _refused(port: int, request: Path) -> None:
    """Send requests that are refused, from a program of their own: it fails, as it should."""
    subprocess.run(
        [sys.executable, "-m", "bench.load", request, "--port", str(port), "--seconds", "0.2"],
        cwd=Path(__file__).resolve().parents[1], check=False, capture_output=True,
    )  # fmt: skip


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
