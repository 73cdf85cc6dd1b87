"""Compile a model on the first wanted device that takes it."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from modelseal.engine._openvino import ov
from modelseal.engine.configuration import ByDevice, Property, checked
from modelseal.engine.devices import META, Refusal, candidates
from modelseal.engine.plugins import load_plugins
from modelseal.errors import DeviceUnavailable, ModelLoadFailed, SettingsError, shown

HINTS: Final = ("LATENCY", "THROUGHPUT", "CUMULATIVE_THROUGHPUT")
_CPU: Final = "CPU"
_CPU_ONLY: Final = ("INFERENCE_NUM_THREADS", "ENABLE_CPU_PINNING", "ENABLE_HYPER_THREADING")


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """A compiled model, the device that took it, and why earlier ones did not."""

    model: Any
    device: str
    refused: tuple[Refusal, ...]
    properties: tuple[str, ...]
    """What OpenVINO was told, as `NUM_STREAMS=2`, or `CPU.NUM_STREAMS=2` for a member."""
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
        chosen.setdefault("INFERENCE_NUM_THREADS", threads)
    return chosen


def compile_model(
    core: Any,
    model: Any,
    devices: Sequence[str],
    config: Mapping[str, Property],
    by_device: ByDevice,
) -> Compiled:
    """Try the wanted devices one after the other, each with what was set for it alone.

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
        told = for_device(device, config, by_device)
        compiled, why = _try(core, model, device, told)
        if compiled is not None:
            return Compiled(
                model=compiled,
                device=device,
                refused=tuple(lost),
                properties=tuple(_words(told)),
                seconds=time.monotonic() - started,
            )
        lost.append(Refusal(device=device, why=why))
    reasons = "; ".join(f"{refusal.device}: {refusal.why}" for refusal in lost)
    raise ModelLoadFailed(f"failed to compile the model: {reasons}")


def for_device(
    device: str, config: Mapping[str, Property], by_device: ByDevice
) -> dict[str, object]:
    """Return what OpenVINO is told for one device.

    A device that stands for others (`AUTO:GPU,CPU`) gets the properties of its members nested, and
    among those what is for the CPU only: it does not take them for itself. `BATCH` has one member
    and hands it everything.
    """
    head, _, rest = device.partition(":")
    if head == "BATCH":
        return {**for_device(rest, config, by_device), **by_device.get(head, {})}
    if head not in META:
        general = config if _family(device) == _CPU else _without_cpu_only(config)
        return {**general, **_own(device, by_device)}
    threads = {name: value for name, value in config.items() if name in _CPU_ONLY}
    members: dict[str, dict[str, Property]] = {name: {**own} for name, own in by_device.items()}
    told = {**_without_cpu_only(config), **members.pop(head, {})}
    members[_CPU] = {**threads, **members.get(_CPU, {})}
    return {**told, "DEVICE_PROPERTIES": members}


def _words(told: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    for name, value in sorted(told.items()):
        if isinstance(value, Mapping):
            for member, own in sorted(value.items()):
                yield from _words(own, f"{member}.")
        else:
            yield f"{prefix}{name}={value}"


def _own(device: str, by_device: ByDevice) -> Mapping[str, str]:
    """Return the properties of a device; those of `GPU.1` before those of every `GPU`."""
    return {**by_device.get(_family(device), {}), **by_device.get(device, {})}


def _family(device: str) -> str:
    return device.partition(".")[0].partition("(")[0]


def _without_cpu_only(config: Mapping[str, Property]) -> dict[str, Property]:
    return {name: value for name, value in config.items() if name not in _CPU_ONLY}


def _try(core: Any, model: Any, device: str, told: Mapping[str, object]) -> tuple[Any | None, str]:
    # An empty CACHE_DIR also overrides one that an application has set on its own core.
    try:
        return core.compile_model(model, device, {**told, "CACHE_DIR": ""}), ""
    except (RuntimeError, ValueError, TypeError) as error:
        # The text of the exception names layers of the model: not repeated.
        not_taken = _not_taken(core, device, told)
        if not_taken:
            return None, f"it does not take {', '.join(not_taken)}"
        return None, f"OpenVINO could not compile it ({type(error).__name__})"


def _not_taken(core: Any, device: str, told: Mapping[str, object]) -> list[str]:
    """Return which properties fail with the smallest model too, each tried alone."""
    parameter = ov.opset13.parameter([1], ov.Type.f32)
    smallest = ov.Model([parameter], [parameter])
    if not _takes(core, smallest, device, {}):
        return []
    refused = [one for one in _singly(told) if not _takes(core, smallest, device, one)]
    return [word for one in refused for word in _words(one)]


def _takes(core: Any, model: Any, device: str, told: Mapping[str, object]) -> bool:
    try:
        core.compile_model(model, device, {**told, "CACHE_DIR": ""})
    except (RuntimeError, ValueError, TypeError):
        return False
    return True


def _singly(told: Mapping[str, object]) -> Iterator[dict[str, object]]:
    for name, value in told.items():
        if isinstance(value, Mapping):
            for member, own in value.items():
                for one in _singly(own):
                    yield {name: {member: one}}
        else:
            yield {name: value}


def new_core() -> Any:
    """Return a core of our own."""
    return ov.Core()
