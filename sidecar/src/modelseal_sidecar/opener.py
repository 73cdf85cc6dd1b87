"""One opening: from `seal.json` to a decrypted model in memory, in the order of docs/format.md.

The order itself is `modelseal.opening`'s. Here the parts run side by side, as the agent may: the
key is unwrapped in a thread while ciphertext is fetched and memory is touched.
"""

import contextlib
import logging
import math
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Self

from modelseal import cgroups, handover, hardening, opening
from modelseal.contract import UNWRAPPED, Stage
from modelseal.envelope import DataKeys, Policy, Seal, kek_context, parse_signer
from modelseal.errors import OutOfMemory
from modelseal.keys import KeyProvider
from modelseal.memory import PlaintextMemory
from modelseal.sources import Source, open_source
from modelseal_sidecar.access import KeyAccess
from modelseal_sidecar.delivery import Parcel
from modelseal_sidecar.keeper import Keeper
from modelseal_sidecar.logs import log
from modelseal_sidecar.provider_directory import ProviderDirectory
from modelseal_sidecar.report import safe
from modelseal_sidecar.settings import Settings
from modelseal_sidecar.status import Board, utc_now
from modelseal_sidecar.wake import Task, Wake

_MAX_THREADS: Final = 16
_POLL: Final = 0.5


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A decrypted model and what its lease needs."""

    parcel: Parcel
    keeper: Keeper
    begun: float
    """When the unwrap began, which is when the right was confirmed."""
    not_after: datetime | None


class Opener:
    """Opens the configured sealed model."""

    def __init__(
        self,
        settings: Settings,
        access: KeyAccess,
        directory: ProviderDirectory,
        board: Board,
        wake: Wake,
    ) -> None:
        """Make source and trust from the settings; nothing is read yet.

        Raises:
            SettingsError: the source or a signer makes no sense.

        """
        self._settings: Final = settings
        self._access: Final = access
        self._directory: Final = directory
        self._board: Final = board
        self._wake: Final = wake
        self._source: Final = _source(settings)
        self._trust: Final = opening.Trust(
            signers=tuple(parse_signer(signer) for signer in settings.signers),
            allow_unsigned=settings.allow_unsigned,
            policy=Policy(
                model=settings.model, digest=settings.digest, min_sequence=settings.min_sequence
            ),
        )

    def open(self, memory_name: str | None, may_go_on: Callable[[], None]) -> Opened:
        """Verify, unwrap, fetch and decrypt.

        Args:
            memory_name: see `Delivery.memory_name`.
            may_go_on: raises where the opening is to be given up; called often.

        Raises:
            ModelsealError: what failed first, in the order of the stages; nothing is left.

        """
        enter = self._board.enter
        enter(Stage.MANIFEST)
        seal = opening.read_manifest(self._source, self._trust_now(), utc_now(), on_stage=enter)
        self._show(seal)
        hardening.require(self._settings.posture, hardening.posture())
        opening.check_room(opening.plan_sizes(seal), declared=self._settings.model_size)
        provider = self._access.refresh()
        recipient = opening.choose_recipient(seal, provider)
        self._board.change(key_version=provider.describe(recipient).version)
        with _Keys(self._wake, lambda: self._unwrap(seal, provider), may_go_on) as keys:
            if self._board.failed in (Stage.LOGIN, Stage.UNWRAP):
                keys()  # while the key is refused, no try fetches or takes memory
            parcel = self._decrypt(seal, keys, memory_name, may_go_on)
        keeper = Keeper(
            access=self._access,
            seal=seal,
            recipient=recipient,
            context=kek_context(self._settings.model, seal.manifest.seal_id),
            read_again=self._read,
            policy=lambda: self._trust_now().policy,
        )
        not_after = seal.manifest.not_after
        return Opened(parcel=parcel, keeper=keeper, begun=keys.begun, not_after=not_after)

    def _read(self) -> Seal:
        return opening.read_manifest(self._source, self._trust_now(), utc_now())

    def _trust_now(self) -> opening.Trust:
        return replace(self._trust, policy=self._directory.narrowed(self._trust.policy))

    def _unwrap(self, seal: Seal, provider: KeyProvider) -> DataKeys:
        keys = opening.unwrap_keys(seal, provider, self._settings.model, on_stage=self._board.enter)
        description = provider.describe(opening.choose_recipient(seal, provider))
        log(
            logging.INFO,
            UNWRAPPED,
            model=self._settings.model,
            version=safe(seal.manifest.version),
            digest=seal.digest,
            key=f"{description.kind}:{description.key}",
            keyVersion=description.version,
            request=provider.unwrap_id,
            host=socket.gethostname(),
        )
        return keys

    def _decrypt(
        self,
        seal: Seal,
        keys: "_Keys",
        memory_name: str | None,
        may_go_on: Callable[[], None],
    ) -> Parcel:
        """Fetch and decrypt into new memory, which is released on any failure."""
        try:
            memory = PlaintextMemory(opening.plan_sizes(seal), name=memory_name)
        except OutOfMemory:
            keys()  # what fails at an earlier stage is what is reported
            raise
        try:
            placement = opening.decrypt_all(
                seal,
                self._source,
                keys,
                memory,
                threads=_threads(),
                progress=lambda _: may_go_on(),
                on_stage=self._board.enter,
            )
        except BaseException:
            memory.release()
            raise
        model = handover.Model(
            model=seal.manifest.model,
            version=seal.manifest.version,
            digest=seal.digest,
            size=placement.size,
            files=len(placement.entries),
        )
        return Parcel(memory=memory, model=model, files=placement.entries)

    def _show(self, seal: Seal) -> None:
        self._board.change(
            version=seal.manifest.version,
            digest=seal.digest,
            model_size=opening.plan_sizes(seal),
        )


class _Keys:
    """The data keys, unwrapped in a thread: calling waits for them, leaving wipes them."""

    def __init__(
        self, wake: Wake, unwrap: Callable[[], DataKeys], may_go_on: Callable[[], None]
    ) -> None:
        self._task: Final = Task(wake, unwrap, "unwrap")
        self._may_go_on: Final = may_go_on
        self.begun: Final = self._task.begun

    def __call__(self) -> DataKeys:
        while not self._task.wait(_POLL):
            self._may_go_on()
        return self._task.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):
            if self._task.done:
                self._task.result().wipe()


def _threads() -> int:
    """Return how many threads decrypt: as many as the container may use."""
    cpus = len(os.sched_getaffinity(0))
    return max(1, min(math.ceil(cgroups.cpu_quota() or cpus), cpus, _MAX_THREADS))


def _source(settings: Settings) -> Source:
    return open_source(
        settings.source,
        ca_file=settings.source_ca_file,
        token_file=settings.source_token_file,
        proxy=settings.source_proxy,
    )
