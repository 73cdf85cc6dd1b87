"""What a running agent may learn anew, from mounted files: CA, lease, and which seals are allowed.

They are in a ConfigMap beside the pod's template, so that changing them restarts nothing (design
section 10, "Updates"). Whatever is absent or makes no sense leaves what was known before.
"""

import hashlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import Final

from modelseal import contract
from modelseal.envelope import Policy
from modelseal.errors import RollbackRejected, SettingsError, shown
from modelseal_sidecar.logs import log
from modelseal_sidecar.settings import LeaseSettings, parse_seconds

_MAX_NUMBER_BYTES: Final = 64
_MAX_CA_BYTES: Final = 1 << 20
_MAX_DIGESTS_BYTES: Final = 72 * contract.MAX_PROVIDER_DIGESTS


class ProviderDirectory:
    """Reads the directory that `MODELSEAL_PROVIDER_DIRECTORY` names, or nothing."""

    def __init__(self, directory: Path | None, lease: LeaseSettings, ca_file: Path | None) -> None:
        self._directory: Final = directory
        self._lease = lease
        self._ca_file: Final = ca_file

    def lease(self) -> LeaseSettings:
        """Return the lease settings of now; the last good ones where the files are bad."""
        try:
            self._lease = LeaseSettings(
                interval=self._seconds(contract.PROVIDER_LEASE_INTERVAL, self._lease.interval),
                max_stale=self._seconds(contract.PROVIDER_MAX_STALE, self._lease.max_stale),
            )
        except SettingsError as error:
            log(logging.WARNING, "kept the earlier lease settings", detail=error.message)
        return self._lease

    def narrowed(self, policy: Policy) -> Policy:
        """Return the policy with the provider's bounds of now; they can only narrow it.

        Raises:
            RollbackRejected: a bound is there and makes no sense. Nothing is accepted then, nor
                kept where it is served: what cannot be read must not be what does not hold.

        """
        try:
            return self._narrowed(policy)
        except SettingsError as error:
            raise RollbackRejected(
                f"{error.message}; nothing is accepted before that bound makes sense"
            ) from error

    def _narrowed(self, policy: Policy) -> Policy:
        lowest = self._bound(contract.PROVIDER_MIN_SEQUENCE, _MAX_NUMBER_BYTES)
        digests = self._bound(contract.PROVIDER_DIGESTS, _MAX_DIGESTS_BYTES)
        if lowest and not (lowest.isascii() and lowest.isdigit()):
            raise SettingsError(
                f"failed to read {contract.PROVIDER_MIN_SEQUENCE}: {shown(lowest)} is not a number"
            )
        sequence = max(int(lowest or 0), policy.min_sequence or 0)
        return replace(
            policy,
            min_sequence=sequence if lowest else policy.min_sequence,
            allowed=frozenset(digests.split()),
        )

    def ca_file(self) -> Path | None:
        """Return the CA file to trust: the directory's where there is one."""
        if self._directory is not None and (self._directory / contract.PROVIDER_CA).is_file():
            return self._directory / contract.PROVIDER_CA
        return self._ca_file

    def ca_state(self) -> bytes:
        """Return a value that changes when the CA file's content does."""
        path = self.ca_file()
        try:
            return b"" if path is None else hashlib.sha256(_read(path, _MAX_CA_BYTES)).digest()
        except OSError:
            return b"unreadable"

    def _bound(self, name: str, limit: int) -> str:
        """Return the text of a bound, empty where there is none."""
        if self._directory is None:
            return ""
        try:
            return _read(self._directory / name, limit).decode("ascii", "replace").strip()
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise SettingsError(f"failed to read {name}: {error.strerror}") from None

    def _seconds(self, name: str, otherwise: float) -> float:
        if self._directory is None:
            return otherwise
        try:
            text = _read(self._directory / name, _MAX_NUMBER_BYTES).decode("ascii", "replace")
        except FileNotFoundError:
            return otherwise
        except OSError as error:
            raise SettingsError(f"failed to read {name}: {error.strerror}") from None
        return parse_seconds(text.strip(), name)


def _read(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        return file.read(limit)
