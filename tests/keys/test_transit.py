"""Transit keys on a real server: wrapping, binding, rotation, withdrawal."""

import base64
import secrets

import pytest

from modelseal.envelope import Recipient, kek_context, parse_signer
from modelseal.errors import (
    KeyAccessDenied,
    KeyNotFound,
    KeyRevoked,
    SettingsError,
    WrappedKeyInvalid,
)
from modelseal.keys import KeyProvider, open_provider, open_signer
from modelseal.secret import Secret
from support.openbao import KeyService, hcl

pytestmark = pytest.mark.keys
MODEL = "vision/filetype"


def context(model: str = MODEL) -> bytes:
    return kek_context(model, secrets.token_bytes(32))


def provider(service: KeyService, mount: str, token: str | None = None) -> KeyProvider:
    return open_provider(f"vault:{mount}/models", vault=service.settings(token))


def test_a_data_key_comes_back_as_it_was_wrapped(key_service: KeyService) -> None:
    keys = provider(key_service, key_service.transit())
    bound, dek = context(), secrets.token_bytes(32)
    recipient = keys.wrap(Secret(dek), bound)
    assert recipient.wrapped.startswith("vault:v1:")
    assert keys.matches(recipient)
    assert bytes(keys.unwrap(recipient, bound).buffer) == dek


@pytest.mark.negative(12)
def test_an_altered_wrapped_key_is_refused(key_service: KeyService) -> None:
    keys = provider(key_service, key_service.transit())
    bound = context()
    recipient = keys.wrap(Secret(bytes(32)), bound)
    head, body = recipient.wrapped.rsplit(":", 1)
    raw = bytearray(base64.b64decode(body))
    raw[-1] ^= 1
    altered = Recipient(
        kind=recipient.kind,
        key=recipient.key,
        wrapped=f"{head}:{base64.b64encode(raw).decode()}",
    )
    with pytest.raises(WrappedKeyInvalid):
        keys.unwrap(altered, bound)


@pytest.mark.negative(13)
@pytest.mark.parametrize("other", [MODEL, "vision/filetypex", "vision/other"])
def test_a_wrapped_key_of_another_seal_or_model_is_refused(
    key_service: KeyService, other: str
) -> None:
    keys = provider(key_service, key_service.transit())
    recipient = keys.wrap(Secret(bytes(32)), context(other))
    with pytest.raises(WrappedKeyInvalid):
        keys.unwrap(recipient, context())


@pytest.mark.negative(15)
def test_a_key_below_the_minimum_version_is_revoked_until_it_is_rewrapped(
    key_service: KeyService,
) -> None:
    mount = key_service.transit()
    keys, bound = provider(key_service, mount), context()
    recipient = keys.wrap(Secret(bytes(32)), bound)
    key_service.call("POST", f"{mount}/keys/models/rotate")
    renewed = keys.rewrap(recipient, bound)
    key_service.call("POST", f"{mount}/keys/models/config", {"min_decryption_version": 2})
    assert keys.describe(renewed).version == 2
    assert bytes(keys.unwrap(renewed, bound).buffer) == bytes(32)
    for refused in (keys.unwrap, keys.check):
        with pytest.raises(KeyRevoked):
            refused(recipient, bound)


@pytest.mark.negative(16)
def test_a_deleted_key_is_not_found(key_service: KeyService) -> None:
    mount = key_service.transit()
    keys, bound = provider(key_service, mount), context()
    recipient = keys.wrap(Secret(bytes(32)), bound)
    key_service.call("POST", f"{mount}/keys/models/config", {"deletion_allowed": True})
    key_service.call("DELETE", f"{mount}/keys/models")
    with pytest.raises(KeyNotFound):
        keys.unwrap(recipient, bound)
    with pytest.raises(KeyNotFound):
        keys.check(recipient, bound)


@pytest.mark.negative(17)
def test_without_the_right_to_decrypt_access_is_denied(key_service: KeyService) -> None:
    mount = key_service.transit()
    bound = context()
    recipient = provider(key_service, mount).wrap(Secret(bytes(32)), bound)
    token = key_service.token(key_service.policy(hcl(f"{mount}/encrypt/models")))
    with pytest.raises(KeyAccessDenied):
        provider(key_service, mount, token).unwrap(recipient, bound)


def test_the_lease_check_sees_that_only_the_right_to_decrypt_went(key_service: KeyService) -> None:
    mount, bound = key_service.transit(), context()
    recipient = provider(key_service, mount).wrap(Secret(bytes(32)), bound)
    common = hcl(f"{mount}/rewrap/models") + hcl("sys/capabilities-self")
    policy = key_service.policy(common + hcl(f"{mount}/decrypt/models"))
    keys = provider(key_service, mount, key_service.token(policy))
    keys.check(recipient, bound)
    key_service.call("PUT", f"sys/policies/acl/{policy}", {"policy": common})
    with pytest.raises(KeyAccessDenied):
        keys.check(recipient, bound)


def test_an_unknown_mount_is_not_found_or_denied(key_service: KeyService) -> None:
    keys = provider(key_service, "no-such-mount")
    recipient = Recipient(kind="vault-transit", key="no-such-mount/models", wrapped="vault:v1:AAAA")
    with pytest.raises((KeyNotFound, KeyAccessDenied)):
        keys.unwrap(recipient, context())


@pytest.mark.parametrize("text", ["", "vault:v0:AAAA", "vault:v1:***", "AAAA", "vault:v1:A\nB"])
def test_garbage_is_refused_before_the_service_is_asked(key_service: KeyService, text: str) -> None:
    keys = open_provider("vault:transit/models", vault=key_service.settings("no-token"))
    recipient = Recipient(kind="vault-transit", key="transit/models", wrapped=text)
    with pytest.raises(WrappedKeyInvalid):
        keys.unwrap(recipient, context())


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa-p256"])
def test_a_transit_key_signs_what_the_pinned_public_key_verifies(
    key_service: KeyService, kind: str
) -> None:
    mount = key_service.transit()
    key_service.call("POST", f"{mount}/keys/release", {"type": kind})
    signer = open_signer(f"vault:{mount}/release", vault=key_service.settings())
    signature = signer.sign(b"message")
    public = parse_signer(signer.public)
    assert public.verifies(signature, b"message")
    assert not public.verifies(signature, b"messagf")


def test_a_key_that_cannot_sign_is_refused_as_a_signer(key_service: KeyService) -> None:
    mount = key_service.transit()
    signer = open_signer(f"vault:{mount}/models", vault=key_service.settings())
    with pytest.raises(SettingsError):
        signer.sign(b"message")
