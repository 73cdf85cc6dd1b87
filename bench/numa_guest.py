"""What runs in the emulated machine: serve a model, and say where its threads and pages are.

With the name of a case as its argument it prints one line of JSON for the runtime with one stream,
and one for the runtime as it chooses.
"""

import http.client
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.models import write_dense_model
from bench.served import NAME, served

MARK = "FOUND "
_WIDTH, _MEGABYTES, _REQUESTS = 1024, 32, 24
_PAGE = 1 << 12
_BUSY = 0.5
"""Of the busiest thread's time: what a thread that computes takes, and one that reads does not."""


def main() -> None:
    """Serve in each way, and print what was seen."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = write_dense_model(folder / "m.xml", megabytes=_MEGABYTES, width=_WIDTH)
        for streams in ("1", ""):
            more = ["--property", f"CPU.NUM_STREAMS={streams}"] if streams else []
            (folder / (streams or "auto")).mkdir()
            with served(model, folder / (streams or "auto"), more=more) as endpoint:
                before = dict(_ticks(endpoint.pid))
                _ask(endpoint.port)
                found = {
                    "case": sys.argv[1],
                    "streams": streams or "auto",
                    "computing": _computing(before, dict(_ticks(endpoint.pid))),
                    "masks": sorted(set(_masks(endpoint.pid))),
                    "pages": _pages(endpoint.pid),
                }
            print(f"{MARK}{json.dumps(found)}", flush=True)


def _ask(port: int) -> None:
    row = {"name": "x", "datatype": "FP32", "shape": [1, _WIDTH], "data": [0.5] * _WIDTH}
    body = json.dumps({"inputs": [row]}).encode()

    def once(_: int) -> None:
        asking = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        asking.request("POST", f"/v2/models/{NAME}/infer", body)
        if asking.getresponse().status != http.HTTPStatus.OK:
            raise RuntimeError("the runtime did not answer")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(once, range(_REQUESTS)))


def _ticks(pid: int) -> Iterator[tuple[str, int]]:
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        fields = stat.read_text().rpartition(")")[2].split()
        yield stat.parent.name, int(fields[11])


def _computing(before: dict[str, int], after: dict[str, int]) -> int:
    spent = [ticks - before.get(thread, 0) for thread, ticks in after.items()]
    return sum(each >= _BUSY * max(spent) for each in spent)


def _masks(pid: int) -> Iterator[str]:
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        yield from re.findall(r"Cpus_allowed_list:\s+(\S+)", status.read_text())


def _pages(pid: int) -> dict[str, float]:
    """Return MiB by kind and node, such as `{"memfd 0": 32.0}`; files of programs are left out."""
    found: Counter[str] = Counter()
    for line in Path(f"/proc/{pid}/numa_maps").read_text().splitlines():
        kind = "memfd" if "memfd" in line else "own"
        if kind == "own" and "file=" in line:
            continue
        for node, pages in re.findall(r" N(\d+)=(\d+)", line):
            found[f"{kind} {node}"] += int(pages) * _PAGE
    return {name: size / (1 << 20) for name, size in sorted(found.items())}


if __name__ == "__main__":
    main()
