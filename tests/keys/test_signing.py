"""Signing with transit keys on a real server: rotation, refusals, and a service that lies."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelseal import errors
from modelseal.envelope import parse_seal, parse_signer
from modelseal.keys.transit import VaultSigner
from modelseal.keys.vault import VaultClient
from support import fault_proxy as faults
from support.cli import run
from support.cli_models import MODEL, key_file, plain_ir, seal
from support.fault_proxy import FaultProxy
from support.openbao import KeyService, hcl

pytestmark = pytest.mark.keys
KINDS = ("ed25519", "ecdsa-p256")


def signing_key(service: KeyService, kind: str) -> str:
    """Make a signing key; returns its mount."""
    mount = service.transit()
    service.call("POST", f"{mount}/keys/release", {"type": kind})
    return mount


def signer(service: KeyService, mount: str, **changes: Any) -> VaultSigner:
    client = VaultClient(replace(service.settings(), **changes), pause=lambda _: None)
    return VaultSigner(client, mount=mount, key="release")


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_a_transit_key_signed_is_accepted_by_its_public_key_only(
    key_service: KeyService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    mount = signing_key(key_service, kind)
    monkeypatch.setenv("VAULT_ADDR", key_service.address)
    monkeypatch.setenv("VAULT_CACERT", str(key_service.ca_file))
    monkeypatch.setenv("VAULT_TOKEN", key_service.server.root_token)
    made = seal(
        *(plain_ir(tmp_path), tmp_path / "sealed", "--sign", f"vault:{mount}/release"),
        key=f"file:{key_file(tmp_path)}",
    )
    assert made.code == 0, made.err
    public = signer(key_service, mount).public
    assert run("verify", tmp_path / "sealed", "--model", MODEL, "--signer", public).code == 0
    other = signer(key_service, signing_key(key_service, kind)).public
    refused = run("verify", tmp_path / "sealed", "--model", MODEL, "--signer", other)
    assert refused.code == errors.SignatureInvalid.exit_code
    assert len(parse_seal((tmp_path / "sealed/seal.json").read_bytes()).envelope.signatures) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_after_a_rotation_the_newest_version_signs_and_old_signatures_stay_valid(
    key_service: KeyService, kind: str
) -> None:
    mount = signing_key(key_service, kind)
    old = signer(key_service, mount)
    signature, public = old.sign(b"message"), parse_signer(old.public)
    key_service.call("POST", f"{mount}/keys/release/rotate")
    new = signer(key_service, mount)
    assert new.public != old.public
    assert parse_signer(new.public).verifies(new.sign(b"message"), b"message")
    assert public.verifies(signature, b"message")


@pytest.mark.parametrize("kind", KINDS)
def test_a_rotation_between_reading_and_signing_makes_no_signature_that_nobody_accepts(
    key_service: KeyService, kind: str
) -> None:
    mount = signing_key(key_service, kind)
    own = signer(key_service, mount)
    public = parse_signer(own.public)
    key_service.call("POST", f"{mount}/keys/release/rotate")
    assert public.verifies(own.sign(b"message"), b"message")


def test_without_the_right_to_sign_nothing_is_signed(key_service: KeyService) -> None:
    mount = signing_key(key_service, "ed25519")
    policy = key_service.policy(hcl(f"{mount}/keys/release", ["read"]))
    auth = key_service.settings(key_service.token(policy)).auth
    with pytest.raises(errors.KeyAccessDenied):
        signer(key_service, mount, auth=auth).sign(b"message")


def test_a_signing_key_that_is_not_there_is_not_found(key_service: KeyService) -> None:
    with pytest.raises(errors.KeyNotFound):
        signer(key_service, key_service.transit()).sign(b"message")


@pytest.mark.negative(19)
@pytest.mark.parametrize("text", ["", "vault:v1:", "vault:v1:A=A=", "garbage", 7, "vault:v1:AAA"])
def test_an_answer_that_is_no_signature_breaks_the_protocol(
    key_service: KeyService, proxy: FaultProxy, text: object
) -> None:
    mount = signing_key(key_service, "ed25519")
    own = signer(key_service, mount, address=proxy.address)
    assert own.public
    proxy.always = faults.altered(lambda answer: answer["data"].update(signature=text))
    with pytest.raises(errors.KeyServiceProtocolError):
        own.sign(b"message")


def no_key(data: dict[str, Any]) -> None:
    data["keys"]["1"].update(public_key="garbage")


@pytest.mark.negative(19)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "change",
    [no_key, lambda data: data["keys"].clear(), lambda data: data.update(latest_version=9)],
    ids=["garbage", "none", "another version"],
)
def test_an_answer_that_holds_no_public_key_breaks_the_protocol(
    key_service: KeyService,
    proxy: FaultProxy,
    kind: str,
    change: Callable[[dict[str, Any]], object],
) -> None:
    mount = signing_key(key_service, kind)
    proxy.always = faults.altered(lambda answer: change(answer["data"]))
    with pytest.raises(errors.KeyServiceProtocolError):
        _ = signer(key_service, mount, address=proxy.address).public
