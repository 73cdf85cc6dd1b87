"""docs/operations.md from install to uninstall, typed as it stands there; the session's last test.

Only what is a site's own is another's here: the key service's address, its CA, and the signer.
"""

from pathlib import Path
from typing import Any, Final

import pytest

from modelseal.contract import GROUP
from modelseal.keys.policy_text import policy_name
from support.images import Images
from support.kind_asking import answers_right
from support.kind_operator import NAMESPACE, RELEASE, as_released, uninstall
from support.kind_place import Place
from support.kind_typing import ROOT, Typist, blocks, document, inline
from support.kind_volume import CARRIER_UID
from support.kube import Kube
from support.models import magika_onnx

pytestmark = [pytest.mark.kind, pytest.mark.timeout(900)]
EXAMPLE: Final = "https://vault.example.org:8200"
CRDS: Final = ("clusterkeyproviders", "encryptedmodels", "keyproviders")
KINDS: Final = (
    "clusterroles,clusterrolebindings,validatingadmissionpolicies,"
    "validatingadmissionpolicybindings,customresourcedefinitions"
)


@pytest.fixture
def vision(places: Any) -> Place:
    """Return a team's namespace with an account and a volume; the session's release is gone."""
    place: Place = places.make("vision", mount="transit")
    place.prepare()
    uninstall(place.kube)
    return place


@pytest.fixture
def page(vision: Place) -> str:
    """Return the page with the address of this site's key service."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    return text.replace(EXAMPLE, vision.address)


@pytest.fixture
def typist(vision: Place, tmp_path: Path) -> Typist:
    folder = tmp_path / "home"
    folder.mkdir()
    return Typist(folder=folder, kube=vision.kube.at("default"), bao=vision.bao)


def test_the_operations_page_works_as_typed_and_uninstalling_leaves_nothing_stuck(
    vision: Place, page: str, typist: Typist, images: Images
) -> None:
    install(typist, page, as_released(vision.cluster, images))
    let_the_key_service_review(typist, page, vision)
    serve(typist, page, vision)
    for command in "".join(blocks(page, "Trouble")).splitlines():
        assert typist.types(command)
    rotate(typist, page, vision)
    for command in blocks(page, "Upgrade"):
        typist.types(command)
    uninstall_as_typed(typist, page, vision)
    assert answers_right(vision), "no model is lost"
    remove(typist, page, vision)


def install(typist: Typist, page: str, more: str) -> None:
    """Install and let the chart's own test pass at once; `more` is what a site's registry needs."""
    commands = blocks(page, "Install")[0].splitlines(keepends=True)
    assert commands[0].startswith("helm install ")
    said = typist.types(commands[0].rstrip() + more + "\n" + "".join(commands[1:]))
    assert "Succeeded" in said


def let_the_key_service_review(typist: Typist, page: str, place: Place) -> None:
    """Turn Kubernetes auth on anew with a reviewer's token, as for a server outside the cluster."""
    system = place.bao.kube
    root = system.get("configmap", "kube-root-ca.crt")["data"]["ca.crt"]
    (typist.folder / "cluster-ca.pem").write_text(root)
    (typist.folder / "reviewer.jwt").write_text(system.run("create", "token", "openbao").strip())
    first, policies = blocks(page, "Key service")
    typist.types("bao auth disable kubernetes")
    typist.types(first)
    typist.types(typist.types(policies))


def serve(typist: Typist, page: str, place: Place) -> None:
    """Seal a model as whoever vouches for it, apply the page's two resources, and ask."""
    (typist.folder / "model.onnx").symlink_to(magika_onnx())
    words = f"--model {place.model} --version 1 --key {place.key} --sign vault:transit/release"
    who = token(place, "sealer", "signer")
    typist.types(f"modelseal seal model.onnx -o filetype.sealed {words}", who)
    place.put(typist.folder / "filetype.sealed", "filetype/1")
    provider, model = blocks(page, "First model", "yaml")
    trusted = {"vault": {"caBundle": place.bao.ca_bundle}, "signers": [signer(place)]}
    place.kube.apply(document(provider, **trusted), document(model))
    said = typist.types(blocks(page, "First model")[0])
    assert '"datatype":"INT32"' in said
    assert answers_right(place)


def rotate(typist: Typist, page: str, place: Place) -> None:
    """Rotate the key, renew the seal on its claim, and forbid the old version."""
    typist.types(inline(page, "bao write -f transit/keys/vision_filetype/rotate"))
    command = f"{blocks(page, 'Rotation')[0].rstrip()} --run-as-user {CARRIER_UID}"
    assert "rewrapped (v1 to v2)" in typist.types(command, token(place, "rewrapper"))
    typist.types(inline(page, "bao write transit/keys/vision_filetype/config"))


def uninstall_as_typed(typist: Typist, page: str, place: Place) -> None:
    """Uninstall; the CRDs stay, and nothing else."""
    typist.types(blocks(page, "Uninstall")[0])
    system = place.kube.at(NAMESPACE)
    system.until("its pods are gone", lambda: not system.all("pods"))
    assert names(system, "deployments,services,networkpolicies,poddisruptionbudgets") == set()
    assert left_in_the_cluster(place.kube) == {f"{each}.{GROUP}" for each in CRDS}


def remove(typist: Typist, page: str, place: Place) -> None:
    """Delete the models' CRD, which deletes them and all that was made for them, and the rest."""
    typist.types(inline(page, "kubectl delete crd "))
    place.kube.until("no child of a model is left", lambda: children(place) == set())
    place.kube.run("delete", "crd", "--ignore-not-found", *(f"{each}.{GROUP}" for each in CRDS))
    assert left_in_the_cluster(place.kube) == set()
    place.kube.run("delete", "namespace", place.namespace, "--timeout=240s", seconds=250)


def token(place: Place, *roles: str) -> str:
    """Return a token of the key service with the policies that the page's command printed."""
    return place.bao.keys.token(*(policy_name(place.model, role) for role in roles))


def signer(place: Place) -> str:
    """Return the key service's signing key as providers pin it."""
    (key,) = place.bao.keys.call("GET", "transit/keys/release")["data"]["keys"].values()
    return f"ed25519:{key['public_key']}"


def children(place: Place) -> set[str]:
    """Return the names of what the operator made in the place."""
    kinds = "deployments,services,networkpolicies,configmaps,pods"
    found = place.kube.all(kinds, f"{GROUP}/model=filetype")
    return {each["metadata"]["name"] for each in found}


def left_in_the_cluster(kube: Kube) -> set[str]:
    """Return the names of what the release made outside of any namespace."""
    found = {each["metadata"]["name"]: each["metadata"] for each in kube.all(KINDS)}
    release = "meta.helm.sh/release-name"
    return {
        name for name, meta in found.items() if meta.get("annotations", {}).get(release) == RELEASE
    }


def names(kube: Kube, kinds: str) -> set[str]:
    return {each["metadata"]["name"] for each in kube.all(kinds)}
