"""`modelseal doctor`: what this machine offers, and what it lacks."""

import importlib
import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from modelseal import cgroups, contract, hardening
from modelseal.cli import console
from modelseal.cli import options as opt

EXAMPLES: Final = """\
modelseal doctor
modelseal doctor --json | jq .devices
"""
PACKAGES: Final = ("cryptography", "hvac", "openvino", "numpy", "grpcio", "uvicorn")
PROGRAMS: Final = ("modelseal_sidecar", "modelseal_runtime", "modelseal_operator")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the table; `advice` says what to do where something is not as it should be."""

    name: str
    value: str
    advice: str = ""


def command(json: opt.Json = False) -> None:
    """Show what this machine offers and what it lacks.

    Looks at swap, core dumps, tracing, locked memory, the limits of the container, the devices that
    OpenVINO finds, and the versions of what is installed. Nothing is changed.
    """
    facts = examine()
    if json:
        console.show_json(facts)
        return
    _show(list(findings(facts)))


def examine() -> dict[str, Any]:
    """Return everything as plain values."""
    return {
        "posture": dict(hardening.posture()),
        "limits": {
            "memoryLimit": cgroups.memory_limit(),
            "memoryAvailable": cgroups.memory_available(),
            "cpuQuota": cgroups.cpu_quota(),
            "cpus": os.cpu_count(),
        },
        "devices": _devices(),
        "versions": {
            "modelseal": contract.VERSION,
            "python": platform.python_version(),
            "kernel": platform.release(),
            **{name: _version(name) for name in PACKAGES},
        },
        "programs": {name: importlib.util.find_spec(name) is not None for name in PROGRAMS},
    }


def _devices() -> list[str]:
    """Return OpenVINO's devices; none where it is not installed."""
    if importlib.util.find_spec("openvino") is None:
        return []
    return list(importlib.import_module("modelseal.engine").available_devices())


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def findings(facts: Mapping[str, Any]) -> Iterator[Finding]:
    """Turn the facts into lines for people, with advice where it is due."""
    for name, value in facts["posture"].items():
        yield Finding(name=name, value=_text(value), advice=_advice(name, value))
    limits = facts["limits"]
    yield Finding(name="memory limit", value=_size(limits["memoryLimit"], "none"))
    yield Finding(name="memory available", value=_size(limits["memoryAvailable"], "unknown"))
    yield Finding(name="CPUs", value=_cpus(limits))
    yield Finding(
        name="devices",
        value=", ".join(facts["devices"]) or "none",
        advice="" if facts["devices"] else "pip install 'modelseal[engine]'",
    )
    for name, version in facts["versions"].items():
        yield Finding(name=name, value=version or "not installed")
    for name, found in facts["programs"].items():
        yield Finding(name=name, value="installed" if found else "not installed")


_ADVICE: Final[Mapping[str, tuple[Any, str]]] = {
    "swap": (False, "swapoff -a, or nothing keeps plaintext off the disk"),
}


def _advice(name: str, value: object) -> str:
    wanted, advice = _ADVICE.get(name, (value, ""))
    return "" if value == wanted else advice


def _text(value: object) -> str:
    if value is None:
        return "unknown"
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


def _size(length: int | None, otherwise: str) -> str:
    return console.human_size(length) if length else otherwise


def _cpus(limits: Mapping[str, Any]) -> str:
    quota = limits["cpuQuota"]
    return f"{limits['cpus']}" + (f", quota {quota:g}" if quota else "")


def _show(found: list[Finding]) -> None:
    """Write the table to stdout; advice is below its line."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for finding in found:
        table.add_row(Text(finding.name), Text(finding.value), Text(finding.advice))
    Console().print(table)
