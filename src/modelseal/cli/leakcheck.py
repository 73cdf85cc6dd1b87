"""`modelseal leakcheck`: a model of canaries is served, here or on a cluster, and looked for."""

import shlex
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from modelseal.cli import console
from modelseal.cli import options as opt
from modelseal.cli.kubectl import Kubectl
from modelseal.cli.leaks import cluster as on_cluster
from modelseal.cli.leaks import places, plants
from modelseal.cli.leaks.cluster_life import Ground
from modelseal.cli.leaks.drive import MODEL, Life, Serving
from modelseal.cli.leaks.needles import Needle
from modelseal.cli.leaks.places import Search
from modelseal.cli.leaks.report import Place
from modelseal.errors import SettingsError, shown

EXAMPLES: Final = """\
modelseal leakcheck
modelseal leakcheck --json | jq '.[] | select(.verdict != "clean")'
modelseal leakcheck --cluster --namespace leakcheck --key vault:transit/leakcheck_canary \\
    --sign release.key --uninstall 'helm uninstall modelseal -n modelseal-system --wait'
"""
_ROOTS: Final = ("/tmp", "/var/tmp", "/dev/shm", "/run")  # noqa: S108 - looked into, not written to


Cluster = Annotated[
    bool,
    typer.Option("--cluster", help="Check the cluster that kubectl talks to, not this machine."),
]
Namespace = Annotated[
    str, typer.Option(metavar="NS", help="Where the canary is served on the cluster.")
]
OptionalModel = Annotated[
    str, typer.Option("--model", metavar="OWNER/NAME", help="The canary's name on the cluster.")
]
Sign = Annotated[
    str | None, typer.Option("--sign", metavar="KEY", help="Who signs it, if the provider asks.")
]
Provider = Annotated[str, typer.Option(metavar="NAME", help="The KeyProvider in that namespace.")]
Account = Annotated[
    str, typer.Option("--service-account", metavar="NAME", help="Whose token opens it.")
]
Claim = Annotated[
    str,
    typer.Option(metavar="NAME", help="A volume claim there to which uid 10001 may write."),
]
Image = Annotated[
    str | None,
    typer.Option(metavar="IMAGE", help="An image with python3; by default the agent's."),
]
Uninstall = Annotated[
    str,
    typer.Option(
        metavar="COMMAND",
        help="What takes modelseal off the cluster in the end; the search goes on after it.",
    ),
]
Program = Annotated[
    str, typer.Option("--kubectl", metavar="PATH", help="Which kubectl; its settings decide.")
]


def command(  # noqa: PLR0913 - one argument for each option
    *,
    cluster: Cluster = False,
    namespace: Namespace = "leakcheck",
    model: OptionalModel = MODEL,
    key: opt.OptionalKey = None,
    sign: Sign = None,
    provider: Provider = "vault",
    service_account: Account = "leakcheck",
    claim: Claim = "models",
    image: Image = None,
    uninstall: Uninstall = "",
    kubectl: Program = "kubectl",
    json: opt.Json = False,
) -> int:
    """Look for plaintext and keys wherever they must not be.

    Makes a model whose weights, layers and file names are canaries; seals it, has it refused,
    serves it, asks it, crashes both programs, and then looks for the canaries and the keys in
    files, memory, environments, command lines, logs and answers. Each search first has to find what
    is planted for it. Memory can be searched by root only. Exit code 1 says that something leaked.

    With --cluster the canary is served, updated, crashed, evicted and deleted in a namespace that
    is prepared for it as for any model, and a privileged pod on every node looks at its disks,
    memory, swap, core files, processes and etcd. What cannot be looked at is a line that says so.
    """
    if cluster:
        ground = Ground(
            model=model,
            key=_required(key),
            sign=sign,
            provider=provider,
            service_account=service_account,
            claim=claim,
        )
        kube = Kubectl(program=kubectl, namespace=namespace)
        report = on_cluster.check(
            kube, ground, console.note, image=image, uninstall=_words(uninstall)
        )
    else:
        with tempfile.TemporaryDirectory(prefix="modelseal-leakcheck-") as name:
            report = check(Path(name).resolve())
    if json:
        console.show_json([each.fields() for each in report])
    else:
        _show(report)
    return 1 if any(each.verdict in ("LEAK", "search failed") for each in report) else 0


def _required(key: str | None) -> str:
    if key is None:
        raise SettingsError(
            "failed to check a cluster for leaks: no key is named",
            hint="--key vault:MOUNT/KEY, the one that the namespace's KeyProvider uses",
        )
    return key


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        raise SettingsError(f"failed to read --uninstall {shown(command)}: {error}") from None


def check(folder: Path) -> list[Place]:
    """Live through a canary model's life in a new, empty folder; returns the report."""
    began = time.time() - 1
    proven = plants.searches_that_find(folder / "planted")
    life = Life.begin(folder)
    report = _Report.empty(life)
    first = life.seal("first")
    life.be_refused(first)
    report.secrets = life.secrets(first)
    with life.served(first) as serving:
        life.ask(serving)
        report.look_at(serving)
    second = life.seal("second")
    report.secrets += life.secrets(second)
    for program in ("runtime", "agent"):
        with life.served(second) as serving:
            life.ask(serving)
            report.look_at(serving)
            serving.crash(program)
    report.look_around(life, began)
    for place in report.places.values():
        place.proven = proven[place.search]
    return list(report.places.values())


@dataclass(kw_only=True)
class _Report:
    """The places, and what is looked for there."""

    places: dict[str, Place]
    plain: tuple[Needle, ...]
    secrets: tuple[Needle, ...] = ()

    @classmethod
    def empty(cls, life: Life) -> "_Report":
        """Name the places."""
        kept = [
            Place(place="files, crashes included", sought="all", promised=True, search="files"),
            Place(place="open files", sought="all", promised=True, search="open files"),
            Place(
                place="environments, command lines",
                sought="all",
                promised=True,
                search="surroundings",
            ),
            Place(place="logs, errors, answers", sought="all", promised=True, search="texts"),
            Place(place="runtime's memory", sought="keys", promised=True, search="memory"),
            Place(place="command's memory", sought="plaintext", promised=True, search="memory"),
            Place(place="agent's memory", sought="all", promised=False, search="memory"),
            Place(place="swap", sought="any page", promised=True, search="swap"),
        ]
        return cls(places={each.place: each for each in kept}, plain=life.canary.needles)

    def look_at(self, serving: Serving) -> None:
        """Search the running programs."""
        needles = (*self.plain, *self.secrets)
        for name, pid in serving.programs.items():
            self.places["open files"].add(places.search_open_files(pid, needles))
            self.places["environments, command lines"].add(places.search_surroundings(pid, needles))
            swapped = places.swapped(pid)
            self.places["swap"].add(
                Search(read=1, found=[f"{swapped} KiB of the {name}"] if swapped else [])
            )
        for name, sought in (
            ("runtime", self.secrets),
            ("command", self.plain),
            ("agent", needles),
        ):
            search = places.search_memory(serving.programs[name], sought)
            self.places[f"{name}'s memory"].add(search)

    def look_around(self, life: Life, began: float) -> None:
        """Search what is left when everything has ended."""
        needles = (*self.plain, *self.secrets)
        self.places["logs, errors, answers"].add(places.search_texts(life.texts, needles))
        roots = {life.folder, Path.home(), *map(Path, _ROOTS), Path(tempfile.gettempdir())}
        self.places["files, crashes included"].add(
            places.search_files(
                sorted(roots), needles, since=began, but=[life.inputs, life.folder / "planted"]
            )
        )


def _show(report: Sequence[Place]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("place", "sought", "read", "unreadable", "verdict"):
        table.add_column(title)
    for each in report:
        cells = (each.place, each.sought, str(each.read), str(each.unreadable), each.verdict)
        table.add_row(*(Text(cell) for cell in cells))
    Console().print(table)
    for each in report:
        for found in sorted(set(each.found)):
            console.note(f"{each.place}: {console.printable(found)}")
        if each.note:
            console.note(f"{each.place}: {each.note}")
