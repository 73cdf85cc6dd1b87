"""What `modelseal policy` prints, pasted into a real server: each role can do its work and no more.

The text is the command's own output; nothing here repeats a policy.
"""

import base64
import secrets
from collections.abc import Callable
from typing import Any

import pytest

from modelseal.envelope import kek_context, parse_signer
from modelseal.errors import KeyAccessDenied
from modelseal.keys import open_provider, open_signer
from modelseal.keys.policy_text import policy_name
from modelseal.secret import Secret
from support.cli import run
from support.openbao import KeyService

pytestmark = pytest.mark.keys
MODEL = "vision/filetype"
NEAR = (
    "vision/filetypes",
    "vision/filetype-2",
    "vision/filetyp",
    "vision/filetypf",
    "vision/other",
    "visio/filetype",
    "xvision/filetype",
    "vision/filetype.2",
)
DEK = secrets.token_bytes(32)
DENIED = 403


def encoded(model: str = MODEL) -> str:
    """Return a KEK context of the model as it goes over the wire."""
    return base64.b64encode(kek_context(model, secrets.token_bytes(32))).decode()


class Place:
    """A server that an administrator prepared by pasting, and a token for each role."""

    def __init__(self, service: KeyService) -> None:
        self.service = service
        self.mount, self.kv = service.name("transit"), service.name("kv")
        transit = ("--key", f"vault:{self.mount}/models")
        signing = ("--signing-key", f"vault:{self.mount}/release")
        self.paste("policy", "--model", MODEL, *transit, *signing)
        self.tokens = {role: service.token(policy_name(MODEL, role)) for role in ROLES}
        self.paste("policy", "--model", KV_MODEL, "--key", f"vault-kv:{self.kv}/models/kek#key")
        for role in KV_ROLES:
            self.tokens[f"kv-{role}"] = service.token(policy_name(KV_MODEL, role))

    def paste(self, *words: str) -> None:
        result = run(*words)
        assert result.code == 0, result.err
        self.service.paste(result.out)

    def path(self, path: str) -> str:
        return path.format(transit=self.mount, kv=self.kv)

    def ask(self, role: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        return self.service.ask(self.tokens[role], method, self.path(path), body)

    def wrapped(self, context: str) -> str:
        """Return a data key that root wrapped under some context."""
        body = {"plaintext": base64.b64encode(DEK).decode(), "context": context}
        answer = self.service.call("POST", f"{self.mount}/encrypt/models", body)
        return str(answer["data"]["ciphertext"])


ROLES = ("sealer", "agent", "rewrapper", "admin", "signer")
KV_MODEL, KV_ROLES = "vision/stored", ("agent", "admin")


@pytest.fixture(scope="module")
def place(key_service: KeyService) -> Place:
    return Place(key_service)


OWN = encoded()
Body = Callable[[Place], Any]
DEEDS: dict[str, tuple[str, str, Body]] = {
    "encrypt": (
        "POST",
        "{transit}/encrypt/models",
        lambda _: {"plaintext": "AAAA", "context": OWN},
    ),
    "decrypt": (
        "POST",
        "{transit}/decrypt/models",
        lambda place: {"ciphertext": place.wrapped(OWN), "context": OWN},
    ),
    "rewrap": (
        "POST",
        "{transit}/rewrap/models",
        lambda place: {"ciphertext": place.wrapped(OWN), "context": OWN},
    ),
    "data key": ("POST", "{transit}/datakey/plaintext/models", lambda _: {"context": OWN}),
    "wrapped data key": ("POST", "{transit}/datakey/wrapped/models", lambda _: {"context": OWN}),
    "read": ("GET", "{transit}/keys/models", lambda _: None),
    "rotate": ("POST", "{transit}/keys/models/rotate", lambda _: {}),
    "configure": ("POST", "{transit}/keys/models/config", lambda _: {"min_decryption_version": 1}),
    "make exportable": ("POST", "{transit}/keys/models/config", lambda _: {"exportable": True}),
    "allow backups": (
        "POST",
        "{transit}/keys/models/config",
        lambda _: {"min_decryption_version": 1, "allow_plaintext_backup": True},
    ),
    "export": ("GET", "{transit}/export/encryption-key/models", lambda _: None),
    "backup": ("GET", "{transit}/backup/models", lambda _: None),
    "delete": ("DELETE", "{transit}/keys/models", lambda _: None),
    "make": ("POST", "{transit}/keys/another", lambda _: {}),
    "make by encrypting": (
        "POST",
        "{transit}/encrypt/another",
        lambda _: {"plaintext": "AAAA", "context": OWN},
    ),
    "list": ("GET", "{transit}/keys?list=true", lambda _: None),
    "sign": ("POST", "{transit}/sign/release", lambda _: {"input": "AAAA"}),
    "sign with the model's key": ("POST", "{transit}/sign/models", lambda _: {"input": "AAAA"}),
    "read the signing key": ("GET", "{transit}/keys/release", lambda _: None),
    "rotate the signing key": ("POST", "{transit}/keys/release/rotate", lambda _: {}),
    "ask for rights": (
        "POST",
        "sys/capabilities-self",
        lambda place: {"paths": [f"{place.mount}/decrypt/models"]},
    ),
    "write a policy": (
        "PUT",
        f"sys/policies/acl/{policy_name(MODEL, 'agent')}",
        lambda _: {"policy": ""},
    ),
    "make a token": ("POST", "auth/token/create", lambda _: {}),
    "renew the token": ("POST", "auth/token/renew-self", lambda _: {}),
    "read the KEK": ("GET", "{kv}/data/models/kek", lambda _: None),
    "replace the KEK": (
        "POST",
        "{kv}/data/models/kek",
        lambda _: {"data": {"key": base64.b64encode(DEK).decode()}},
    ),
    "read the KEK's versions": ("GET", "{kv}/metadata/models/kek", lambda _: None),
    "list KEKs": ("GET", "{kv}/metadata/models?list=true", lambda _: None),
    "delete every version": ("DELETE", "{kv}/metadata/models/kek", lambda _: None),
    "delete a version": ("POST", "{kv}/delete/models/kek", lambda _: {"versions": [99]}),
    "destroy a version": ("POST", "{kv}/destroy/models/kek", lambda _: {"versions": [99]}),
    "read another secret": ("GET", "{kv}/data/models/kek2", lambda _: None),
}
MAY = {
    "sealer": {"encrypt"},
    "agent": {"decrypt", "rewrap", "ask for rights"},
    "rewrapper": {"rewrap", "ask for rights"},
    "admin": {"read", "rotate", "configure"},
    "signer": {"sign", "read the signing key"},
    "kv-agent": {"read the KEK"},
    "kv-admin": {
        "replace the KEK",
        "read the KEK's versions",
        "delete a version",
        "destroy a version",
    },
}


@pytest.mark.negative(17)
@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("role", MAY)
def test_a_role_can_do_its_work_and_nothing_else(place: Place, role: str, deed: str) -> None:
    method, path, body = DEEDS[deed]
    status, answer = place.ask(role, method, path, body(place))
    if deed in MAY[role]:
        assert status in (200, 204), answer
    else:
        assert status == DENIED, answer


@pytest.mark.negative(17)
@pytest.mark.parametrize("other", NEAR)
@pytest.mark.parametrize(
    ("role", "verb"),
    [("agent", "decrypt"), ("agent", "rewrap"), ("rewrapper", "rewrap"), ("sealer", "encrypt")],
)
def test_no_role_reaches_a_model_of_a_near_name(
    place: Place, role: str, verb: str, other: str
) -> None:
    context = encoded(other)
    text = {"plaintext": "AAAA"} if verb == "encrypt" else {"ciphertext": place.wrapped(context)}
    path = f"{{transit}}/{verb}/models"
    assert place.ask(role, "POST", path, {"context": context} | text)[0] == DENIED
    batch = {"batch_input": [{"context": context} | text]}
    assert place.ask(role, "POST", path, batch)[0] == DENIED


def theirs(place: Place) -> tuple[str, str]:
    """Return a neighbour's wrapped key and its context."""
    context = encoded("vision/other")
    return place.wrapped(context), context


BYPASSES: dict[str, Callable[[str, str], tuple[str, dict[str, Any]]]] = {
    "batch": lambda key, context: (
        "",
        {"batch_input": [{"ciphertext": key, "context": context}]},
    ),
    "batch beside an own request": lambda key, context: (
        "",
        {
            "ciphertext": key,
            "context": OWN,
            "batch_input": [{"ciphertext": key, "context": context}],
        },
    ),
    "batch in other letters": lambda key, context: (
        "",
        {
            "ciphertext": key,
            "context": OWN,
            "Batch_Input": [{"ciphertext": key, "context": context}],
        },
    ),
    "context in other letters": lambda key, context: (
        "",
        {"ciphertext": key, "context": OWN, "Context": context},
    ),
    "own context in other letters": lambda key, context: (
        "",
        {"ciphertext": key, "context": context, "Context": OWN},
    ),
    "list": lambda key, context: ("", {"ciphertext": key, "context": [OWN, context]}),
    "list of one": lambda key, context: ("", {"ciphertext": key, "context": [context]}),
    "none": lambda key, _: ("", {"ciphertext": key}),
    "null": lambda key, _: ("", {"ciphertext": key, "context": None}),
    "query": lambda key, context: (f"?context={context}", {"ciphertext": key}),
    "query beside an own one": lambda key, context: (
        f"?context={context}",
        {"ciphertext": key, "context": OWN},
    ),
    "line break": lambda key, context: (
        "",
        {"ciphertext": key, "context": f"{OWN[:8]}\n{context[8:]}"},
    ),
    "path up": lambda key, context: (
        "/../models",
        {"ciphertext": key, "context": context},
    ),
    "path end": lambda key, context: ("/", {"ciphertext": key, "context": context}),
    "associated data": lambda key, context: (
        "",
        {"ciphertext": key, "context": OWN, "associated_data": context},
    ),
}


@pytest.mark.negative(17)
@pytest.mark.parametrize("bypass", BYPASSES)
@pytest.mark.parametrize("verb", ["decrypt", "rewrap"])
def test_no_form_of_request_opens_a_neighbours_key(place: Place, verb: str, bypass: str) -> None:
    suffix, body = BYPASSES[bypass](*theirs(place))
    status, answer = place.ask("agent", "POST", f"{{transit}}/{verb}/models{suffix}", body)
    assert status in (307, 400, DENIED), answer
    assert "data" not in answer


def test_the_sealer_wraps_what_the_agent_opens_and_the_rewrapper_renews(place: Place) -> None:
    uri, context = f"vault:{place.mount}/models", kek_context(MODEL, secrets.token_bytes(32))
    sealer, agent, rewrapper = (
        open_provider(uri, vault=place.service.settings(place.tokens[role]))
        for role in ("sealer", "agent", "rewrapper")
    )
    recipient = sealer.wrap(Secret(DEK), context)
    place.ask("admin", "POST", "{transit}/keys/models/rotate", {})
    renewed = rewrapper.rewrap(recipient, context)
    assert (agent.describe(renewed).version or 0) > (agent.describe(recipient).version or 0)
    assert bytes(agent.unwrap(renewed, context).buffer) == DEK
    agent.check(renewed, context)
    for provider in (sealer, rewrapper):
        with pytest.raises(KeyAccessDenied):
            provider.unwrap(recipient, context)


def test_the_signer_signs(place: Place) -> None:
    settings = place.service.settings(place.tokens["signer"])
    signer = open_signer(f"vault:{place.mount}/release", vault=settings)
    assert parse_signer(signer.public).verifies(signer.sign(b"message"), b"message")


def test_the_kv_agent_wraps_and_opens_with_the_key_that_was_pasted(place: Place) -> None:
    settings = place.service.settings(place.tokens["kv-agent"])
    keys = open_provider(f"vault-kv:{place.kv}/models/kek#key", vault=settings)
    context = kek_context(KV_MODEL, secrets.token_bytes(32))
    recipient = keys.wrap(Secret(DEK), context)
    assert bytes(keys.unwrap(recipient, context).buffer) == DEK


def test_pasting_twice_changes_no_key(place: Place) -> None:
    context = encoded()
    wrapped = place.wrapped(context)
    printed = run("policy", "--model", MODEL, "--key", f"vault:{place.mount}/models").out
    place.service.paste(printed.replace("bao secrets enable", "true || bao secrets enable"))
    body = {"ciphertext": wrapped, "context": context}
    assert place.ask("agent", "POST", "{transit}/decrypt/models", body)[0] == 200


def test_a_policy_name_is_one_models_only() -> None:
    names = {policy_name(model, role) for model in (MODEL, *NEAR) for role in ROLES}
    assert len(names) == (1 + len(NEAR)) * len(ROLES)


def test_the_audit_log_is_told_to_show_the_context(place: Place) -> None:
    tuned = place.service.call("GET", f"sys/mounts/{place.mount}/tune")["data"]
    assert tuned["audit_non_hmac_request_keys"] == ["context"]
