"""The runtime takes the processors that it was given, and no others."""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelseal.contract import Env
from modelseal.handover import Loaded
from support import models
from support.cgroup import inside
from support.protocol_runtime import Runtime, joined
from support.requirements import unavailable

pytestmark = pytest.mark.e2e
_SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237}
_MPOL_DEFAULT, _MPOL_BIND = 0, 2
_MASK = "Cpus_allowed_list:"
INPUT = {"name": "x", "datatype": "FP32", "shape": [1, 64], "data": [0.5] * 64}


@pytest.fixture(autouse=True)
def _several() -> None:
    if len(os.sched_getaffinity(0)) < 2:
        unavailable("fewer processors are fewer on two and more")


@contextlib.contextmanager
def serving(folder: Path, hint: str = "THROUGHPUT") -> Iterator[Runtime]:
    """Serve a model; with this hint there is a worker for each processor."""
    with joined(folder / "log", {Env.PERFORMANCE_HINT: hint}) as (runtime, agent):
        assert isinstance(agent.deliver(models.perceptron()), Loaded), runtime.describe()
        runtime.wait_ready()
        assert runtime.infer({"inputs": [INPUT]}).status == 200
        yield runtime


def workers(runtime: Runtime) -> int:
    """Return how many requests run at a time."""
    return int(parameters(runtime)["workers"])


def parameters(runtime: Runtime) -> dict[str, Any]:
    """Return what the runtime says of the model."""
    found: dict[str, Any] = runtime.ask("/v2/models/model").json["parameters"]
    return found


def allowed(runtime: Runtime) -> set[str]:
    """Return which processors the threads may use, as the kernel says it."""
    found = set()
    for status in Path(f"/proc/{runtime.process.pid}/task").glob("*/status"):
        with contextlib.suppress(OSError):  # the thread has ended
            text = status.read_text()
            found |= {line.split()[1] for line in text.splitlines() if line.startswith(_MASK)}
    return found


@contextlib.contextmanager
def pinned(processor: int) -> Iterator[None]:
    """Let children run on one processor, as `taskset` does."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {processor})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def test_without_a_limit_every_processor_is_used(tmp_path: Path) -> None:
    with serving(tmp_path) as runtime:
        assert workers(runtime) > 1


def test_without_a_quota_openvino_decides_on_threads_because_it_knows_the_nodes(
    tmp_path: Path,
) -> None:
    with serving(tmp_path) as runtime:
        assert "INFERENCE_NUM_THREADS" not in parameters(runtime)["device_properties"]


def test_an_affinity_mask_is_kept_by_every_thread(tmp_path: Path) -> None:
    last = max(os.sched_getaffinity(0))
    with pinned(last), serving(tmp_path) as runtime:
        assert allowed(runtime) == {str(last)}
        assert workers(runtime) == 1


def test_the_hint_on_one_processor_is_not_measured(tmp_path: Path) -> None:
    with pinned(max(os.sched_getaffinity(0))), serving(tmp_path, "AUTO") as runtime:
        said = parameters(runtime)
    assert said["performance_hint"] == "LATENCY"
    assert said["performance_hint_why"] == "there is one processor"


def test_a_cpuset_is_kept_by_every_thread(tmp_path: Path) -> None:
    last = str(max(os.sched_getaffinity(0)))
    both = {"cpuset.cpus": last, "cpuset.mems": "0"}
    with inside("cpuset", both, both), serving(tmp_path) as runtime:
        assert allowed(runtime) == {last}
        assert workers(runtime) == 1


@contextlib.contextmanager
def bound_to_the_first_node() -> Iterator[None]:
    """Let children take memory of the first NUMA node alone, as `numactl --membind=0` does."""
    number, libc = _SET_MEMPOLICY[os.uname().machine], ctypes.CDLL(None, use_errno=True)
    first = ctypes.c_ulong(1)
    if libc.syscall(number, _MPOL_BIND, ctypes.byref(first), 8 * ctypes.sizeof(first)):
        unavailable("the kernel knows no policies of memory")
    try:
        yield
    finally:
        libc.syscall(number, _MPOL_DEFAULT, None, 0)


def test_a_policy_of_memory_is_kept_for_everything_that_the_runtime_holds(tmp_path: Path) -> None:
    with bound_to_the_first_node(), serving(tmp_path) as runtime:
        maps = Path(f"/proc/{runtime.process.pid}/numa_maps").read_text().splitlines()
    policies = {line.split()[1] for line in maps if "anon=" in line}
    assert policies == {"bind:0"}


def test_a_quota_of_one_processor_makes_one_worker(tmp_path: Path) -> None:
    first = {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "100000"}
    with inside("cpu", first, {"cpu.max": "100000 100000"}), serving(tmp_path) as runtime:
        assert len(allowed(runtime)) == 1, "all threads have the same processors"
        assert "INFERENCE_NUM_THREADS=1" in parameters(runtime)["device_properties"]
        assert workers(runtime) == 1
