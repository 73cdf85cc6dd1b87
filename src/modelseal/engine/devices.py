"""Which device serves: the wanted order, reduced to what this machine has.

OpenVINO raises where a device that is not there is named in a list (`AUTO:GPU,CPU` without a GPU
driver), so the lists are reduced first, and every candidate is then tried by its own name.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from modelseal.engine._openvino import ov
from modelseal.engine.plugins import load_plugins
from modelseal.errors import SettingsError, shown

META: Final = frozenset({"AUTO", "MULTI", "HETERO", "BATCH"})
_NAME: Final = re.compile(r"-?[A-Z]{2,12}(\.[A-Za-z0-9_]{1,16})*(\([0-9]{1,4}\))?")


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A wanted device that does not serve, and why."""

    device: str
    why: str


def available_devices() -> tuple[str, ...]:
    """Return the devices that OpenVINO finds on this machine, such as `("CPU", "GPU.0")`."""
    return load_plugins(ov.Core())


def candidates(
    wanted: Sequence[str], available: Sequence[str]
) -> tuple[tuple[str, ...], tuple[Refusal, ...]]:
    """Return what of `wanted` can be tried, in order, and what cannot.

    Raises:
        SettingsError: a name is not one that OpenVINO could know.

    """
    usable, refused = [], []
    for device in wanted:
        reduced = _reduce(device, available)
        if reduced is None:
            refused.append(Refusal(device=device, why="this machine does not have it"))
        else:
            usable.append(reduced)
    return tuple(usable), tuple(refused)


def _reduce(device: str, available: Sequence[str]) -> str | None:
    head, colon, rest = device.partition(":")
    members = rest.split(",") if colon else []
    if not all(_NAME.fullmatch(name) for name in (head, *members)):
        raise SettingsError(
            f"failed to read the devices: {shown(device)} is not a device",
            hint="for example CPU, GPU, NPU, AUTO or AUTO:GPU,CPU",
        )
    if head not in META:
        return device if not colon and _present(head, available) else None
    kept = [name for name in members if name.startswith("-") or _present(name, available)]
    if colon and not any(not name.startswith("-") for name in kept) and kept != members:
        return None
    return f"{head}:{','.join(kept)}" if kept else (None if colon else head)


def _present(name: str, available: Sequence[str]) -> bool:
    plain = name.partition("(")[0]
    return any(plain in (found, found.partition(".")[0]) for found in available)
