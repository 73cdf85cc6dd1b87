"""What agents measured of their nodes, in words for the status."""

from collections.abc import Iterable, Mapping
from typing import Final

from modelseal.contract import Posture

Fact = str | int | bool
_MEANING: Final[Mapping[Posture, tuple[str, Mapping[str, str]]]] = {
    Posture.DUMPABLE: (
        "whether the agent's memory can be read by a debugger of the same user",
        {"false": "no debugger of the same user can read the agent's memory"},
    ),
    Posture.SWAP: (
        "whether memory may be written to a swap device",
        {
            "false": "memory of the pod is not written to a swap device",
            "true": "memory of the pod may be written to a swap device",
        },
    ),
    Posture.CORE_LIMIT: (
        "bytes of a core file; 1 or less means that none is written",
        {"1": "no core file is written", "0": "no core file is written"},
    ),
    Posture.CORE_PIPED: (
        "whether the node's kernel gives cores to a program",
        {
            "false": "the node gives cores to no program",
            "true": "the node gives cores to a program; ours are undumpable and give none",
        },
    ),
    Posture.MEMORY_LOCK: ("bytes that the process may lock into memory", {}),
    Posture.PTRACE_SCOPE: (
        "Yama's ptrace scope",
        {"0": "the node lets processes of one user trace each other, ours excepted"},
    ),
    Posture.SECCOMP: (
        "the seccomp mode of the agent",
        {
            "filter": "a seccomp profile limits system calls",
            "off": "no seccomp profile limits system calls",
        },
    ),
    Posture.NO_NEW_PRIVILEGES: (
        "whether the agent can gain privileges",
        {"true": "the agent cannot gain privileges", "false": "the agent could gain privileges"},
    ),
    Posture.READ_ONLY_ROOT: (
        "whether the agent's root file system is read-only",
        {
            "true": "the agent can write to no file of its image",
            "false": "the agent can write to its root file system, which is on a disk",
        },
    ),
    Posture.USER_NAMESPACE: (
        "whether the pod has a user namespace",
        {
            "true": "users of the pod are other users on the node",
            "false": "users of the pod are the same users on the node",
        },
    ),
    Posture.ROOT: (
        "whether the agent is root",
        {"true": "the agent runs as root", "false": "the agent does not run as root"},
    ),
    Posture.CONFIDENTIAL_MEMORY: (
        "the kernel says that its memory is hidden from the host; this is not an attestation",
        {},
    ),
}


def describe_posture(measured: Iterable[Iterable[tuple[Posture, Fact]]]) -> list[dict[str, str]]:
    """Return one entry for each fact that any pod told, in the order of `Posture`.

    Where pods differ, the value lists what they found and the meaning is the general one.
    """
    found: dict[Posture, set[str]] = {}
    for facts in measured:
        for name, fact in facts:
            found.setdefault(name, set()).add(_text(fact))
    return [_entry(name, sorted(found[name])) for name in Posture if name in found]


def _entry(name: Posture, values: list[str]) -> dict[str, str]:
    general, particular = _MEANING[name]
    value = ", ".join(values)
    return {"name": name.value, "value": value[:64], "meaning": particular.get(value, general)}


def _text(fact: Fact) -> str:
    return str(fact).lower() if isinstance(fact, bool) else str(fact)
