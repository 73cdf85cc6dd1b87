"""Nobody gains through a model of ours what they could not do without one."""

import base64
import json
import subprocess
from typing import Any

import pytest

from support.kind_place import ACCOUNT, Place
from support.kind_workloads import collect_logins
from support.kube import Json, KubectlError, custom

pytestmark = [pytest.mark.kind, pytest.mark.timeout(600)]
JANE = "jane"
REFUSED = "you may not run pods as service account"


@pytest.fixture
def stolen(place: Place) -> str:
    """Return the token that a pod of a model sends to the server of its tenant's choice."""
    address, bundle = collect_logins(place)
    place.put(place.seal(), "filetype/1")
    place.provide("collector", vault={"address": address, "caBundle": bundle})
    place.apply(keyProviderRef={"name": "collector"})
    place.kube.until("a login was noted", lambda: place.kube.run("logs", "collector"))
    said = json.loads(place.kube.run("logs", "collector").splitlines()[0])
    assert said["path"] == "/v1/auth/kubernetes/login"
    return str(said["body"]["jwt"])


def test_a_token_from_a_tenants_own_provider_is_worthless_at_the_real_key_service(
    place: Place, stolen: str
) -> None:
    assert claims(stolen)["aud"] == [f"https://collector.{place.namespace}.svc"]
    assert log_in(place, stolen) in (400, 403)
    assert not authenticates(place, stolen)
    fitting = place.kube.run("create", "token", ACCOUNT, f"--audience={place.address}").strip()
    differs = {name for name, value in claims(fitting).items() if claims(stolen)[name] != value}
    assert "sub" not in differs
    assert log_in(place, fitting) == 200
    assert place.never_served()


def test_a_tenants_provider_cannot_ask_for_a_token_that_another_server_takes(place: Place) -> None:
    address = "https://collector.example.org"
    auth = {"role": "any", "audience": place.address}
    with pytest.raises(KubectlError, match=r"unknown field .*audience"):
        place.provide("borrowed", vault={"address": address, "auth": auth})


@pytest.fixture
def lender(place: Place) -> Place:
    """Let jane write EncryptedModels and nothing else."""
    for role in ("modelseal-view", "modelseal-edit"):
        place.kube.run(
            "create", "rolebinding", f"jane-{role}", f"--clusterrole={role}", "--user=jane"
        )
    place.provide()
    return place


def test_who_may_not_create_pods_gets_none_through_a_model(lender: Place) -> None:
    lender.kube.until("jane may", lambda: may(lender, "create", "encryptedmodels"))
    assert not may(lender, "create", "pods")
    refused = as_jane(lender, ACCOUNT)
    assert f"{REFUSED} {ACCOUNT}" in refused.stderr.decode()
    assert lender.resource() == {}
    assert lender.pods() == []


def test_who_may_use_one_account_gets_pods_of_that_account_alone(lender: Place) -> None:
    allow(lender, ["serviceaccounts"], ["use"], resourceNames=[ACCOUNT])
    lender.kube.until("jane may", lambda: as_jane(lender, ACCOUNT).returncode == 0)
    lender.kube.until("there is a pod", lender.pods)
    lender.kube.run("create", "serviceaccount", "other")
    for kind in ("filetype", "second"):
        assert f"{REFUSED} other" in as_jane(lender, "other", kind).stderr.decode()
    (pod,) = lender.pods()
    assert pod["spec"]["serviceAccountName"] == ACCOUNT


def test_who_may_create_pods_needs_no_other_right(lender: Place) -> None:
    allow(lender, ["pods"], ["create"])
    lender.kube.until("jane may", lambda: as_jane(lender, ACCOUNT).returncode == 0)
    lender.kube.until("there is a pod", lender.pods)


def log_in(place: Place, token: str) -> int:
    """Log in to the real key service with the role of the place's model."""
    body = {"role": place.policy, "jwt": token}
    status, _ = place.bao.keys.ask(None, "POST", "auth/kubernetes/login", body)
    return status


def authenticates(place: Place, token: str) -> bool:
    """Ask the API server whether it would take a token itself."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}
    asked = json.dumps({**review, "spec": {"token": token}})
    said = json.loads(place.kube.run("create", "-f", "-", "-o=json", given=asked))
    return bool(said["status"].get("authenticated", False))


def claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def as_jane(
    place: Place, account: str, name: str = "filetype"
) -> "subprocess.CompletedProcess[bytes]":
    """Apply a model as jane, under a service account."""
    made = custom("EncryptedModel", name, place.spec(serviceAccountName=account))
    return place.kube.try_run("apply", f"--as={JANE}", "-f", "-", given=json.dumps(made))


def may(place: Place, verb: str, resource: str) -> bool:
    asked = place.kube.try_run("auth", "can-i", verb, resource, f"--as={JANE}")
    return asked.stdout.strip() == b"yes"


def allow(place: Place, resources: list[str], verbs: list[str], **more: Any) -> None:
    """Give jane one more right in the place."""
    rule: Json = {"apiGroups": [""], "resources": resources, "verbs": verbs, **more}
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role"}
    place.kube.apply({**role, "metadata": {"name": "more"}, "rules": [rule]})
    place.kube.run("create", "rolebinding", "jane-more", "--role=more", f"--user={JANE}")
