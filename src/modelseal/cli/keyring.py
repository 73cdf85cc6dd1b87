"""Opened key providers for work on many models, in several threads or processes."""

import functools
import threading
from collections.abc import Iterable
from typing import Final

from modelseal.cli.environment import open_key
from modelseal.keys import KeyProvider, parse_key_uri

_KEPT: Final = 16
"""Providers of a key service that a thread keeps; each has a connection of its own."""


class Keyring:
    """Opens key URIs, each once: for each thread where a key service is asked, else for all.

    A conversation with a key service answers one question at a time, so threads have their own. A
    passphrase is asked for only once.
    """

    def __init__(self) -> None:
        self._own: Final = threading.local()
        self._shared: Final = functools.cache(_opened)

    def __call__(self, uri: str, new: bool) -> KeyProvider:
        """Return the provider of a key URI; `new` says that a passphrase is a new one."""
        if not parse_key_uri(uri).kind.startswith("vault"):
            return self._shared(uri, new)
        if not hasattr(self._own, "opened"):
            self._own.opened = functools.lru_cache(maxsize=_KEPT)(_opened)
        found: KeyProvider = self._own.opened(uri, new)
        return found

    def read(self, uris: Iterable[str], *, new: bool) -> None:
        """Read key files and ask for passphrases now, before there are several that would."""
        for uri in uris:
            if not ("{" in uri or parse_key_uri(uri).kind.startswith("vault")):
                self._shared(uri, new)

    def hang_up(self) -> None:
        """Forget the conversations, which are the parent's, in a process that was forked."""
        self._own.__dict__.clear()


def _opened(uri: str, new: bool) -> KeyProvider:
    return open_key(uri, new=new)
