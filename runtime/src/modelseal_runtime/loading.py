"""From a delivered model to one that serves."""

import math
import os
from collections.abc import Sequence
from typing import Final

from modelseal.cgroups import cpu_quota
from modelseal.engine import LoadedModel
from modelseal.engine.configuration import ByDevice
from modelseal.handover import Model
from modelseal_runtime.calibration import INLINE_SECONDS, LATENCY, Calibrated, Choice, calibrate
from modelseal_runtime.delivery import Mapped
from modelseal_runtime.protocol.query import Identity, Interface
from modelseal_runtime.serving import Served
from modelseal_runtime.settings import AUTO

_UNPINNED: Final = {"ENABLE_CPU_PINNING": False}
"""Pinned threads of several processes, which know nothing of each other, end up on one core."""
_ENVELOPE_BYTES: Final = 512
"""What a small request has around its tensors."""


def load(
    model: Model,
    memory: Mapped,
    *,
    name: str | None,
    devices: Sequence[str],
    hint: str,
    by_device: ByDevice,
) -> Served:
    """Load, warm up, and choose the performance hint by measurement where none was given.

    The memory is released when the model is closed, and if loading fails.

    Raises:
        ModelLoadFailed: OpenVINO does not take the model.
        DeviceUnavailable: no wanted device is there.

    """
    keep = memory.user()  # the mapping stays while one hint gives way to another
    try:
        loaded, fastest, choice = _load(memory, devices, hint, by_device)
    finally:
        keep()
    return Served(
        model=loaded,
        identity=Identity(name=name or model.model.rpartition("/")[2], version=model.version),
        interface=Interface(loaded.inputs, loaded.outputs),
        digest=model.digest,
        choice=choice,
        inline_bytes=inline_bytes(loaded, fastest) if choice.hint == LATENCY else -1,
    )


def inline_bytes(loaded: LoadedModel, seconds: float) -> int:
    """Return up to which size a request takes no longer than handing it to a thread, -1 for none.

    Time is taken to grow with the size, from the one request that was measured.
    """
    if not 0 < seconds < INLINE_SECONDS:
        return -1
    return int((loaded.least_bytes + _ENVELOPE_BYTES) * INLINE_SECONDS / seconds)


def _load(memory: Mapped, devices: Sequence[str], hint: str, by_device: ByDevice) -> Calibrated:
    limit = thread_limit()

    def load_with(hint: str) -> LoadedModel:
        return LoadedModel.load(
            memory.files,
            release=memory.user(),
            devices=devices,
            by_device=by_device,
            config=_UNPINNED,
            hint=hint,
            threads=limit,
        )

    if hint == AUTO:
        return calibrate(load_with, threads=cpu_threads())
    loaded = load_with(hint)
    return Calibrated(loaded, loaded.warm_up(), Choice(hint=hint, why="it was set"))


def cpu_threads() -> int:
    """Return how many CPUs this process may use at a time: affinity and the container's quota."""
    return thread_limit() or len(os.sched_getaffinity(0))


def thread_limit() -> int | None:
    """Return how many threads the container's quota allows, or `None` if all that affinity does.

    OpenVINO keeps the affinity by itself and knows no quota. A number that it is given outweighs
    what it does by itself: with `LATENCY` it stays on one NUMA node and one thread of each core.
    """
    allowed, quota = len(os.sched_getaffinity(0)), cpu_quota()
    threads = allowed if quota is None else max(1, math.ceil(quota))
    return threads if threads < allowed else None
