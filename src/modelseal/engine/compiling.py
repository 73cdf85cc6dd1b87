"""Compile a model on the first wanted device that takes it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from modelseal.engine._openvino import ov
from modelseal.engine.configuration import Property, checked
from modelseal.engine.devices import Refusal, candidates
from modelseal.engine.plugins import load_plugins
from modelseal.errors import DeviceUnavailable, ModelLoadFailed, SettingsError, shown

HINTS: Final = ("LATENCY", "THROUGHPUT", "CUMULATIVE_THROUGHPUT")


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """A compiled model, the device that took it, and why earlier ones did not."""

    model: Any
    device: str
    refused: tuple[Refusal, ...]
    seconds: float


def properties(
    config: Mapping[str, Property], hint: str | None, threads: int | None
) -> dict[str, Property]:
    """Return OpenVINO's properties for compiling; what the user set explicitly wins.

    Raises:
        SettingsError: a property or hint is not an allowed one.

    """
    if hint is not None and hint not in HINTS:
        raise SettingsError(
            f"failed to read the performance hint: {shown(hint)} is not one",
            hint=f"choose one of {', '.join(HINTS)}",
        )
    chosen = checked(config)
    if hint is not None and "NUM_STREAMS" not in chosen:
        chosen.setdefault("PERFORMANCE_HINT", hint)
    if threads is not None:
        # Pinned threads of several processes under a quota end up on the same cores.
        chosen.setdefault("INFERENCE_NUM_THREADS", threads)
        chosen.setdefault("ENABLE_CPU_PINNING", False)
    return chosen


def compile_model(
    core: Any, model: Any, devices: Sequence[str], config: Mapping[str, Property]
) -> Compiled:
    """Try the wanted devices one after the other.

    Raises:
        DeviceUnavailable: this machine has none of them.
        ModelLoadFailed: none of those it has takes the model.

    """
    usable, refused = candidates(devices, load_plugins(core))
    if not usable:
        raise DeviceUnavailable(
            f"failed to find a device: none of {', '.join(devices)} is on this machine"
        )
    lost = list(refused)
    for device in usable:
        started = time.monotonic()
        compiled, why = _try(core, model, device, config)
        if compiled is not None:
            seconds = time.monotonic() - started
            return Compiled(model=compiled, device=device, refused=tuple(lost), seconds=seconds)
        lost.append(Refusal(device=device, why=why))
    reasons = "; ".join(f"{refusal.device}: {refusal.why}" for refusal in lost)
    raise ModelLoadFailed(f"failed to compile the model: {reasons}")


def _try(
    core: Any, model: Any, device: str, config: Mapping[str, Property]
) -> tuple[Any | None, str]:
    # An empty CACHE_DIR also overrides one that an application has set on its own core.
    for_device = {key: value for key, value in config.items() if _concerns(key, device)}
    try:
        return core.compile_model(model, device, for_device | {"CACHE_DIR": ""}), ""
    except (RuntimeError, ValueError, TypeError) as error:
        # The text of the exception names layers of the model: not repeated.
        return None, f"OpenVINO could not compile it ({type(error).__name__})"


def _concerns(name: str, device: str) -> bool:
    cpu_only = ("INFERENCE_NUM_THREADS", "ENABLE_CPU_PINNING", "ENABLE_HYPER_THREADING")
    return name not in cpu_only or device.partition("(")[0] == "CPU"


def new_core() -> Any:
    """Return a core of our own."""
    return ov.Core()
