"""Which device the pods of a model ask for (design section 10, "Devices").

A Deployment cannot say "NPU, else GPU, else CPU", so the operator decides from what nodes offer,
writes the decision on the Deployment, and keeps it: it decides anew only when the wish changed or
after the pods were unschedulable for a while. A choice therefore survives a restart and never
flaps with the load of the cluster.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Final

from modelseal_operator.settings import PodSettings

PATIENCE: Final = 300.0
"""Seconds of being unschedulable after which the next device is tried."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """The device of a template: its name for OpenVINO, and the nodes' resource for it."""

    name: str
    resource: str | None
    wish: tuple[str, ...]

    @property
    def record(self) -> str:
        """The decision as it is written on the Deployment."""
        return f"{self.name}={self.resource or ''};{','.join(self.wish)}"

    @property
    def usable(self) -> tuple[str, ...]:
        """What the runtime may load on: this device, and CPU where the wish allows it."""
        return (self.name,) if self.name == "CPU" or "CPU" not in self.wish else (self.name, "CPU")


def choose_device(
    wish: tuple[str, ...],
    offered: Set[str] | None,
    settings: PodSettings,
    *,
    recorded: str | None = None,
    unschedulable: float = 0.0,
) -> Device:
    """Choose a device out of a wish, which is in order of preference.

    `offered` are the resources that some node has, or None if the operator may not look at nodes;
    `recorded` is the earlier decision's record, and `unschedulable` for how many seconds no pod of
    that decision found a node.
    """
    candidates = [device for name in wish for device in _candidates(name, wish, offered, settings)]
    possible = [d for d in candidates if _offered(d, offered)]
    earlier = next((d for d in candidates if d.record == recorded), None)
    if earlier is None:
        return (possible or candidates)[0]
    if unschedulable < PATIENCE:
        return earlier
    others = _after(candidates, earlier)
    return next((device for device in others if device in possible), earlier)


def _after(candidates: Sequence[Device], earlier: Device) -> list[Device]:
    position = candidates.index(earlier) + 1
    return [*candidates[position:], *candidates[: position - 1]]


def _offered(device: Device, offered: Set[str] | None) -> bool:
    return device.resource is None or offered is None or device.resource in offered


def _candidates(
    name: str, wish: tuple[str, ...], offered: Set[str] | None, settings: PodSettings
) -> list[Device]:
    if name == "CPU":
        return [Device(name=name, resource=None, wish=wish)]
    resources = settings.gpu_resources if name == "GPU" else settings.npu_resources
    known = resources if offered is not None else resources[:1]
    return [Device(name=name, resource=resource, wish=wish) for resource in known]
