"""What a key service cannot be asked to do wrong, done by a proxy in front of a real one."""

import base64
import secrets
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelseal.envelope import Recipient, kek_context
from modelseal.errors import (
    KeyAccessDenied,
    KeyNotFound,
    KeyServiceBusy,
    KeyServiceError,
    KeyServiceProtocolError,
    KeyServiceUnavailable,
    KeyServiceUntrusted,
    ModelsealError,
    SettingsError,
)
from modelseal.keys import VaultSettings
from modelseal.keys.transit import VaultTransitProvider
from modelseal.keys.vault import TRIES, VaultClient
from modelseal.keys.wire import MAX_ANSWER, Patience
from modelseal.secret import Secret
from support import certificates
from support import fault_proxy as faults
from support.fault_proxy import Fault, FaultProxy, proxying
from support.openbao import KeyService

pytestmark = pytest.mark.keys
CONTEXT = kek_context("vision/filetype", secrets.token_bytes(32))
DEK = secrets.token_bytes(32)
MARK = "body-that-must-not-be-shown"


class Bench:
    """A provider behind the proxy, with a data key that was wrapped before anything went wrong."""

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        self.mount = proxy.service.transit()
        self.pauses: list[float] = []
        self.keys = self.provider()
        self.recipient = self.keys.wrap(Secret(DEK), CONTEXT)
        self.pauses.clear()
        proxy.asked.clear()

    def provider(self, **changes: Any) -> VaultTransitProvider:
        changes = {"address": self.proxy.address} | changes
        settings = replace(self.proxy.service.settings(), **changes)
        client = VaultClient(
            settings,
            pause=self.pauses.append,
            patience=Patience(connect=3.0, read=1.0, answer=1.5),
        )
        return VaultTransitProvider(client, mount=self.mount, key="models")

    def unwrap(self) -> bytes:
        with self.keys.unwrap(self.recipient, CONTEXT) as dek:
            return bytes(dek.buffer)

    def fails(self, kind: type[ModelsealError]) -> ModelsealError:
        with pytest.raises(kind) as caught:
            self.unwrap()
        assert type(caught.value) is kind
        assert MARK not in repr(caught.value)
        assert self.proxy.address not in str(caught.value)
        return caught.value


@pytest.fixture
def bench(proxy: FaultProxy) -> Bench:
    return Bench(proxy)


STUMBLES: list[Any] = [
    pytest.param(faults.status(408), id="408"),
    pytest.param(faults.status(412), id="412"),
    pytest.param(faults.status(429), id="429"),
    pytest.param(faults.status(472), id="472"),
    pytest.param(faults.status(473), id="473"),
    pytest.param(faults.status(500), id="500"),
    pytest.param(faults.status(502, b"<html>bad gateway</html>"), id="502"),
    pytest.param(faults.status(503), id="503"),
    pytest.param(faults.status(504, b""), id="504"),
    pytest.param(faults.reset_in_body, id="reset in the body"),
    pytest.param(faults.cut_in_body, id="end in the body"),
    pytest.param(faults.hang, id="hang"),
    pytest.param(faults.trickle, id="trickle"),
]


@pytest.mark.negative(18)
@pytest.mark.parametrize("fault", STUMBLES)
def test_a_service_that_stumbles_once_is_asked_again(bench: Bench, fault: Fault) -> None:
    bench.proxy.faults.append(fault)
    assert bench.unwrap() == DEK
    assert len(bench.proxy.asked) == 2
    assert len(bench.pauses) == 1


@pytest.mark.negative(18)
@pytest.mark.parametrize("fault", STUMBLES)
def test_a_service_that_goes_on_stumbling_is_unavailable_after_bounded_tries(
    bench: Bench, fault: Fault, request: pytest.FixtureRequest
) -> None:
    bench.proxy.always = fault
    busy = request.node.callspec.id == "429"
    bench.fails(KeyServiceBusy if busy else KeyServiceUnavailable)
    assert len(bench.proxy.asked) == TRIES
    assert all(0.1 <= pause <= 1.0 for pause in bench.pauses)
    assert len(bench.pauses) == TRIES - 1


def test_a_service_that_is_busy_is_asked_for_as_long_as_the_caller_has_patience(
    bench: Bench,
) -> None:
    bench.keys = bench.provider(busy_seconds=20.0)
    bench.proxy.faults += [faults.status(429, Retry_After="2")] * (TRIES + 5)
    assert bench.unwrap() == DEK
    assert bench.pauses == [2.0] * (TRIES + 5)
    bench.pauses.clear()
    bench.proxy.always = faults.status(429, Retry_After="2")
    bench.fails(KeyServiceBusy)
    assert len(bench.pauses) == 10 + TRIES - 1


@pytest.mark.parametrize(
    ("said", "least", "most"),
    [("2", 2.0, 2.0), ("3600", 5.0, 5.0), ("soon", 0.1, 0.2), ("\xb2", 0.1, 0.2), ("-1", 0.1, 0.2)],
)
def test_retry_after_is_honoured_within_a_bound(
    bench: Bench, said: str, least: float, most: float
) -> None:
    bench.proxy.faults.append(faults.status(429, Retry_After=said))
    assert bench.unwrap() == DEK
    assert least <= bench.pauses[0] <= most


def test_a_service_that_is_not_there_is_unavailable_after_bounded_tries(bench: Bench) -> None:
    bench.keys = bench.provider()
    with proxying(bench.proxy.service) as gone:
        settings = replace(gone.service.settings(), address=gone.address)
    client = VaultClient(settings, pause=bench.pauses.append)
    bench.keys = VaultTransitProvider(client, mount=bench.mount, key="models")
    bench.fails(KeyServiceUnavailable)
    assert len(bench.pauses) == TRIES - 1


def test_all_questions_go_through_one_connection(bench: Bench) -> None:
    """A handshake costs more than a question: rewrapping many models would take twice as long."""
    clients: list[Any] = []

    def noted(handler: faults.Handler) -> None:
        clients.append(handler.client_address)
        handler.answer(*handler.forwarded())

    bench.proxy.always = noted
    for _ in range(3):
        assert bench.unwrap() == DEK
    assert len(clients) == 3
    assert len(set(clients)) == 1


def test_a_kept_connection_that_the_server_ended_costs_no_try(bench: Bench) -> None:
    def last(handler: faults.Handler) -> None:
        handler.answer(*handler.forwarded())
        handler.connection.shutdown(socket.SHUT_RDWR)
        ended.set()

    ended = threading.Event()
    bench.proxy.faults.append(last)
    assert bench.unwrap() == DEK
    assert ended.wait(10)
    assert bench.unwrap() == DEK
    assert bench.pauses == []


@pytest.mark.parametrize("code", [302, 307])
def test_the_body_of_a_redirect_is_not_read_without_bound(bench: Bench, code: int) -> None:
    bench.proxy.always = faults.endless_with(code, Location="https://127.0.0.1:1/")
    error = bench.fails(KeyServiceProtocolError)
    assert "too long" in error.message


def wrong_key(length: int) -> Fault:
    text = base64.b64encode(bytes(length)).decode()
    return faults.altered(lambda answer: answer["data"].update(plaintext=text))


@pytest.mark.negative(19)
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(faults.status(200, f"<html>{MARK}</html>".encode()), id="HTML"),
        pytest.param(faults.status(200, b""), id="empty"),
        pytest.param(faults.status(200, b"[]"), id="a list"),
        pytest.param(faults.status(200, b"[" * 100_000), id="deep"),
        pytest.param(faults.status(200, b'{"data":{}} <html>'), id="extra HTML"),
        pytest.param(faults.status(204), id="no content"),
        pytest.param(faults.altered(lambda answer: answer.pop("data")), id="no data"),
        pytest.param(faults.altered(lambda answer: answer["data"].clear()), id="no key"),
        pytest.param(wrong_key(31), id="31 bytes"),
        pytest.param(wrong_key(33), id="33 bytes"),
        pytest.param(wrong_key(0), id="0 bytes"),
        pytest.param(
            faults.altered(lambda answer: answer["data"].update(plaintext=f"!{MARK}!")),
            id="no base64",
        ),
        pytest.param(
            faults.altered(lambda answer: answer["data"].update(plaintext=f"\u00e9{MARK}")),
            id="no ASCII",
        ),
        pytest.param(
            faults.altered(lambda answer: answer["data"].update(plaintext=[MARK])), id="no text"
        ),
        pytest.param(faults.status(200, b"{" + b" " * (1 << 20) + b"}"), id="too long"),
        pytest.param(faults.endless, id="endless"),
    ],
)
def test_a_good_status_with_a_wrong_body_breaks_the_protocol(bench: Bench, fault: Fault) -> None:
    bench.proxy.faults.append(fault)
    bench.fails(KeyServiceProtocolError)
    assert len(bench.proxy.asked) == 1


@pytest.mark.parametrize("wrapped", ["", "vault:v1:", "garbage", "vault:v1:" + "A" * 5000, 7])
def test_a_wrapped_key_that_is_none_is_not_stored(bench: Bench, wrapped: object) -> None:
    bench.proxy.faults.append(
        faults.altered(lambda answer: answer["data"].update(ciphertext=wrapped))
    )
    with pytest.raises(KeyServiceProtocolError):
        bench.keys.rewrap(bench.recipient, CONTEXT)


@pytest.mark.negative(20)
@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_refused_and_the_token_goes_nowhere_else(
    key_service: KeyService, bench: Bench, code: int
) -> None:
    body = b"x" * (MAX_ANSWER // 2)
    with proxying(key_service) as elsewhere:
        bench.proxy.always = faults.status(code, body, Location=f"{elsewhere.address}/v1/x")
        error = bench.fails(KeyServiceProtocolError)
        assert elsewhere.asked == []
    assert len(bench.proxy.asked) == 1
    assert "redirect" in error.message


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 418])
@pytest.mark.parametrize(
    "body",
    [b"<html>403 Forbidden</html>", b"", b'{"message":"forbidden"}', b'{"errors":"no list"}'],
    ids=["HTML", "empty", "other JSON", "no list"],
)
def test_a_refusal_that_is_not_the_services_own_says_nothing_about_rights(
    bench: Bench, code: int, body: bytes
) -> None:
    bench.proxy.always = faults.status(code, body)
    bench.fails(KeyServiceUnavailable)


def test_a_refusal_is_believed_only_when_it_is_repeated_after_a_fresh_login(bench: Bench) -> None:
    denied = faults.status(403, b'{"errors":["permission denied"]}')
    bench.proxy.faults.append(denied)
    assert bench.unwrap() == DEK
    bench.proxy.faults += [denied, denied]
    bench.fails(KeyAccessDenied)
    assert len(bench.proxy.asked) == 4


def test_the_services_texts_are_compared_and_never_repeated(bench: Bench) -> None:
    text = f'{{"errors":["encryption key not found {MARK}"]}}'.encode()
    bench.proxy.always = faults.status(400, text)
    bench.fails(KeyNotFound)


def test_a_request_that_it_does_not_understand_breaks_the_protocol(bench: Bench) -> None:
    bench.proxy.always = faults.status(400, f'{{"errors":["{MARK}"]}}'.encode())
    bench.fails(KeyServiceProtocolError)


@pytest.mark.negative(21)
def test_an_unknown_ca_is_untrusted_at_once(bench: Bench, tmp_path: Path) -> None:
    other = certificates.make(tmp_path).ca
    for untrusting in ({"ca_file": other}, {"ca_file": None}):
        bench.keys = bench.provider(**untrusting)
        bench.fails(KeyServiceUntrusted)
    assert bench.proxy.asked == []
    assert bench.pauses == []


@pytest.mark.negative(21)
def test_a_certificate_for_another_host_is_untrusted(bench: Bench) -> None:
    bench.keys = bench.provider(address=bench.proxy.address.replace("127.0.0.1", "127.0.0.2"))
    with pytest.raises(KeyServiceUntrusted):
        bench.unwrap()
    assert bench.proxy.asked == []


def test_nothing_of_the_environment_reaches_the_key_service(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:1")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password netrc-password\n")
    (tmp_path / ".vault-token").write_text("ambient-token")
    other = certificates.make(tmp_path).ca
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "VAULT_CACERT", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(other))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("VAULT_TOKEN", "ambient-token")
    monkeypatch.setenv("VAULT_ADDR", "https://127.0.0.1:1")
    monkeypatch.setenv("VAULT_NAMESPACE", "ambient-namespace")
    bench.keys = bench.provider()
    assert bench.unwrap() == DEK
    for _, _, headers in bench.proxy.asked:
        assert "Authorization" not in headers
        assert "ambient" not in repr(headers)


def test_the_keys_of_a_connection_are_written_nowhere_whatever_the_environment_says(
    key_service: KeyService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With them, whoever recorded the network traffic reads token and data key in it."""
    settings, mount = key_service.settings(), key_service.transit()
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    keys = VaultTransitProvider(VaultClient(settings), mount=mount, key="models")
    keys.wrap(Secret(DEK), CONTEXT)
    assert list(tmp_path.iterdir()) == []


def test_the_namespace_is_sent_where_one_is_configured(bench: Bench) -> None:
    bench.keys = bench.provider(namespace="team-a")
    bench.proxy.always = faults.status(403, b'{"errors":["permission denied"]}')
    bench.fails(KeyAccessDenied)
    assert all(headers["X-Vault-Namespace"] == "team-a" for _, _, headers in bench.proxy.asked)


@pytest.mark.parametrize(
    "address",
    [
        "vault:8200",
        "ftp://vault",
        "https://",
        "https://vault:99999",
        "https://user:canary-password@vault",
        "http://vault.example:8200",
        "http://10.0.0.1",
    ],
)
def test_an_address_that_makes_no_sense_or_shows_the_token_is_refused(
    key_service: KeyService, address: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        VaultClient(replace(key_service.settings(), address=address))
    assert "canary-password" not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:8200", "http://[::1]:8200", "http://localhost"]
)
def test_plain_http_is_for_this_machine_only(key_service: KeyService, address: str) -> None:
    VaultClient(replace(key_service.settings(), address=address))


def test_a_ca_file_that_is_missing_is_a_mistake_in_the_settings(
    key_service: KeyService, tmp_path: Path
) -> None:
    settings: VaultSettings = replace(key_service.settings(), ca_file=tmp_path / "none.pem")
    with pytest.raises(SettingsError):
        VaultClient(settings)


@pytest.mark.parametrize("credential", ["", " \n", "two\nlines", "esc\x1b[0m", "\xe9"])
def test_a_credential_that_could_change_the_request_is_refused_unsent(
    bench: Bench, credential: str
) -> None:
    raw = credential.encode("latin-1")
    auth = replace(bench.proxy.service.settings().auth, read=lambda: Secret(raw))
    bench.keys = bench.provider(auth=auth)
    with pytest.raises(SettingsError) as caught:
        bench.unwrap()
    assert "lines" not in str(caught.value)
    assert bench.proxy.asked == []


def test_every_failure_of_the_way_is_no_refusal(bench: Bench) -> None:
    def lease_ends(fault: Fault) -> bool:
        bench.proxy.always = fault
        try:
            bench.keys.check(bench.recipient, CONTEXT)
        except ModelsealError as error:
            return not isinstance(error, KeyServiceError)
        raise AssertionError("the check passed")

    ways: list[Callable[..., None]] = [each.values[0] for each in STUMBLES]
    assert not any(lease_ends(way) for way in ways)


def test_another_recipients_key_is_never_asked_for(bench: Bench) -> None:
    other = Recipient(kind="vault-transit", key=f"{bench.mount}/other", wrapped="vault:v1:AAAA")
    assert not bench.keys.matches(other)
