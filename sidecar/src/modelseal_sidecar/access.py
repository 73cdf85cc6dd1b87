"""The agent's way to its key: one provider, made from settings, made anew when the CA changes."""

import threading
from typing import Final

from modelseal.keys import KeyProvider, open_provider
from modelseal_sidecar.credentials import passphrase_reader
from modelseal_sidecar.provider_directory import ProviderDirectory
from modelseal_sidecar.settings import Settings
from modelseal_sidecar.vault import vault_settings


class KeyAccess:
    """Holds the provider; may be used from any thread."""

    def __init__(self, settings: Settings, directory: ProviderDirectory) -> None:
        """Make the provider; nothing is asked of the network.

        Raises:
            SettingsError: the key's URI or the key service's settings make no sense.

        """
        self._settings: Final = settings
        self._directory: Final = directory
        self._passphrase: Final = passphrase_reader(settings.passphrase_file)
        self._lock: Final = threading.Lock()
        self._ca_state = directory.ca_state()
        self._provider = self._make()

    def current(self) -> KeyProvider:
        """Return the provider to ask."""
        with self._lock:
            return self._provider

    def refresh(self) -> KeyProvider:
        """Return a provider that trusts the CA file's content of now."""
        with self._lock:
            state = self._directory.ca_state()
            if state != self._ca_state:
                self._provider = self._make()
                self._ca_state = state
            return self._provider

    def _make(self) -> KeyProvider:
        environment = self._settings.vault
        vault = vault_settings(environment, self._directory.ca_file()) if environment else None
        return open_provider(self._settings.key, vault=vault, passphrase=self._passphrase)
