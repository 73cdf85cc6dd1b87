"""What a running agent may learn anew: the key service's CA and the lease, from mounted files.

They are in a ConfigMap beside the pod's template, so that changing them restarts nothing (design
section 10, "Updates"). Whatever is absent or makes no sense leaves what was known before.
"""

import hashlib
import logging
from pathlib import Path
from typing import Final

from modelseal.errors import SettingsError
from modelseal_sidecar.logs import log
from modelseal_sidecar.settings import LeaseSettings, parse_seconds

CA_FILE: Final = "ca.crt"
INTERVAL_FILE: Final = "lease-interval"
MAX_STALE_FILE: Final = "max-stale"
_MAX_NUMBER_BYTES: Final = 64
_MAX_CA_BYTES: Final = 1 << 20


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
                interval=self._seconds(INTERVAL_FILE, self._lease.interval),
                max_stale=self._seconds(MAX_STALE_FILE, self._lease.max_stale),
            )
        except SettingsError as error:
            log(logging.WARNING, "kept the earlier lease settings", detail=error.message)
        return self._lease

    def ca_file(self) -> Path | None:
        """Return the CA file to trust: the directory's where there is one."""
        if self._directory is not None and (self._directory / CA_FILE).is_file():
            return self._directory / CA_FILE
        return self._ca_file

    def ca_state(self) -> bytes:
        """Return a value that changes when the CA file's content does."""
        path = self.ca_file()
        try:
            return b"" if path is None else hashlib.sha256(_read(path, _MAX_CA_BYTES)).digest()
        except OSError:
            return b"unreadable"

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
