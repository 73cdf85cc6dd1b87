"""The agent's environment is read strictly, and each complaint names the variable."""

from pathlib import Path

import pytest

from modelseal.contract import Delivery, Env
from modelseal.errors import SettingsError
from modelseal_sidecar.settings import Settings

SIGNER = "ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
LEAST = {
    Env.MODEL: "vision/filetype",
    Env.SOURCE: "/source/filetype",
    Env.KEY: "file:/key",
    Env.SIGNERS: SIGNER,
    Env.PEER_UID: "10002",
}


def environ(**changes: str) -> dict[str, str]:
    values = {name.value: value for name, value in LEAST.items()}
    return values | {Env[name].value: value for name, value in changes.items()}


def test_the_least_environment_is_enough() -> None:
    settings = Settings.from_env(environ())
    assert settings.delivery is Delivery.MEMFD
    assert settings.socket == Path("/run/modelseal/agent.sock")
    assert settings.signers == (SIGNER,)
    assert (settings.lease.interval, settings.lease.max_stale) == (60.0, 14400.0)
    assert settings.report_port == 8081
    assert settings.vault is None
    assert not settings.allow_unsigned
    assert not settings.allow_swap


def test_signers_are_separated_by_commas_or_blanks() -> None:
    settings = Settings.from_env(environ(SIGNERS=f"{SIGNER}, file:/a.pub\nfile:/b.pub"))
    assert settings.signers == (SIGNER, "file:/a.pub", "file:/b.pub")


def test_the_variables_of_vaults_own_programs_are_not_read() -> None:
    foreign = {"VAULT_ADDR": "https://evil", "VAULT_TOKEN": "t", "BAO_ADDR": "https://evil"}
    assert Settings.from_env(environ() | foreign) == Settings.from_env(environ())
    with pytest.raises(SettingsError, match=Env.VAULT_ADDRESS):
        Settings.from_env(environ(KEY="vault:transit/k") | foreign)


def test_vault_settings_have_kubernetes_defaults() -> None:
    changes = {"KEY": "vault:transit/k", "VAULT_ADDRESS": "https://bao:8200", "VAULT_ROLE": "r"}
    vault = Settings.from_env(environ(**changes)).vault
    assert vault is not None
    assert (vault.auth, vault.role) == ("kubernetes", "r")
    assert vault.token_file == Path("/var/run/secrets/modelseal/token")


@pytest.mark.parametrize("name", ["MODEL", "SOURCE", "KEY", "SIGNERS", "PEER_UID"])
def test_a_missing_variable_is_named(name: str) -> None:
    with pytest.raises(SettingsError, match=Env[name].value):
        Settings.from_env(environ(**{name: ""}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("LEASE_INTERVAL", "4.9", id="interval below five seconds"),
        pytest.param("LEASE_INTERVAL", "nan", id="interval is not a number"),
        pytest.param("LEASE_INTERVAL", "inf", id="endless interval"),
        pytest.param("MAX_STALE", "-1", id="negative max stale"),
        pytest.param("MAX_STALE", "30", id="max stale below the interval"),
        pytest.param("MODEL_SIZE", "512Mi", id="size with a unit"),
        pytest.param("MODEL_SIZE", "9" * 17, id="absurd size"),
        pytest.param("MODEL_SIZE", "-5", id="negative size"),
        pytest.param("MODEL_SIZE", "٣", id="digits that are not ASCII"),
        pytest.param("REPORT_PORT", "65536", id="no such port"),
        pytest.param("DELIVERY", "disk", id="unknown delivery"),
        pytest.param("DIGEST", "sha256:00", id="short digest"),
        pytest.param("ALLOW_UNSIGNED", "yes", id="yes is not true"),
        pytest.param("PEER_UID", "65534", id="the uid of everybody unmapped"),
        pytest.param("LOG_LEVEL", "verbose", id="unknown level"),
    ],
)
def test_nonsense_is_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsError):
        Settings.from_env(environ(**{name: value}))


def test_a_refused_value_is_shown_escaped() -> None:
    with pytest.raises(SettingsError, match=r"\\x1b") as caught:
        Settings.from_env(environ(DELIVERY="\x1b[31m"))
    assert "\x1b" not in caught.value.message


def test_a_pair_or_files_need_no_peer() -> None:
    assert Settings.from_env(environ(PEER_UID="", SOCKET_FD="7")).socket_fd == 7
    assert Settings.from_env(environ(PEER_UID="", DELIVERY="tmpfs")).peer_uid is None


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        pytest.param({}, Env.VAULT_ROLE, id="kubernetes without role"),
        pytest.param({"VAULT_AUTH": "approle"}, Env.VAULT_ROLE, id="approle without role"),
        pytest.param(
            {"VAULT_AUTH": "approle", "VAULT_ROLE": "r"},
            Env.VAULT_SECRET_ID_FILE,
            id="approle without secret id",
        ),
    ],
)
def test_a_login_without_its_parts_is_refused(changes: dict[str, str], missing: Env) -> None:
    with pytest.raises(SettingsError, match=missing.value):
        Settings.from_env(environ(VAULT_ADDRESS="https://bao:8200", **changes))
