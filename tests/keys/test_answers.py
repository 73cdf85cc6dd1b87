"""Every row of the table in docs/keys.md that a real server can be brought to give."""

import base64
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from modelseal.cli.story.openbao import running
from modelseal.envelope import Recipient, kek_context
from modelseal.errors import (
    KeyAccessDenied,
    KeyNotFound,
    KeyRevoked,
    KeyServiceProtocolError,
    KeyServiceUnavailable,
    ModelsealError,
    WrappedKeyInvalid,
)
from modelseal.keys.transit import VaultTransitProvider
from modelseal.keys.vault import TRIES, VaultClient
from modelseal.secret import Secret
from support.openbao import KeyService

pytestmark = pytest.mark.keys
CONTEXT = kek_context("vision/filetype", secrets.token_bytes(32))
TOO_NEW = "vault:v9:" + base64.b64encode(bytes(60)).decode()
TOO_SHORT = "vault:v1:AAAA"


class Bench:
    """One transit key, a data key that it wrapped, and a client that tells how often it tried."""

    def __init__(self, service: KeyService) -> None:
        self.service, self.mount, self.tries = service, service.transit(), 1
        self.path = f"{self.mount}/keys/models"
        self.keys = self.provider()
        self.recipient = self.keys.wrap(Secret(bytes(32)), CONTEXT)

    def provider(self, token: str | None = None, mount: str = "") -> VaultTransitProvider:
        def pause(_: float) -> None:
            self.tries += 1

        client = VaultClient(self.service.settings(token), pause=pause)
        return VaultTransitProvider(client, mount=mount or self.mount, key="models")

    def give(self, wrapped: str) -> None:
        self.recipient = replace(self.recipient, wrapped=wrapped)

    def rotated(self, **config: int) -> None:
        for _ in range(3):
            self.service.call("POST", f"{self.path}/rotate")
        self.service.call("POST", f"{self.path}/config", config)


def trim(bench: Bench) -> None:
    bench.rotated(min_decryption_version=4, min_encryption_version=4)
    bench.service.call("POST", f"{bench.path}/trim", {"min_available_version": 4})


def delete(bench: Bench) -> None:
    bench.service.call("POST", f"{bench.path}/config", {"deletion_allowed": True})
    bench.service.call("DELETE", bench.path)


def expire(bench: Bench) -> None:
    token = bench.service.token("root-is-not-a-policy")
    bench.service.call("POST", "auth/token/revoke", {"token": token})
    bench.keys = bench.provider(token)


def remove_mount(bench: Bench) -> None:
    bench.service.call("DELETE", f"sys/mounts/{bench.mount}")


ROWS: dict[str, tuple[Callable[[Bench], object], type[ModelsealError]]] = {
    "altered": (
        lambda bench: bench.give("vault:v1:" + base64.b64encode(bytes(60)).decode()),
        WrappedKeyInvalid,
    ),
    "too short": (lambda bench: bench.give(TOO_SHORT), WrappedKeyInvalid),
    "too new": (lambda bench: bench.give(TOO_NEW), WrappedKeyInvalid),
    "no base64": (lambda bench: bench.give("vault:v1:A=A="), WrappedKeyInvalid),
    "too old": (lambda bench: bench.rotated(min_decryption_version=4), KeyRevoked),
    "trimmed": (trim, KeyRevoked),
    "soft-deleted": (
        lambda bench: bench.service.call("DELETE", f"{bench.path}/soft-delete"),
        KeyRevoked,
    ),
    "deleted": (delete, KeyNotFound),
    "token ended": (expire, KeyAccessDenied),
    "no mount": (remove_mount, KeyNotFound),
}


@pytest.mark.negative(12)
@pytest.mark.negative(15)
@pytest.mark.negative(16)
@pytest.mark.parametrize("row", ROWS)
def test_an_answer_becomes_its_own_error_without_further_tries(
    key_service: KeyService, row: str
) -> None:
    bench = Bench(key_service)
    prepare, kind = ROWS[row]
    prepare(bench)
    with pytest.raises(kind) as caught:
        bench.keys.unwrap(bench.recipient, CONTEXT)
    assert type(caught.value) is kind
    assert bench.mount not in str(caught.value)
    assert bench.tries == 1
    with pytest.raises(kind):
        bench.keys.check(bench.recipient, CONTEXT)


def test_a_version_that_may_decrypt_again_opens_again(key_service: KeyService) -> None:
    bench = Bench(key_service)
    bench.rotated(min_decryption_version=4)
    with pytest.raises(KeyRevoked):
        bench.keys.unwrap(bench.recipient, CONTEXT)
    bench.rotated(min_decryption_version=1)
    bench.keys.unwrap(bench.recipient, CONTEXT)


def test_a_key_of_another_type_is_a_fault_of_the_setup_and_no_refusal(
    key_service: KeyService,
) -> None:
    bench = Bench(key_service)
    mount = key_service.name("transit")
    key_service.call("POST", f"sys/mounts/{mount}", {"type": "transit"})
    key_service.call("POST", f"{mount}/keys/models", {"type": "ed25519"})
    with pytest.raises(KeyServiceProtocolError):
        bench.provider(mount=mount).wrap(Secret(bytes(32)), CONTEXT)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyService]:
    """Start a server of its own, because it is going to be sealed."""
    folder = tmp_path_factory.mktemp("openbao-sealed")
    with running(folder) as server:
        yield KeyService(server=server, folder=folder)


@pytest.mark.negative(18)
def test_a_sealed_server_is_unavailable_and_refuses_nothing(other: KeyService) -> None:
    bench = Bench(other)
    other.call("POST", "sys/seal", {})
    for deed in (bench.keys.unwrap, bench.keys.check):
        bench.tries = 1
        with pytest.raises(KeyServiceUnavailable):
            deed(bench.recipient, CONTEXT)
        assert bench.tries == TRIES


def test_the_recipient_of_another_key_is_not_this_providers(key_service: KeyService) -> None:
    bench = Bench(key_service)
    for kind, key in (
        ("vault-kv", bench.recipient.key),
        ("vault-transit", f"x{bench.mount}/models"),
    ):
        assert not bench.keys.matches(Recipient(kind=kind, key=key, wrapped="vault:v1:AAAA"))
