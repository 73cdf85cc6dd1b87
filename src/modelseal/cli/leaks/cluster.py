"""`modelseal leakcheck --cluster`: the canary's life on a cluster, and the hunt on its nodes."""

import secrets
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from modelseal.cli.console import printable
from modelseal.cli.kubectl import SECONDS, Kubectl, agent_image, until
from modelseal.cli.leaks import places
from modelseal.cli.leaks.cluster_life import ClusterLife, Ground, begun
from modelseal.cli.leaks.hunters import Hunter, hunting
from modelseal.cli.leaks.needles import Needle
from modelseal.cli.leaks.places import Search
from modelseal.cli.leaks.report import Place
from modelseal.errors import ServingError, shown

TEXTS: Final = "logs, objects and answers"
_LINES: Final[Sequence[tuple[str, str, bool]]] = (
    ("kubelet's files", "all", True),
    ("container images and layers", "all", True),
    ("logs on the node", "all", True),
    ("etcd's files", "all", True),
    ("other files on disks", "all", True),
    ("core files", "all", True),
    ("file systems in memory", "all", True),
    ("files without a name", "all", True),
    ("swap", "all", True),
    ("environments, command lines", "all", True),
    ("runtime's memory", "keys", True),
    ("agent's memory", "all", False),
    ("key service's memory", "plaintext", True),
    ("memory of all other processes", "all", True),
    (TEXTS, "all", True),
)
"""Place, what is sought there, and whether a finding breaks a promise."""
_ABSENT: Final = {
    "kubelet's files": "/var/lib/kubelet is on none of the nodes",
    "container images and layers": "no folder of a container engine is known",
    "logs on the node": "/var/log is on none of the nodes",
    "etcd's files": "no node shows an etcd server; the API's objects were searched instead",
    "key service's memory": "no key service runs on these nodes",
}
"""Why a place may be missing from a cluster, where no search failed."""


@dataclass(kw_only=True)
class _Hunt:
    """The places, the hunters, and what they have to find."""

    life: ClusterLife
    hunters: list[Hunter]
    places: dict[str, Place]
    since: dict[str, float] = field(default_factory=dict)
    proofs: dict[str, list[bool]] = field(default_factory=dict)
    cores: set[str] = field(default_factory=set)

    def begin(self) -> None:
        """Ask each node for its time and for what it cannot show."""
        for hunter in self.hunters:
            found = hunter.ask("begin")
            self.since[hunter.node] = found["time"]
            self.cores.add(found["cores"])
            self.places["swap"].note = found["swap"]
            if found["remote"]:
                kinds = ", ".join(found["remote"])
                self.places["other files on disks"].note = f"not walked through: {kinds}"

    def prove(self) -> None:
        """Plant in each place of each node, and note what is found."""
        word, stored = secrets.token_hex(16).encode(), self.life.word.encode()
        masked = Needle.of("planted", word).masked
        for hunter in self.hunters:
            found = hunter.ask(
                "prove",
                word=masked,
                stored=Needle.of("stored", stored).masked,
                since=self.since[hunter.node],
            )
            for place, proven in found.items():
                self.proofs.setdefault(place, []).append(proven)
        self.proofs["etcd's files"] = [any(self.proofs["etcd's files"])]

    def look(self) -> None:
        """Search all nodes."""
        self.life.listen()
        for hunter in self.hunters:
            found = hunter.ask(
                "hunt",
                plain={each.name: each.masked for each in self.life.canary.needles},
                keys={each.name: each.masked for each in self.life.keys},
                pods=self.life.uids(),
                since=self.since[hunter.node],
            )
            for place, fields in found.items():
                self._take(place, fields, hunter.node)

    def _take(self, place: str, fields: dict[str, Any], node: str) -> None:
        if fields.pop("proven"):
            self.proofs.setdefault(place, []).append(True)
        where = [f"{each} on {node}" for each in fields["found"]]
        self.places[place].add(Search(**fields | {"found": where}))

    def crash(self, program: str) -> None:
        """Let a program fault, and wait until the model is served again."""
        before = self.life.restarts()
        for hunter in self.hunters:
            found = hunter.ask("crash", program=program, pods=self.life.uids())
            self.places["core files"].read += found["crashed"]
        until(
            f"the {program} did not crash",
            lambda: self.life.restarts() > before,
            lambda: "its container did not restart",
        )

    def conclude(self) -> list[Place]:
        """Search what was said, and close the report."""
        texts = self.places[TEXTS]
        needles = (*self.life.canary.needles, *self.life.keys)
        texts.add(places.search_texts(self.life.texts, needles))
        stored = (Needle.of("stored", self.life.word.encode()),)
        shown = places.search_texts(self.life.texts, stored).found
        self.proofs[TEXTS] = [
            any("objects" in each for each in shown),
            any("logs" in each for each in shown),
        ]
        for place in self.places.values():
            proofs = self.proofs.get(place.place, [])
            place.proven = bool(proofs) and all(proofs)
            if not place.proven and not any(proofs):
                place.note = place.note or _ABSENT.get(place.place, "")
        cores = self.places["core files"]
        cores.note = f"the kernel's pattern is {', '.join(sorted(self.cores))}"
        return [*self.places.values(), _BLOCKS]


_BLOCKS: Final = Place(
    place="blocks of deleted files",
    sought="",
    promised=True,
    search="",
    note="free blocks of disks are not read",
)


def check(
    kube: Kubectl,
    ground: Ground,
    tell: Callable[[str], object],
    *,
    image: str | None = None,
    uninstall: Sequence[str] = (),
) -> list[Place]:
    """Live a canary's life in a prepared namespace, and hunt for it on every node.

    Args:
        kube: the namespace.
        ground: what is prepared there.
        tell: is told what happens.
        image: has python3; that of the agent unless it is given.
        uninstall: what takes modelseal off the cluster in the end, if that is wanted.

    Raises:
        ModelsealError: the model was not served, or the cluster refuses something.

    """
    image = image or agent_image(kube)
    word = f"stored-{secrets.token_hex(12)}"
    with hunting(kube, image) as hunters, begun(kube, ground, image, word) as life:
        lines = {name: _line(name, sought, promised) for name, sought, promised in _LINES}
        hunt = _Hunt(life=life, hunters=hunters, places=lines)
        hunt.begin()
        tell(f"proving the searches on {len(hunters)} nodes")
        hunt.prove()
        _live(hunt, tell)
        if uninstall:
            tell("uninstalling, and searching once more")
            _run(uninstall)
            hunt.look()
        return hunt.conclude()


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - the user names it
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        why = "hangs" if isinstance(error, subprocess.TimeoutExpired) else "cannot be run"
        raise ServingError(f"failed to uninstall: {shown(command[0])} {why}") from None
    if done.returncode:
        said = printable(done.stderr.decode(errors="replace").strip()[-500:])
        raise ServingError(
            f"failed to uninstall: {shown(command[0])} ended with {done.returncode}: {said}"
        )


def _live(hunt: _Hunt, tell: Callable[[str], object]) -> None:
    """Serve, update, crash, evict, delete; search in between."""
    life = hunt.life
    tell("sealing and serving a model of canaries")
    life.publish(1)
    life.apply(1)
    life.ask()
    tell("searching while it is served")
    hunt.look()
    tell("updating it, and crashing its programs")
    life.publish(2)
    life.apply(2)
    for program in ("runtime", "agent"):
        hunt.crash(program)
        life.until_ready(2)
    life.ask()
    hunt.look()
    tell("evicting its pod, and deleting it")
    life.evict(2)
    life.ask()
    life.end()
    hunt.look()


def _line(name: str, sought: str, promised: bool) -> Place:
    return Place(place=name, sought=sought, promised=promised, search=name)
