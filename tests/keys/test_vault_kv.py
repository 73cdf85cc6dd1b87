"""Keys that are kept in KV version 2, on a real server: versions, withdrawal, bad content."""

import base64
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from modelseal.envelope import Recipient, kek_context
from modelseal.errors import (
    KeyAccessDenied,
    KeyNotFound,
    KeyRevoked,
    KeyServiceError,
    KeyServiceProtocolError,
    WrappedKeyInvalid,
    WrongKey,
)
from modelseal.keys import KeyProvider, open_provider, parse_key_uri
from modelseal.keys.vault import VaultClient
from modelseal.keys.vault_kv import VaultKvProvider
from modelseal.keys.wire import Patience
from modelseal.secret import Secret
from support import fault_proxy as faults
from support.fault_proxy import FaultProxy
from support.openbao import KeyService, hcl

pytestmark = pytest.mark.keys
CONTEXT = kek_context("vision/filetype", secrets.token_bytes(32))
DEK = secrets.token_bytes(32)


class Store:
    """A KV mount with one secret."""

    def __init__(self, service: KeyService) -> None:
        self.service, self.mount = service, service.kv()
        self.write(secrets.token_bytes(32))

    def write(self, kek: bytes) -> None:
        self.put({"key": base64.b64encode(kek).decode()})

    def put(self, data: dict[str, Any]) -> None:
        self.service.call("POST", f"{self.mount}/data/models/kek", {"data": data})

    def withdraw(self, how: str, version: int = 1) -> None:
        self.service.call("POST", f"{self.mount}/{how}/models/kek", {"versions": [version]})

    def keys(self, suffix: str = "", field: str = "key", **changes: Any) -> KeyProvider:
        settings = replace(self.service.settings(), **changes)
        return open_provider(f"vault-kv:{self.mount}/models/kek#{field}{suffix}", vault=settings)

    def wrapped(self, suffix: str = "") -> Recipient:
        return self.keys(suffix).wrap(Secret(DEK), CONTEXT)


@pytest.fixture
def store(key_service: KeyService) -> Store:
    return Store(key_service)


def test_a_recipient_names_the_version_and_opens_after_a_newer_one_came(store: Store) -> None:
    first = store.wrapped()
    store.write(secrets.token_bytes(32))
    second = store.wrapped()
    assert first.key.endswith("@1")
    assert second.key.endswith("@2")
    for recipient in (first, second):
        assert bytes(store.keys().unwrap(recipient, CONTEXT).buffer) == DEK


def test_a_pinned_version_wraps_and_matches_only_itself(store: Store) -> None:
    store.write(secrets.token_bytes(32))
    first, second = store.wrapped("@1"), store.wrapped("@2")
    assert first.key.endswith("@1")
    assert store.keys("@1").matches(first)
    assert not store.keys("@1").matches(second)
    assert store.keys().matches(first)


def test_rewrapping_moves_to_the_newest_version(store: Store) -> None:
    first = store.wrapped()
    store.write(secrets.token_bytes(32))
    renewed = store.keys().rewrap(first, CONTEXT)
    assert store.keys().describe(renewed).version == 2
    store.withdraw("destroy")
    assert bytes(store.keys().unwrap(renewed, CONTEXT).buffer) == DEK


@pytest.mark.negative(16)
@pytest.mark.parametrize("how", ["delete", "destroy"])
def test_a_deleted_or_destroyed_version_is_revoked(store: Store, how: str) -> None:
    recipient = store.wrapped()
    store.withdraw(how)
    for deed in (store.keys().unwrap, store.keys().check):
        with pytest.raises(KeyRevoked):
            deed(recipient, CONTEXT)


def test_a_deleted_version_can_be_given_back_and_a_destroyed_one_cannot(store: Store) -> None:
    recipient = store.wrapped()
    store.withdraw("delete")
    store.withdraw("undelete")
    store.keys().check(recipient, CONTEXT)


@pytest.mark.negative(16)
def test_a_secret_or_field_or_version_that_is_not_there_is_not_found(store: Store) -> None:
    recipient = store.wrapped()
    with pytest.raises(KeyNotFound):
        store.keys(field="other").wrap(Secret(DEK), CONTEXT)
    with pytest.raises(KeyNotFound):
        store.keys("@7").wrap(Secret(DEK), CONTEXT)
    store.service.call("DELETE", f"{store.mount}/metadata/models/kek")
    with pytest.raises(KeyNotFound):
        store.keys().unwrap(recipient, CONTEXT)


@pytest.mark.negative(17)
def test_without_the_right_to_read_access_is_denied(store: Store) -> None:
    recipient = store.wrapped()
    policy = store.service.policy(hcl(f"{store.mount}/data/models/other", ["read"]))
    settings = store.service.settings(store.service.token(policy))
    with pytest.raises(KeyAccessDenied):
        store.keys(auth=settings.auth).unwrap(recipient, CONTEXT)


def bits(text: str, position: int) -> str:
    raw = bytearray(base64.b64decode(text))
    raw[position] ^= 1
    return base64.b64encode(raw).decode()


@pytest.mark.negative(12)
def test_every_altered_byte_of_a_wrapped_key_is_refused(store: Store) -> None:
    recipient, keys = store.wrapped(), store.keys()
    for position in (0, 31, 32, 43, 44, 75, 76, 91):
        altered = replace(recipient, wrapped=bits(recipient.wrapped, position))
        with pytest.raises(WrongKey if position < 32 else WrappedKeyInvalid):
            keys.unwrap(altered, CONTEXT)


@pytest.mark.negative(13)
def test_a_wrapped_key_of_another_seal_is_refused(store: Store) -> None:
    recipient = store.wrapped()
    with pytest.raises(WrappedKeyInvalid):
        store.keys().unwrap(recipient, kek_context("vision/filetype", secrets.token_bytes(32)))


def test_a_secret_that_was_written_anew_over_its_history_is_another_key(store: Store) -> None:
    recipient = store.wrapped()
    store.service.call("DELETE", f"{store.mount}/metadata/models/kek")
    store.write(secrets.token_bytes(32))
    with pytest.raises(WrongKey):
        store.keys().unwrap(recipient, CONTEXT)


@pytest.mark.negative(19)
@pytest.mark.parametrize(
    "value",
    [
        base64.b64encode(bytes(31)).decode(),
        base64.b64encode(bytes(33)).decode(),
        "",
        "canary!",
        "canary\n" * 6,
        "canary\u00e9",
        7,
        ["x"],
    ],
    ids=["31 bytes", "33 bytes", "empty", "no base64", "lines", "no ASCII", "number", "list"],
)
def test_a_field_that_is_no_key_breaks_the_protocol_and_is_not_shown(
    store: Store, value: object
) -> None:
    store.put({"key": value})
    with pytest.raises(KeyServiceProtocolError) as caught:
        store.keys().wrap(Secret(DEK), CONTEXT)
    assert "canary" not in repr(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda answer: answer["data"].update(metadata={"version": 2}),
        lambda answer: answer["data"].update(metadata={"version": "1"}),
        lambda answer: answer["data"].update(metadata=None),
        lambda answer: answer.update(data=[]),
    ],
    ids=["another version", "text", "no metadata", "list"],
)
def test_an_answer_for_another_version_is_refused(
    store: Store, proxy: FaultProxy, change: Callable[[dict[str, Any]], object]
) -> None:
    recipient = store.wrapped()
    proxy.always = faults.altered(change)
    with pytest.raises(KeyServiceProtocolError):
        store.keys(address=proxy.address).unwrap(recipient, CONTEXT)


@pytest.mark.parametrize(
    "name", ["@1", "@01", "@0", "@-1", "@1x", "@", "", "@9999999999", "x@1", "@1@1", "@\u0661"]
)
def test_a_recipient_is_compared_and_nothing_in_it_is_followed(store: Store, name: str) -> None:
    key = f"{store.mount}/models/kek#key{name}"
    recipient = Recipient(kind="vault-kv", key=key, wrapped="AAAA")
    assert store.keys().matches(recipient) is (name == "@1")


@pytest.mark.parametrize(
    "fault", [faults.status(503), faults.hang, faults.reset_in_body], ids=["503", "hang", "reset"]
)
def test_an_outage_is_no_refusal(store: Store, proxy: FaultProxy, fault: faults.Fault) -> None:
    recipient = store.wrapped()
    proxy.always = fault
    client = VaultClient(
        replace(store.service.settings(), address=proxy.address),
        pause=lambda _: None,
        patience=Patience(connect=3.0, read=0.3, answer=30.0),
    )
    keys = VaultKvProvider(client, parse_key_uri(f"vault-kv:{store.mount}/models/kek#key"))
    with pytest.raises(KeyServiceError):
        keys.check(recipient, CONTEXT)
