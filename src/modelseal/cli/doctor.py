"""`modelseal doctor`: what this machine offers, and what it lacks."""

import contextlib
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
from modelseal.errors import HardeningError

EXAMPLES: Final = """\
modelseal doctor
modelseal doctor --json | jq .devices
"""
PACKAGES: Final = ("cryptography", "hvac", "openvino", "numpy", "grpcio", "uvicorn")
PROGRAMS: Final = ("modelseal_sidecar", "modelseal_runtime", "modelseal_operator")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the table; `advice` says what to do where something is not as it should be."""

    group: str
    name: str
    value: str
    advice: str = ""


@dataclass(frozen=True, kw_only=True)
class Check:
    """How one measured fact is called, and what to do where it has the wrong value."""

    name: str
    wrong: tuple[object, ...] = ()
    advice: str = ""


CHECKS: Final[Mapping[str, Check]] = {
    "dumpable": Check(
        name="can be dumped",
        wrong=(True,),
        advice="this kernel refuses PR_SET_DUMPABLE, so agent and runtime do not start",
    ),
    "swap": Check(
        name="swap",
        wrong=(True,),
        advice="swapoff -a; with swap, agent and runtime start with --allow-swap only",
    ),
    "corePiped": Check(name="cores go to a program"),
    "memoryLock": Check(name="lockable memory"),
    "ptraceScope": Check(
        name="ptrace scope", wrong=(0,), advice="sysctl kernel.yama.ptrace_scope=1, for all else"
    ),
    "seccomp": Check(name="seccomp"),
    "readOnlyRoot": Check(name="read-only root"),
    "root": Check(name="root", wrong=(True,), advice="an ordinary user is enough for everything"),
}


def command(json: opt.Json = False) -> None:
    """Show what this machine offers and what it lacks.

    Looks at swap, core dumps, tracing, locked memory, the limits of the container, the devices that
    OpenVINO finds, and the versions of what is installed. Nothing outside this process is changed.
    """
    facts = examine()
    if json:
        console.show_json(facts)
    else:
        _show(list(findings(facts)))


def examine() -> dict[str, Any]:
    """Return everything as plain values, after hardening this process as the programs do."""
    with contextlib.suppress(HardeningError):
        hardening.harden(allow_swap=True)
    return {
        "posture": hardening.posture(),
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


def findings(facts: Mapping[str, Any]) -> Iterator[Finding]:
    """Turn the facts into lines for people, with advice where it is due."""
    for name, check in CHECKS.items():
        value = facts["posture"].get(name)
        advice = check.advice if value in check.wrong else ""
        yield Finding(group="protection", name=check.name, value=_text(value), advice=advice)
    yield from _limit_findings(facts["limits"])
    yield Finding(
        group="devices",
        name="OpenVINO",
        value=", ".join(facts["devices"]) or "none",
        advice="" if facts["devices"] else "pip install 'modelseal[engine]'",
    )
    for name, version in facts["versions"].items():
        yield Finding(group="versions", name=name, value=version or "not installed")
    for name, found in facts["programs"].items():
        yield Finding(group="programs", name=name, value="installed" if found else "not installed")


def _limit_findings(limits: Mapping[str, Any]) -> Iterator[Finding]:
    quota = limits["cpuQuota"]
    values = {
        "memory limit": _size(limits["memoryLimit"], "none"),
        "memory available": _size(limits["memoryAvailable"], "unknown"),
        "CPUs": f"{limits['cpus']}" + (f", quota {quota:g}" if quota else ""),
    }
    for name, value in values.items():
        yield Finding(group="limits", name=name, value=value)


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


def _text(value: object) -> str:
    if value is None:
        return "unknown"
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


def _size(length: int | None, otherwise: str) -> str:
    return console.human_size(length) if length else otherwise


def _show(found: list[Finding]) -> None:
    """Write the table to stdout, each group's name once."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    before = ""
    for finding in found:
        group = "" if finding.group == before else finding.group
        before = finding.group
        cells = (group, finding.name, finding.value, finding.advice)
        table.add_row(*(Text(cell) for cell in cells))
    Console().print(table)
