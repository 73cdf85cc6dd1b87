"""Where the runtime's threads and memory are on two NUMA nodes, in a machine that QEMU emulates.

Needs root, and on Debian: qemu-system-x86, debootstrap and cpio. No time is measured: emulated
processors say nothing about real ones.
"""

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from bench.findings import Effort, Findings, Row
from bench.numa_guest import MARK

TITLE = "Two NUMA nodes"
_ROOT: Final = Path(__file__).resolve().parents[1]
_SUITE, _PYTHON = "bookworm", (3, 11)
_PROGRAMS: Final = ("debootstrap", "cpio", "qemu-system-x86_64", "apt-get")
_UNUSED: Final = ("pip", "mypy*", "*mypyc*", "matplotlib*", "kubernetes*", "onnx*", "openbao*")
_NODES: Final = 2
_SECONDS: Final = 1800
_OPTIONS: Final = (
    ("accel", "tcg,thread=multi"),
    ("cpu", "max"),
    ("m", "8G"),
    ("smp", "4,sockets=2,cores=2,threads=1"),
    ("object", "memory-backend-ram,id=m0,size=4G"),
    ("object", "memory-backend-ram,id=m1,size=4G"),
    ("numa", "node,nodeid=0,cpus=0-1,memdev=m0"),
    ("numa", "node,nodeid=1,cpus=2-3,memdev=m1"),
    ("display", "none"),
    ("monitor", "none"),
    ("serial", "stdio"),
    ("append", "console=ttyS0 panic=-1 quiet"),
)
_INIT: Final = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/shm; mount -t tmpfs tmp /tmp; mount -t tmpfs shm /dev/shm; ip link set lo up
python3 -m bench.numa_guest unbound
numactl --cpunodebind=1 --membind=1 python3 -m bench.numa_guest bound
echo o >/proc/sysrq-trigger; sleep 60
"""
_COMMAND: Final = """#!/usr/bin/python3
import sys
from modelseal.cli.main import main
sys.exit(main())
"""


def measure(effort: Effort) -> Findings:
    """Serve a model in a machine of two nodes with two processors each."""
    del effort
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing or sys.version_info[:2] != _PYTHON:
        lacking = ", ".join(missing) or "that Python"
        sys.exit(f"this question needs Python 3.11 on Debian {_SUITE}: here is no {lacking}")
    with tempfile.TemporaryDirectory(prefix="modelseal-bench-", dir="/var/tmp") as name:
        folder = Path(name)
        _make_root(folder / "root")
        found = {(each["case"], each["streams"]): each for each in _run(folder)}
    return Findings(rows=[*_rows(found)], notes=[_note(found)])


def _make_root(root: Path) -> None:
    _call("debootstrap", "--variant=minbase", "--include=python3,numactl,iproute2", _SUITE, root)
    site = root / "site"
    installed = Path(sysconfig.get_path("purelib"))
    shutil.copytree(installed, site, ignore=shutil.ignore_patterns(*_UNUSED, "__pycache__"))
    for source in ("src", "sidecar/src", "runtime/src"):
        shutil.copytree(_ROOT / source, site, dirs_exist_ok=True)
    shutil.copytree(_ROOT / "bench", site / "bench")
    (root / "usr/lib/python3/dist-packages/site.pth").write_text("/site\n")
    for path, text in ((root / "init", _INIT), (root / "usr/bin/modelseal", _COMMAND)):
        path.write_text(text)
        path.chmod(0o755)
    for unused in ("usr/share/doc", "usr/share/locale", "var/cache/apt", "var/lib/apt"):
        shutil.rmtree(root / unused)


def _run(folder: Path) -> list[dict[str, Any]]:
    root, archive = folder / "root", folder / "root.cpio"
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    with archive.open("wb") as file:
        _call("cpio", "-o", "-H", "newc", "--quiet", cwd=root, input=names.encode(), stdout=file)
    options = [word for name, value in _OPTIONS for word in (f"-{name}", value)]
    booted = ["-kernel", str(_kernel(folder)), "-initrd", str(archive), "-no-reboot"]
    said = _said("qemu-system-x86_64", *options, *booted)
    lines = [line.partition(MARK)[2] for line in said.splitlines() if MARK in line]
    if len(lines) != 4:
        raise RuntimeError(f"the emulated machine did not finish: {said[-2000:]}")
    return [json.loads(line) for line in lines]


def _kernel(folder: Path) -> Path:
    wanted = _said("apt-cache", "depends", "linux-image-cloud-amd64")
    (package,) = re.findall(r"Depends: (linux-image-\S+)", wanted)
    _call("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", package, cwd=folder)
    (archive,) = folder.glob("linux-image-*.deb")
    _call("dpkg-deb", "-x", archive, folder / "kernel")
    (kernel,) = (folder / "kernel" / "boot").glob("vmlinuz-*")
    return kernel


def _call(*words: str | Path, **more: Any) -> "subprocess.CompletedProcess[Any]":
    more = {"stdout": subprocess.DEVNULL, **more}
    return subprocess.run(words, check=True, timeout=_SECONDS, **more)


def _said(*words: str) -> str:
    return str(_call(*words, stdout=subprocess.PIPE, text=True, errors="replace").stdout)


def _rows(found: dict[tuple[str, str], dict[str, Any]]) -> Iterable[Row]:
    for streams, name in (("1", "one stream"), ("auto", "as it chooses")):
        pages = found["bound", streams]["pages"]
        yield Row(
            question=f"bound to a node, {name}: the runtime's memory on it",
            unit="MiB",
            values={"there": [_on(pages, 1)], "everywhere": [_all(pages)]},
            ours="there",
            baseline="everywhere",
            target="1",
            limit="nothing: model, packed weights and buffers follow the policy",
        )
    yield Row(
        question="bound to no node, one stream: threads that compute",
        unit="threads",
        values={"runtime": [found["unbound", "1"]["computing"]], "processors of a node": [2.0]},
        ours="runtime",
        baseline="processors of a node",
        target="1",
        limit="nothing: OpenVINO keeps one stream to one node's processors",
    )
    both = found["unbound", "auto"]["pages"]
    one = found["bound", "auto"]["pages"]
    yield Row(
        question="bound to no node, a stream for each processor: memory",
        unit="MiB",
        values={"both nodes": [_all(both)], "one node": [_all(one)]},
        ours="both nodes",
        baseline="one node",
        target="none",
        limit="OpenVINO packs the weights once for each node that it computes on",
    )


def _on(pages: dict[str, float], node: int) -> float:
    return sum(size for name, size in pages.items() if name.endswith(f" {node}"))


def _all(pages: dict[str, float]) -> float:
    return sum(_on(pages, node) for node in range(_NODES))


def _note(found: dict[tuple[str, str], dict[str, Any]]) -> str:
    bound, free = found["bound", "auto"], found["unbound", "auto"]
    return (
        "A machine of two nodes with two processors each, emulated by QEMU; the runtime is what "
        "`modelseal serve` starts for a sealed model of 32 MiB, as it is and under `numactl "
        "--cpunodebind=1 --membind=1`, which is what a cpuset of the topology manager does. Bound, "
        f"every thread has the processors {', '.join(bound['masks'])}; unbound they have "
        f"{', '.join(free['masks'])}, for nothing is pinned. Memory is what the kernel counts for "
        "each node in `numa_maps`, without the files of programs. No time was measured."
    )
