"""What docs/keys.md says of disasters, on a real server: what is lost, and what comes back."""

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from modelseal import errors
from support.cli import run
from support.cli_models import MODEL, key_file, plain_ir
from support.openbao import KeyService

pytestmark = pytest.mark.keys


class Vault:
    """A sealed model under a transit key that may be backed up, and what befalls that key."""

    def __init__(self, service: KeyService, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.service, self.folder, self.mount = service, folder, service.transit("models")
        self.sealed, self.key = folder / "sealed", f"vault:{self.mount}/models"
        patch.setenv("VAULT_ADDR", service.address)
        patch.setenv("VAULT_CACERT", str(service.ca_file))
        patch.setenv("VAULT_TOKEN", service.server.root_token)
        words = ("--model", MODEL, "--version", "1", "--key", self.key)
        made = run("seal", plain_ir(folder, weights=100), "-o", self.sealed, *words)
        assert made.code == 0, made.err

    def config(self, **values: object) -> None:
        self.service.call("POST", f"{self.mount}/keys/models/config", dict(values))

    def backup(self) -> str:
        self.config(exportable=True, allow_plaintext_backup=True, deletion_allowed=True)
        found = self.service.call("GET", f"{self.mount}/backup/models")["data"]["backup"]
        assert base64.b64decode(found)
        return str(found)

    def restore(self, backup: str) -> None:
        self.service.call("DELETE", f"{self.mount}/keys/models")
        self.service.call("POST", f"{self.mount}/restore/models", {"backup": backup})

    def opens(self, key: str = "") -> int:
        return run("verify", self.sealed, "--model", MODEL, "--key", key or self.key).code


@pytest.fixture
def vault(key_service: KeyService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Vault:
    return Vault(key_service, tmp_path, monkeypatch)


def withdraw(vault: Vault) -> None:
    """Rotate, and forbid what was wrapped before."""
    vault.service.call("POST", f"{vault.mount}/keys/models/rotate")
    vault.config(min_decryption_version=2)


def test_a_restored_backup_brings_a_withdrawn_right_back_until_it_is_withdrawn_again(
    vault: Vault,
) -> None:
    backup = vault.backup()
    withdraw(vault)
    assert vault.opens() == errors.KeyRevoked.exit_code
    vault.restore(backup)
    assert vault.opens() == 0, "this is why a list of withdrawals is kept outside"
    withdraw(vault)
    assert vault.opens() == errors.KeyRevoked.exit_code


def lost_key(vault: Vault) -> None:
    vault.config(deletion_allowed=True)
    vault.service.call("DELETE", f"{vault.mount}/keys/models")


def lost_service(vault: Vault) -> None:
    vault.service.call("DELETE", f"sys/mounts/{vault.mount}")


@pytest.mark.parametrize("lose", [lost_key, lost_service])
def test_what_is_lost_with_a_key_is_opened_by_the_escrow_and_given_a_new_key(
    vault: Vault, lose: Callable[[Vault], None]
) -> None:
    escrow = f"file:{key_file(vault.folder)}"
    words = ("rewrap", vault.sealed, "--model", MODEL)
    assert run(*words, "--key", vault.key, "--add", escrow).code == 0
    lose(vault)
    assert vault.opens() == errors.KeyNotFound.exit_code
    assert vault.opens(escrow) == 0
    new = f"vault:{vault.service.transit('models')}/models"
    assert run(*words, "--key", escrow, "--add", new, "--remove", vault.key).code == 0
    assert vault.opens(new) == 0


def test_without_another_recipient_a_deleted_key_is_the_end_of_its_models(vault: Vault) -> None:
    lost_key(vault)
    assert vault.opens() == errors.KeyNotFound.exit_code
    done = run("rewrap", vault.sealed, "--model", MODEL, "--key", vault.key)
    assert done.code == errors.KeyNotFound.exit_code
