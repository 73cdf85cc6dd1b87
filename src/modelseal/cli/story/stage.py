"""What one chapter of the demo leaves for the next."""

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from modelseal.cli.story import filetype
from modelseal.cli.story.openbao import OpenBao
from modelseal.cli.story.telling import Teller
from modelseal.cli.story.verbs import DemoFailed, Service, Verbs
from modelseal.contract import Env

MODEL: Final = "demo/filetype"
SERVED: Final = "filetype"
KEY: Final = "transit/demo"
SIGNER: Final = "file:release.pub"
PHRASE_FILE: Final = "phrase.txt"


@dataclass(kw_only=True)
class Stage:
    """The folder everything is in, who tells, and what runs."""

    folder: Path
    teller: Teller
    stack: ExitStack
    kind: filetype.FileType = field(default_factory=filetype.load)
    figures: dict[str, Any] = field(default_factory=dict)
    server: OpenBao | None = None
    tokens: dict[str, str] = field(default_factory=dict)
    service: Service | None = None
    endpoints: dict[str, Any] = field(default_factory=dict)

    @property
    def with_passphrase(self) -> Verbs:
        """The command line of somebody who knows the passphrase."""
        return self._verbs({Env.PASSPHRASE_FILE: str(self.folder / PHRASE_FILE)})

    @property
    def administrator(self) -> Verbs:
        """The command line of somebody who needs no secret for it."""
        return self._verbs({})

    def as_role(self, role: str) -> Verbs:
        """Return the command line of somebody who holds the token of a role."""
        server = self.key_service
        return self._verbs(
            {
                "VAULT_ADDR": server.address,
                "VAULT_CACERT": str(server.ca_file),
                "VAULT_TOKEN": self.tokens[role],
            }
        )

    @property
    def key_service(self) -> OpenBao:
        """The running OpenBao server."""
        if self.server is None:
            raise DemoFailed("failed to tell the story: its key service is not running")
        return self.server

    @property
    def running(self) -> Service:
        """The running `modelseal serve`."""
        if self.service is None:
            raise DemoFailed("failed to tell the story: the model is not served")
        return self.service

    def prove(self, shown: bool, text: str) -> None:
        """Tell what has been shown.

        Raises:
            DemoFailed: it was not shown.

        """
        if not shown:
            raise DemoFailed(f"failed to show that: {text}")
        self.teller.good(text)

    def _verbs(self, extra: dict[str, str]) -> Verbs:
        return Verbs(folder=self.folder, teller=self.teller, extra=extra)


def seconds_since(started: float) -> float:
    """Return the seconds since a moment of the monotonic clock, for people."""
    return round(time.monotonic() - started, 2)
