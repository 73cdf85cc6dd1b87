"""The performance hint is measured while a model loads, within its memory, and reported."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from modelseal.contract import Env
from modelseal.handover import Loaded
from modelseal_runtime.loading import cpu_threads
from support import models
from support.protocol_runtime import Runtime, joined
from support.requirements import unavailable

pytestmark = pytest.mark.e2e
WIDTH, LAYERS = 2048, 8


@contextmanager
def serving(folder: Path, hint: str, contents: dict[str, bytes]) -> Iterator[Runtime]:
    """Serve a model with a hint, or with a measured one."""
    with joined(folder / hint, {Env.PERFORMANCE_HINT: hint}) as (runtime, agent):
        assert isinstance(agent.deliver(contents), Loaded), runtime.describe()
        runtime.wait_ready()
        yield runtime


def parameters(runtime: Runtime) -> dict[str, Any]:
    """Return what the metadata says beside the tensors."""
    found: dict[str, Any] = runtime.ask("/v2/models/model").json["parameters"]
    return found


def peak(runtime: Runtime) -> int:
    """Return the most memory that the runtime has had, in KiB."""
    for line in Path(f"/proc/{runtime.process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise LookupError("VmHWM")


def test_a_measured_hint_needs_no_more_memory_than_a_given_one_and_is_reported(
    tmp_path: Path,
) -> None:
    if cpu_threads() == 1:
        unavailable("two hints differ on two processors and more")
    contents = models.perceptron(WIDTH, LAYERS)
    peaks = {}
    for hint in ("LATENCY", "THROUGHPUT"):
        with serving(tmp_path, hint, contents) as runtime:
            peaks[hint] = peak(runtime)
            assert parameters(runtime)["performance_hint_why"] == "it was set"
    with serving(tmp_path, "AUTO", contents) as runtime:
        said = parameters(runtime)
        assert said["performance_hint_why"].startswith("measured: LATENCY ")
        for line in runtime.log.read_text().splitlines():
            if json.loads(line)["event"] == "the model is loaded":
                assert json.loads(line)["hintWhy"] == said["performance_hint_why"]
        metrics = runtime.ask("/metrics", port="health").body.decode()
        for hint in ("LATENCY", "THROUGHPUT"):
            assert f'modelseal_hint_inferences_per_second{{hint="{hint}"}}' in metrics
        assert peak(runtime) < 1.05 * max(peaks.values()), peaks
