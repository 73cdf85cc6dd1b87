"""A key is rotated under served models: who was rewrapped goes on, who was forgotten is named."""

import shutil
from pathlib import Path
from typing import Final

import pytest

from modelseal.contract import SEAL_NAME, Reason
from modelseal.keys.policy_text import policy_name
from support.cli import environment, spawn
from support.kind_asking import answers_right
from support.kind_place import Place
from support.kind_volume import CARRIER, CARRIER_UID, CLAIM
from support.kind_withdrawals import CHECKED, shorten_tokens
from support.kube import condition

pytestmark = [pytest.mark.kind, pytest.mark.timeout(600)]
ENDS: Final = "2027-01-31T00:00:00Z"
SEEN: Final = 60
"""What logins, reports and the operator's round may take together."""


@pytest.fixture
def served(place: Place) -> Place:
    """Serve one model twice, from two copies of one seal, under a key that is going to be rotated.

    The provider announces that the key's first version will stop.
    """
    retirement = {"belowVersion": 2, "on": ENDS}
    place.provide(vault={"transit": {"mount": place.namespace, "retirement": retirement}})
    shorten_tokens(place)
    sealed = place.seal()
    place.put(sealed, "filetype/1")
    place.put(sealed, "filetype/left-behind")
    place.apply("filetype/1")
    place.apply("filetype/left-behind", name="forgotten")
    place.until_ready()
    place.until_ready("forgotten")
    return place


def test_a_rewrapped_model_outlives_its_old_key_version_and_a_forgotten_one_is_revoked(
    served: Place,
) -> None:
    pod, path = served.pod(), f"{served.namespace}/keys/{served.namespace}_filetype"
    keys = served.bao.keys
    for name in ("filetype", "forgotten"):
        warned = served.until_reason(Reason.KEY_VERSION_RETIRING, name, "KeyCurrent")
        assert f"stop on {ENDS}" in warned["message"]
        assert "modelseal rewrap" in warned["message"]
        assert served.resource(name)["status"]["model"]["keyVersion"] == 1
    keys.call("POST", f"{path}/rotate")
    demand_resources(served)
    rewrap_on_the_claim(served, "filetype/1")
    renewed = seal_on_the_claim(served, "filetype/1")
    served.kube.until("the new version is in use", lambda: is_current(served), SEEN)
    keys.call("POST", f"{path}/config", {"min_decryption_version": 2})
    served.until_reason(Reason.KEY_REVOKED, "forgotten", seconds=CHECKED + SEEN)
    assert served.never_served("forgotten")
    assert answers_right(served)
    assert served.pod() == pod, "nothing rolled"
    served.put(with_seal(served, renewed), "filetype/left-behind")
    served.until_ready("forgotten")


def demand_resources(place: Place) -> None:
    """Let the namespace refuse every pod that does not say what it needs."""
    hard = {"requests.cpu": "64", "requests.memory": "64Gi", "limits.memory": "64Gi"}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "counted"}}
    place.kube.apply({**quota, "spec": {"hard": hard}})
    place.kube.until("the quota counts", lambda: place.kube.get("quota", "counted").get("status"))


def rewrap_on_the_claim(place: Place, path: str) -> None:
    """Renew a seal where it lies, with the right of the rewrapper alone."""
    variables = {
        "KUBECONFIG": str(place.kube.kubeconfig),
        "VAULT_ADDR": place.bao.keys.address,
        "VAULT_CACERT": str(place.bao.keys.ca_file),
        "VAULT_TOKEN": place.bao.keys.token(policy_name(place.model, "rewrapper")),
    }
    where = f"claim:{place.namespace}/{CLAIM}/{path}"
    words: list[str | Path] = ["rewrap", where, "--model", place.model, "--key", place.key]
    words += ["--kubectl", place.kube.program, "--run-as-user", str(CARRIER_UID)]
    done = spawn(*words, "--json", env=environment(place.folder, **variables))
    assert done.code == 0, done.err
    assert done.json["counts"] == {"rewrapped": 1}
    assert done.json["models"][0]["sealed"] == where


def seal_on_the_claim(place: Place, path: str) -> str:
    """Read a seal off the claim."""
    read = "import sys; sys.stdout.write(open(sys.argv[1]).read())"
    return place.kube.python(CARRIER, read, f"/models/{path}/{SEAL_NAME}")


def with_seal(place: Place, seal: str) -> Path:
    """Return a copy of the sealed model with another seal."""
    folder = shutil.copytree(place.folder / "1", place.folder / "again")
    (folder / SEAL_NAME).write_text(seal)
    return Path(folder)


def is_current(place: Place) -> bool:
    """Tell whether the status names the key's new version, which is not retiring."""
    found = place.resource()
    current = condition(found, "KeyCurrent")["status"] == "True"
    return bool(current and found["status"]["model"]["keyVersion"] == 2)
