"""What must not be served is not served, and the status says which of many things was wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest

from modelseal.contract import Reason
from support.kind_place import Place
from support.kube import condition

pytestmark = [pytest.mark.kind, pytest.mark.timeout(600)]


def wrong_role(place: Place) -> None:
    place.provide("no-role", role="somebody-elses")
    place.apply(name="wrong-role", keyProviderRef={"name": "no-role"})


def wrong_audience(place: Place) -> None:
    place.bao.keys.paste(
        f"bao write auth/kubernetes/role/{place.namespace}-other audience=https://other:8200 "
        f"bound_service_account_names='*' bound_service_account_namespaces={place.namespace} "
        f"token_policies={place.policy}"
    )
    place.provide("other-audience", role=f"{place.namespace}-other")
    place.apply(name="wrong-audience", keyProviderRef={"name": "other-audience"})


def wrong_account(place: Place) -> None:
    place.kube.run("create", "serviceaccount", "stranger")
    place.apply(name="wrong-account", serviceAccountName="stranger")


def wrong_signer(place: Place) -> None:
    place.new_signer("stranger")
    place.put(place.seal("stranger-signed", sign="stranger"), "filetype/stranger")
    place.apply("filetype/stranger", name="wrong-signer")


def tampered(place: Place) -> None:
    sealed = place.seal("tampered")
    payload = max((sealed / "p").iterdir(), key=lambda path: path.stat().st_size)
    flip(payload, payload.stat().st_size // 2)
    place.put(sealed, "filetype/tampered")
    place.apply("filetype/tampered", name="tampered")


def swapped(place: Place) -> None:
    other = f"{place.namespace}/other"
    place.write_policy(model=other)
    place.put(place.seal("other-model", model=other), "filetype/other")
    place.apply("filetype/other", name="swapped")


def older_than_pinned(place: Place) -> None:
    model = {"name": place.model, "minSequence": 2}
    place.apply(name="rolled-back", model=model)


def never_sealed(place: Place) -> None:
    plain = place.folder / "plain"
    plain.mkdir()
    (plain / "model.onnx").write_bytes(b"weights in the clear")
    place.put(plain, "filetype/plain")
    place.apply("filetype/plain", name="never-sealed")


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


ATTEMPTS: dict[str, tuple[Callable[[Place], None], Reason]] = {
    "wrong-role": (wrong_role, Reason.KEY_ACCESS_DENIED),
    "wrong-audience": (wrong_audience, Reason.KEY_ACCESS_DENIED),
    "wrong-account": (wrong_account, Reason.KEY_ACCESS_DENIED),
    "wrong-signer": (wrong_signer, Reason.SIGNATURE_INVALID),
    "tampered": (tampered, Reason.SEGMENT_INVALID),
    "swapped": (swapped, Reason.MODEL_NAME_MISMATCH),
    "rolled-back": (older_than_pinned, Reason.ROLLBACK_REJECTED),
    "never-sealed": (never_sealed, Reason.NOT_SEALED),
}


@pytest.fixture(scope="module")
def refusing(module_place: Place) -> Place:
    """Try everything at once, in one namespace, so that the refusals wait for each other."""
    module_place.provide()
    module_place.put(module_place.seal(), "filetype/1")
    for attempt, _ in ATTEMPTS.values():
        attempt(module_place)
    return module_place


@pytest.mark.parametrize("name", ATTEMPTS)
def test_an_attempt_ends_in_its_reason_and_never_in_a_running_server(
    refusing: Place, name: str
) -> None:
    said = refusing.until_reason(ATTEMPTS[name][1], name)
    assert said["message"]
    assert refusing.never_served(name)
    assert condition(refusing.resource(name), "Available")["status"] != "True"


def test_another_namespace_cannot_use_a_model_that_is_not_its_own(
    new_place: Callable[[], Place],
) -> None:
    owner, thief = new_place(), new_place()
    owner.provide()
    thief.put(owner.seal(), "stolen")
    borrowed = {"address": owner.address, "transit": {"mount": owner.namespace}}
    thief.provide(role=owner.policy, vault=borrowed, signers=[owner.signer])
    thief.apply("stolen", model={"name": owner.model})
    thief.until_reason(Reason.KEY_ACCESS_DENIED)
    assert thief.never_served()
