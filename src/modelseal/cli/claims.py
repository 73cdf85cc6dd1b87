"""Sealed models on a volume claim of a cluster, reached through the user's own kubectl.

A pod mounts the claim for as long as it takes and hands out the seals, which are renewed here and
handed back. So no token of a key service goes into the cluster, and payloads move nowhere.
"""

import base64
import contextlib
import errno
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from modelseal.cli import on_claim
from modelseal.cli.carrier import MOUNT, Carrier, Means, carrying
from modelseal.cli.kubectl import Kubectl
from modelseal.cli.replacing import seal_changed
from modelseal.cli.rewrapping import Outcome, Result
from modelseal.contract import SEAL_NAME
from modelseal.envelope.output import write_error
from modelseal.errors import InputUnreadable, ModelsealError, NotSealed, SettingsError, shown

PREFIX: Final = "claim:"
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_OWNER: Final = "name the owner of the folder with --run-as-user"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A place on a claim: `claim:NAMESPACE/NAME[/PATH]`."""

    namespace: str
    name: str
    path: str

    @classmethod
    def parse(cls, place: str) -> "Claim":
        """Read a place.

        Raises:
            SettingsError: it is not well-formed.

        """
        namespace, _, rest = place.removeprefix(PREFIX).partition("/")
        name, _, path = rest.partition("/")
        parts = [part for part in path.split("/") if part]
        if not (_NAME.fullmatch(namespace) and _NAME.fullmatch(name)) or {".", ".."} & set(parts):
            raise SettingsError(
                f"failed to read the place {shown(place)}",
                hint="write claim:NAMESPACE/NAME, and perhaps a /PATH on the volume",
            )
        return cls(namespace=namespace, name=name, path="/".join(parts))

    @property
    def folder(self) -> str:
        """Where the place is in the pod."""
        return f"{MOUNT}/{self.path}"

    def shown(self, path: str = ".") -> str:
        """Return the place of a path below this one, as a user writes it."""
        parts = [self.namespace, self.name, *self.path.split("/"), *path.split("/")]
        return PREFIX + "/".join(part for part in parts if part not in ("", "."))


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """The seals of a claim in a folder of this machine."""

    claim: Claim
    carrier: Carrier
    paths: Mapping[str, str]
    """For each folder here, the path there."""
    digests: Mapping[str, str]

    def published(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Hand back what was renewed, all at once; returns what became of it, under its real name.

        Each seal is replaced as a whole, unless somebody else replaced it meanwhile.
        """
        orders = {
            self.paths[each.place]: {
                "expected": self.digests[each.place],
                "content": base64.b64encode((Path(each.place) / SEAL_NAME).read_bytes()).decode(),
            }
            for each in outcomes
            if each.place in self.paths and each.result is Result.REWRAPPED
        }
        question = {"folder": self.claim.folder, "orders": orders}
        answers = self.carrier.ask(question) if orders else {}
        said = {path: answers.get(path, errno.EIO) for path in orders}
        return [self._told(each, said) for each in outcomes]

    def _told(self, outcome: Outcome, said: Mapping[str, int | str | None]) -> Outcome:
        path = self.paths.get(outcome.place)
        if path is None:
            return outcome
        named = replace(outcome, place=self.claim.shown(path))
        problem = said.get(path)
        if problem is None:
            return named
        return replace(named, result=Result.FAILED, error=_refused(named.place, problem))


@contextlib.contextmanager
def mirrored(place: str, means: Means) -> Iterator[Mirror]:
    """Yield the seals of a claim; the pod that reads them goes with the block.

    Raises:
        SettingsError: there is no such claim, or no image to read it with.
        NotSealed: nothing sealed is there.
        ServingError: the pod does not come up, or may not read.

    """
    claim = Claim.parse(place)
    kube = Kubectl(program=means.kubectl, namespace=claim.namespace)
    with (
        tempfile.TemporaryDirectory(prefix="modelseal-claim-") as name,
        carrying(kube, claim.name, means) as carrier,
    ):
        seals = _seals(claim, carrier.ask({"folder": claim.folder}))
        contents = {path: base64.b64decode(text) for path, text in sorted(seals.items())}
        paths = dict(_written(Path(name), contents))
        digests = {
            place: hashlib.sha256(contents[path]).hexdigest() for place, path in paths.items()
        }
        yield Mirror(claim=claim, carrier=carrier, paths=paths, digests=digests)


def _written(folder: Path, contents: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    """Write the seals, numbered, because what is on a volume names no path of this machine."""
    for number, (path, content) in enumerate(contents.items()):
        place = folder / str(number)
        place.mkdir()
        (place / SEAL_NAME).write_bytes(content)
        yield str(place), path


def _seals(claim: Claim, answer: Mapping[str, Any]) -> dict[str, str]:
    if "errno" in answer:
        raise InputUnreadable(
            f"failed to read {shown(claim.shown())}: {os.strerror(answer['errno'])}", hint=_OWNER
        )
    seals: dict[str, str] = answer["seals"]
    if not seals:
        raise NotSealed(f"failed to find a sealed model at {shown(claim.shown())}")
    return seals


def _refused(place: str, problem: int | str) -> ModelsealError:
    if problem == on_claim.CHANGED:
        return seal_changed(place)
    number = int(problem)
    error = write_error(Path(place), OSError(number, os.strerror(number)), verb="replace")
    if number in (errno.EACCES, errno.EPERM):
        error.hint = _OWNER
    return error
