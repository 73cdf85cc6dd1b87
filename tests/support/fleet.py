"""Sealed models of one owner, for tests of what is done to many."""

from pathlib import Path

import pytest

from modelseal.envelope import parse_seal
from support.cli import Result, run
from support.cli_models import plain_ir
from support.openbao import KeyService

NAMES = ("filetype", "faces", "plates", "speech")


class Fleet:
    """Sealed models of one owner in one folder, each with a transit key of its own."""

    def __init__(self, service: KeyService, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.service, self.folder, self.mount = service, folder, service.transit()
        self.plain = folder / "plain"
        self.sealed = folder / "sealed"
        self.plain.mkdir()
        self.sealed.mkdir()
        patch.setenv("VAULT_ADDR", service.address)
        patch.setenv("VAULT_CACERT", str(service.ca_file))
        patch.setenv("VAULT_TOKEN", service.server.root_token)
        assert run("keygen", "-o", folder / "release", "--type", "ed25519").code == 0
        plain_ir(self.plain, weights=1000)
        for name in NAMES:
            self.seal(name)

    def seal(self, name: str) -> None:
        self.service.call(
            "POST", f"{self.mount}/keys/vision_{name}", {"type": "aes256-gcm96", "derived": True}
        )
        result = run(
            *("seal", self.plain, "-o", self.sealed / name, "--model", f"vision/{name}"),
            *("--version", "1", "--key", f"vault:{self.mount}/vision_{name}"),
            *("--sign", self.folder / "release"),
        )
        assert result.code == 0, result.err

    def config(self, name: str, **values: int) -> None:
        self.service.call("POST", f"{self.mount}/keys/vision_{name}/config", values)

    def rotate(self, *names: str) -> None:
        for name in names or NAMES:
            self.service.call("POST", f"{self.mount}/keys/vision_{name}/rotate")

    def rewrap(self, *more: str | Path, place: str | Path | None = None) -> Result:
        return run(*self.words(*more, place=place))

    def words(self, *more: str | Path, place: str | Path | None = None) -> list[str]:
        key = f"vault:{self.mount}/{{owner}}_{{name}}"
        words = ("rewrap", place or self.sealed, "--model", "vision/*", "--key", key)
        return [
            str(word) for word in (*words, "--signer", f"file:{self.folder}/release.pub", *more)
        ]

    def text(self, name: str) -> bytes:
        return (self.sealed / name / "seal.json").read_bytes()

    def versions(self) -> dict[str, str]:
        return {
            name: parse_seal(self.text(name)).recipients[0].wrapped.split(":")[1] for name in NAMES
        }

    def verify(self, name: str) -> Result:
        key = f"vault:{self.mount}/vision_{name}"
        return run("verify", self.sealed / name, "--model", f"vision/{name}", "--key", key)
