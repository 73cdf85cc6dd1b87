"""What `modelseal leakcheck --cluster` runs as root on each node: proofs, searches and crashes.

Standard library only. Asked by a JSON object on standard input, answers with one on standard
output. Needles come masked, so that asking for them leaves nothing that could be found.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from modelseal.cli.leaks import etcd, filesystems, nodeplants, processes, swap
from modelseal.cli.leaks.needles import Needle
from modelseal.cli.leaks.places import Search

_CONTROL: Final = "control"
_KNOWN: Final = {
    processes.AGENT: b"modelseal_sidecar",
    processes.RUNTIME: b"modelseal_runtime",
    processes.KEY_SERVICE: b"X-Vault-Token",
}
"""What is in the memory of each of these for certain, so that finding it proves the search."""


def main() -> None:
    """Answer one question."""
    question = json.load(sys.stdin)
    verbs = {"begin": _begin, "prove": _prove, "hunt": _hunt, "crash": _crash}
    json.dump(verbs[question["verb"]](question), sys.stdout)


def _begin(_: Mapping[str, Any]) -> dict[str, Any]:
    """Return this node's time, and what cannot be looked at here."""
    remote = sorted(
        {each.kind for each in filesystems.mounts(1) if filesystems.is_remote(each.kind)}
    )
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    return {"time": time.time() - 1, "remote": remote, "cores": pattern, "swap": _swap()}


def _prove(question: Mapping[str, Any]) -> dict[str, bool]:
    word = Needle.unmasked("planted", question["word"]).forms[0]
    stored = [Needle.unmasked("stored", question["stored"])]
    return nodeplants.prove(word, stored, question["since"], _tell)


def _hunt(question: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Search this node for everything; by place."""
    plain, keys = _needles(question["plain"]), _needles(question["keys"])
    needles, since = (*plain, *keys), question["since"]
    sought: dict[str, Sequence[Needle]] = {
        processes.AGENT: needles,
        processes.RUNTIME: keys,
        processes.KEY_SERVICE: plain,
        processes.OTHER: needles,
    }
    for who, word in _KNOWN.items():
        sought[who] = (*sought[who], Needle.of(_CONTROL, word))
    found = filesystems.search_node(needles, since)
    held = processes.search_processes(needles, sought, question["pods"], since, _tell)
    found[filesystems.IN_MEMORY].add(held.pop(filesystems.IN_MEMORY))
    found |= held
    found["swap"] = swap.search_swap(needles)
    found["etcd's files"] = etcd.search_etcd(needles)
    return {place: _fields(search) for place, search in found.items()}


def _fields(search: Search) -> dict[str, Any]:
    """Return a search's fields, and whether it found what is known to be there."""
    leaks = [each for each in search.found if not each.startswith(f"{_CONTROL}: ")]
    return asdict(search) | {"found": leaks, "proven": len(leaks) < len(search.found)}


def _crash(question: Mapping[str, Any]) -> dict[str, int]:
    return {"crashed": processes.crash(question["program"], question["pods"])}


def _needles(masked: Mapping[str, str]) -> list[Needle]:
    return [Needle.unmasked(name, text) for name, text in masked.items()]


def _swap() -> str:
    return ", ".join(map(str, swap.devices())) or swap.NONE


def _tell() -> None:
    """Write something, so that no proxy takes a long search for a dead connection."""
    sys.stderr.write(".")
    sys.stderr.flush()
