"""Rewrapping one sealed model of perhaps many: find, read, renew, try, and only then replace.

Each model is done as a whole or not at all, under a lock of its folder. What is on its key's newest
version already is left alone, so that a run that was interrupted is simply started again.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from modelseal.cli import console
from modelseal.cli.recipients import Change, Rights, refuse_weakest
from modelseal.cli.replacing import locked, replace_seal
from modelseal.cli.source import open_sealed
from modelseal.contract import SEAL_NAME
from modelseal.envelope import (
    Policy,
    PublicKey,
    Recipient,
    Seal,
    check_policy,
    parse_seal,
    replace_recipients,
    verify_signature,
)
from modelseal.errors import ModelsealError, OutputFailed, SettingsError, shown
from modelseal.keys import KeyProvider


class Result(StrEnum):
    """What became of one sealed model."""

    REWRAPPED = "rewrapped"
    CURRENT = "current"
    FAILED = "failed"
    NOT_TRIED = "not tried"


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What is wanted of every model; key URIs may hold `{owner}` and `{name}`."""

    models: Sequence[str]
    """Names or patterns such as `vision/*`; a model has to match one of them."""
    keys: Sequence[str]
    added: Sequence[str]
    removed: Sequence[str]
    signers: Sequence[PublicKey]
    renew_all: bool
    allow_weakest: bool
    output: Path | None
    """Where the new `seal.json` of a model behind an address goes."""
    open: Callable[[str, bool], KeyProvider] = field(repr=False)
    """Opens a key URI, whose passphrase is a new one or not."""
    rights: Rights = field(default_factory=Rights)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One line of the report."""

    place: str
    result: Result
    model: str = ""
    version: str = ""
    recipients: tuple[Recipient, ...] = ()
    before: tuple[int | None, ...] = ()
    """The versions of the keys that wrapped it before, for each `--key`."""
    after: tuple[int | None, ...] = ()
    unopened: tuple[Recipient, ...] = ()
    """Those that nobody here may unwrap; the key service itself confirmed their copies."""
    error: ModelsealError | None = field(default=None, compare=False)

    def fields(self) -> dict[str, Any]:
        """Return what `--json` says."""
        found: dict[str, Any] = {
            "sealed": self.place,
            "result": str(self.result),
            "model": self.model or None,
            "version": self.version or None,
            "recipients": _names(self.recipients),
            "unopened": _names(self.unopened),
            "keyVersionsBefore": list(self.before),
            "keyVersions": list(self.after),
        }
        return found | (console.error_fields(self.error) if self.error else {})


def _names(recipients: Sequence[Recipient]) -> list[dict[str, str]]:
    return [{"kind": each.kind, "key": each.key} for each in recipients]


def find(place: str) -> list[str]:
    """Return the sealed models at or below a place; the place itself where there is none."""
    if "://" in place or (Path(place) / SEAL_NAME).exists():
        return [place]
    return sorted(_below(place)) or [place]


def _below(place: str) -> Iterator[str]:
    for folder, names, files in os.walk(place):
        names[:] = [name for name in names if not name.startswith(".")]
        if SEAL_NAME in files:
            names.clear()
            yield folder


def rewrap(place: str, demand: Demand) -> Outcome:
    """Rewrap one sealed model.

    Raises:
        ModelsealError: it stays as it was.

    """
    with contextlib.ExitStack() as stack:
        if "://" not in place and Path(place).is_dir():
            stack.enter_context(locked(Path(place)))
        source = stack.enter_context(open_sealed(place))
        text = source.read_seal()
        seal = _accepted(text, demand)
        change = _change(seal, demand)
        recipients = tuple(change.recipients(renew_all=demand.renew_all))
        refuse_weakest([each.kind for each in recipients], allowed=demand.allow_weakest)
        before, after = (_versions(change.keys, each) for each in (seal.recipients, recipients))
        outcome = Outcome(
            place=place,
            result=Result.REWRAPPED,
            model=seal.manifest.model,
            version=seal.manifest.version,
            recipients=recipients,
            before=before,
            after=after,
        )
        if not (change.added or change.removed) and None not in before and before == after:
            return replace(outcome, result=Result.CURRENT)
        content, candidate = replace_recipients(seal, recipients)
        unopened = tuple(change.prove(candidate))
        expected = None if "://" in place else text
        replace_seal(_target(place, demand.output), content, expected=expected)
        return replace(outcome, unopened=unopened)


def _accepted(text: bytes, demand: Demand) -> Seal:
    """Read a seal that somebody who is trusted signed, of a model that is meant."""
    seal = parse_seal(text)
    verify_signature(seal, demand.signers, allow_unsigned=not demand.signers)
    claimed = seal.manifest.model
    meant = any(fnmatchcase(claimed, pattern) for pattern in demand.models)
    check_policy(seal, Policy(model=claimed if meant else demand.models[0]), datetime.now(UTC))
    return seal


def _change(seal: Seal, demand: Demand) -> Change:
    def opened(uris: Sequence[str], *, new: bool = False) -> list[KeyProvider]:
        return [demand.open(_filled(uri, seal.manifest.model), new) for uri in uris]

    return Change(
        seal=seal,
        model=seal.manifest.model,
        keys=opened(demand.keys),
        added=opened(demand.added, new=True),
        removed=opened(demand.removed),
        rights=demand.rights,
    )


def _filled(uri: str, model: str) -> str:
    owner, _, name = model.partition("/")
    return uri.replace("{owner}", owner).replace("{name}", name)


def _versions(
    keys: Sequence[KeyProvider], recipients: Sequence[Recipient]
) -> tuple[int | None, ...]:
    """Return the key version that each provider's recipient is wrapped with."""
    found = []
    for provider in keys:
        own = next((each for each in recipients if provider.matches(each)), None)
        found.append(provider.describe(own).version if own else None)
    return tuple(found)


def _target(place: str, output: Path | None) -> Path:
    if "://" not in place:
        return Path(place)
    if output is None:
        raise SettingsError(
            f"failed to rewrap {shown(place)}: it is an address, which is not written to",
            hint="name a folder with --output and publish the seal.json that appears there",
        )
    folder = output / place.rstrip("/").rpartition("/")[2]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputFailed(
            f"failed to make {shown(str(folder))}: {os.strerror(error.errno or 0)}"
        ) from None
    return folder
