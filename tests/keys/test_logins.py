"""Every way to log in, on a real server, and every refusal at the door."""

import secrets
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from modelseal.envelope import kek_context
from modelseal.errors import KeyAccessDenied, KeyServiceProtocolError, KeyServiceUnavailable
from modelseal.keys import AppRoleAuth, JwtAuth, TokenAuth, VaultAuth
from modelseal.keys.transit import VaultTransitProvider
from modelseal.keys.vault import TRIES, VaultClient
from modelseal.secret import Secret
from support import fault_proxy as faults
from support.fault_proxy import FaultProxy
from support.openbao import KeyService
from support.prepared import ACCOUNT, METHODS, MODEL, NAMESPACE, ROLE, Prepared, prepared
from support.tokens import Issuer

pytestmark = pytest.mark.keys
CONTEXT = kek_context(MODEL, secrets.token_bytes(32))
DEK = secrets.token_bytes(32)


class Place:
    """A prepared key service, and a data key that was wrapped on it."""

    def __init__(self, base: Prepared) -> None:
        self.service, self.reviewer, self.token = base.service, base.reviewer, base.token
        self.mount, self.mounts = base.mount, base.mounts
        self.recipient = self.keys(self.service.settings().auth).wrap(Secret(DEK), CONTEXT)

    def keys(self, auth: VaultAuth, **changes: Any) -> VaultTransitProvider:
        settings = replace(self.service.settings(), auth=auth, **changes)
        client = VaultClient(settings, pause=lambda _: None)
        return VaultTransitProvider(client, mount=self.mount, key="models")

    def jwt(self, method: str, token: str, **changes: Any) -> JwtAuth:
        auth = JwtAuth(
            role=ROLE, method=method, mount=self.mounts[method], read=lambda: Secret(token.encode())
        )
        return replace(auth, **changes)

    def approle(self) -> tuple[str, str, str]:
        """Make an AppRole with the agent's policy; returns mount, role id and secret id."""
        mount = self.service.name("approle")
        self.service.call("POST", f"sys/auth/{mount}", {"type": "approle"})
        role = f"auth/{mount}/role/agent"
        self.service.call(
            "POST", role, {"token_policies": ROLE, "token_ttl": 60, "token_no_default_policy": True}
        )
        role_id = self.service.call("GET", f"{role}/role-id")["data"]["role_id"]
        secret_id = self.service.call("POST", f"{role}/secret-id", {})["data"]["secret_id"]
        return mount, role_id, secret_id


@pytest.fixture(scope="module")
def place(key_service: KeyService) -> Iterator[Place]:
    with prepared(key_service) as base:
        yield Place(base)


def opens(place: Place, auth: VaultAuth) -> bool:
    with place.keys(auth).unwrap(place.recipient, CONTEXT) as dek:
        return bytes(dek.buffer) == DEK


def denied(place: Place, auth: VaultAuth) -> str:
    with pytest.raises(KeyAccessDenied) as caught:
        place.keys(auth).unwrap(place.recipient, CONTEXT)
    return str(caught.value)


def test_a_token_of_the_printed_policy_opens_the_model(place: Place) -> None:
    token = place.service.token(ROLE).encode()
    assert opens(place, TokenAuth(read=lambda: Secret(token)))


def test_an_approle_opens_the_model_and_its_secret_id_can_be_withdrawn(place: Place) -> None:
    mount, role_id, secret_id = place.approle()
    auth = AppRoleAuth(role_id=role_id, mount=mount, read=lambda: Secret(secret_id.encode()))
    assert opens(place, auth)
    place.service.call(
        "POST", f"auth/{mount}/role/agent/secret-id/destroy", {"secret_id": secret_id}
    )
    assert "login" in denied(place, auth)
    assert "login" in denied(place, replace(auth, role_id="no-such-role"))


@pytest.mark.parametrize("method", METHODS)
def test_a_service_account_opens_the_model_through_the_printed_role(
    place: Place, method: str
) -> None:
    assert opens(place, place.jwt(method, place.token()))


@pytest.mark.negative(17)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "changes",
    [
        {"namespace": "other"},
        {"namespace": "visio"},
        {"name": "other"},
        {"name": "filetype2"},
        {"audience": "https://kubernetes.default.svc"},
        {"seconds": -120},
    ],
    ids=["namespace", "near namespace", "account", "near account", "audience", "expired"],
)
def test_a_token_of_somebody_else_or_for_something_else_or_old_is_refused_at_the_login(
    place: Place, method: str, changes: dict[str, Any]
) -> None:
    assert "login" in denied(place, place.jwt(method, place.token(**changes)))


@pytest.mark.negative(17)
@pytest.mark.parametrize("method", METHODS)
def test_a_token_that_the_cluster_did_not_sign_is_refused(place: Place, method: str) -> None:
    foreign = Issuer().token(NAMESPACE, ACCOUNT, place.service.address)
    assert "login" in denied(place, place.jwt(method, foreign))
    assert "login" in denied(place, place.jwt(method, "garbage"))


@pytest.mark.parametrize("method", METHODS)
def test_an_unknown_role_or_way_is_refused_at_the_login(place: Place, method: str) -> None:
    token = place.token()
    assert "login" in denied(place, place.jwt(method, token, role="no-such-role"))
    assert "login" in denied(place, place.jwt(method, token, mount="no-such-way"))


@pytest.mark.negative(17)
def test_a_service_account_that_was_deleted_is_refused(place: Place) -> None:
    auth = place.jwt("kubernetes", place.token())
    place.reviewer.removed.add(f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}")
    try:
        assert "login" in denied(place, auth)
    finally:
        place.reviewer.removed.clear()
    assert opens(place, auth)


def test_while_the_api_server_is_away_a_good_token_is_kept_and_nothing_is_withdrawn(
    place: Place,
) -> None:
    keys = place.keys(place.jwt("kubernetes", place.token()))
    keys.login()
    until = keys.token_expires
    place.reviewer.broken = 503
    try:
        keys.login()
        keys.check(place.recipient, CONTEXT)
        assert keys.token_expires == until
        assert "login" in denied(place, place.jwt("kubernetes", place.token()))
    finally:
        place.reviewer.broken = 0


def test_a_login_that_is_not_answered_costs_no_good_token(place: Place, proxy: FaultProxy) -> None:
    """Else the next refused login, with the API server still away, would end the lease."""
    keys = place.keys(place.jwt("kubernetes", place.token()), address=proxy.address)
    keys.login()
    until = keys.token_expires
    proxy.faults += [faults.status(503)] * TRIES
    keys.login()
    assert proxy.faults == []
    place.reviewer.broken = 503
    try:
        keys.login()
        keys.check(place.recipient, CONTEXT)
    finally:
        place.reviewer.broken = 0
    assert keys.token_expires == until


def test_a_kept_token_that_was_revoked_is_no_right(place: Place) -> None:
    keys = place.keys(place.jwt("kubernetes", place.token()))
    keys.login()
    place.service.call("POST", f"sys/leases/revoke-prefix/auth/{place.mounts['kubernetes']}")
    place.reviewer.broken = 503
    try:
        with pytest.raises(KeyAccessDenied):
            keys.check(place.recipient, CONTEXT)
    finally:
        place.reviewer.broken = 0


def test_a_token_that_ended_early_is_replaced_without_a_word(place: Place) -> None:
    keys = place.keys(place.jwt("jwt", place.token()))
    keys.login()
    place.service.call("POST", f"sys/leases/revoke-prefix/auth/{place.mounts['jwt']}")
    keys.check(place.recipient, CONTEXT)


def test_the_credential_is_read_anew_at_each_login(place: Place) -> None:
    tokens = [place.token(seconds=-120), place.token()]
    auth = place.jwt("jwt", "")
    keys = place.keys(replace(auth, read=lambda: Secret(tokens.pop(0).encode())))
    keys.login()
    assert tokens == []


def test_a_login_counts_for_five_minutes_at_most_however_long_its_token_lives(place: Place) -> None:
    mount, role_id, secret_id = place.approle()
    place.service.call(
        "POST", f"auth/{mount}/role/agent", {"token_policies": ROLE, "token_ttl": 86400}
    )
    auth = AppRoleAuth(role_id=role_id, mount=mount, read=lambda: Secret(secret_id.encode()))
    keys = place.keys(auth)
    assert keys.token_expires is None
    before = datetime.now(UTC)
    keys.login()
    after = datetime.now(UTC)
    assert keys.token_expires is not None
    assert (keys.token_expires - before).total_seconds() >= 290
    assert (keys.token_expires - after).total_seconds() <= 300


@pytest.mark.parametrize(
    "answer",
    [
        b'{"auth":null}',
        b'{"auth":{"client_token":7,"lease_duration":1}}',
        b'{"auth":{"client_token":"a\\nb","lease_duration":1}}',
        b'{"auth":{"client_token":"","lease_duration":1}}',
        b'{"auth":{"client_token":"a","lease_duration":"1"}}',
        b'{"auth":{"client_token":"a","lease_duration":true}}',
    ],
)
def test_a_login_that_brings_no_token_breaks_the_protocol(
    place: Place, proxy: FaultProxy, answer: bytes
) -> None:
    proxy.always = faults.status(200, answer)
    keys = place.keys(place.jwt("jwt", place.token()), address=proxy.address)
    with pytest.raises(KeyServiceProtocolError):
        keys.login()
    assert len(proxy.asked) == 1


@pytest.mark.parametrize("code", [400, 403])
def test_a_login_that_somebody_else_refuses_says_nothing(
    place: Place, proxy: FaultProxy, code: int
) -> None:
    proxy.always = faults.status(code, b"<html>no</html>")
    keys = place.keys(place.jwt("jwt", place.token()), address=proxy.address)
    with pytest.raises(KeyServiceUnavailable):
        keys.login()


def test_a_refused_login_is_tried_exactly_once_more(place: Place, proxy: FaultProxy) -> None:
    auth = place.jwt("jwt", place.token(seconds=-120))
    keys = place.keys(auth, address=proxy.address)
    with pytest.raises(KeyAccessDenied):
        keys.unwrap(place.recipient, CONTEXT)
    assert len(proxy.asked) == 2
