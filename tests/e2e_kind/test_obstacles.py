"""What stands in the way without anybody's ill will: each is one Reason, on a real kubelet."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from modelseal.contract import GROUP, Reason
from modelseal.engine._openvino import ov
from support.authority import Authority
from support.kind_asking import answers_right
from support.kind_place import Place
from support.kube import condition

pytestmark = [pytest.mark.kind, pytest.mark.timeout(600)]
SCARCE = {"queueSize": 1, "maxBodySize": "1Mi", "performanceHint": "Latency"}
UNKNOWN = """<net name="unknown" version="11"><layers>
<layer id="0" name="x" type="Parameter" version="opset1"><data shape="1,8" element_type="f32"/>
<output><port id="0" precision="FP32"><dim>1</dim><dim>8</dim></port></output></layer>
<layer id="1" name="y" type="NoSuchOperation" version="opset1">
<input><port id="0"><dim>1</dim><dim>8</dim></port></input>
<output><port id="1" precision="FP32"><dim>1</dim><dim>8</dim></port></output></layer>
<layer id="2" name="z" type="Result" version="opset1">
<input><port id="0"><dim>1</dim><dim>8</dim></port></input></layer></layers>
<edges><edge from-layer="0" from-port="0" to-layer="1" to-port="0"/>
<edge from-layer="1" from-port="1" to-layer="2" to-port="0"/></edges></net>
"""
NO_IMAGE = f"registry.invalid/server@sha256:{'0' * 64}"


def no_folder(place: Place) -> None:
    place.apply("filetype/later", name="no-folder")


def no_server(place: Place) -> None:
    source = {"http": {"url": f"http://nowhere.{place.namespace}.svc/filetype/1"}}
    place.apply(name="no-server", source=source)


def no_claim(place: Place) -> None:
    source = {"persistentVolumeClaim": {"claimName": "no-such-claim"}}
    place.apply(name="no-claim", source=source)


def no_image(place: Place) -> None:
    place.provide("files", delivery={"allowTmpfs": True, "serverImages": [NO_IMAGE]})
    place.apply(
        name="no-image",
        keyProviderRef={"name": "files"},
        delivery="Tmpfs",
        server={"image": NO_IMAGE},
    )


def other_ca(place: Place) -> None:
    place.provide("other-ca", vault={"caBundle": Authority("other").bundle})
    place.apply(name="other-ca", keyProviderRef={"name": "other-ca"})


def too_small(place: Place) -> None:
    place.apply(name="too-small", modelSize="1Mi")


def too_little(place: Place) -> None:
    """Serve weights that OpenVINO converts, and declare next to nothing for the result."""
    place.put(place.seal("heavy", source=heavy(place.folder)), "filetype/heavy")
    place.apply(
        "filetype/heavy", name="too-little", modelSize="200Mi", compiledSize="1Mi", serving=SCARCE
    )


def no_account(place: Place) -> None:
    place.apply(name="no-account", serviceAccountName="nobody")


def not_loadable(place: Place) -> None:
    """Serve what sealing takes for a model: only a load shows that nobody knows its operation."""
    path = place.folder / "unknown.xml"
    path.write_text(UNKNOWN)
    path.with_suffix(".bin").write_bytes(bytes(4))
    place.put(place.seal("unknown-operation", source=path), "filetype/unknown")
    place.apply("filetype/unknown", name="not-loadable")


def over_quota(place: Place) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "narrow"}}
    place.kube.apply({**quota, "spec": {"hard": {"limits.memory": "3Gi"}}})
    place.kube.until("the quota counts", lambda: place.kube.get("quota", "narrow").get("status"))
    place.apply(name="over-quota", modelSize="4Gi")


def beside_a_stranger(place: Place) -> None:
    """Let somebody inject a container that `restricted` does not allow."""
    rollout = {**place.spec()["rollout"], "strategy": "Recreate"}
    place.apply(name="injected", rollout=rollout)
    place.kube.until("its pods are wanted", lambda: place.kube.get("deployment", "injected"))
    mesh = {"name": "mesh", "image": place.python_image, "resources": {"limits": {"memory": "8Mi"}}}
    mesh["securityContext"] = {"privileged": True}
    add = [{"op": "add", "path": "/spec/template/spec/containers/-", "value": mesh}]
    place.kube.run("patch", "deployment", "injected", "--type=json", "-p", json.dumps(add))


def evicted(place: Place) -> None:
    """Let a pod that waits for its source write more into its log than its node allows."""
    limit = {"type": "Container", "default": {"ephemeral-storage": "1Ki"}}
    ranged = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "little-disk"}}
    place.kube.apply({**ranged, "spec": {"limits": [limit]}})
    source = {"http": {"url": f"http://nowhere.{place.namespace}.svc/filetype/1"}}
    place.apply(name="evicted", source=source)


def heavy(folder: Path) -> Path:
    """Write a model of 192 MiB of half floats, which become twice as many bytes when compiled."""
    x = ov.opset13.parameter([-1, 8192], ov.Type.f32, name="x")
    halves = ov.opset13.constant(np.ones((12288, 8192), dtype=np.float16))
    y = ov.opset13.matmul(x, ov.opset13.convert(halves, "f32"), False, True)
    path = folder / "heavy.xml"
    ov.serialize(ov.Model([y], [x], "heavy"), path, path.with_suffix(".bin"))
    return path


OBSTACLES: dict[str, tuple[Callable[[Place], None], Reason, str]] = {
    "no-folder": (no_folder, Reason.SOURCE_NOT_FOUND, ""),
    "no-server": (no_server, Reason.SOURCE_UNAVAILABLE, ""),
    "no-claim": (no_claim, Reason.VOLUME_UNAVAILABLE, "no-such-claim"),
    "no-image": (no_image, Reason.IMAGE_PULL_FAILED, "registry.invalid"),
    "other-ca": (other_ca, Reason.KEY_SERVICE_UNTRUSTED, ""),
    "too-small": (too_small, Reason.MODEL_TOO_LARGE, "bytes"),
    "too-little": (too_little, Reason.OUT_OF_MEMORY, "compiledSize"),
    "no-account": (no_account, Reason.SERVICE_ACCOUNT_NOT_FOUND, "nobody"),
    "not-loadable": (not_loadable, Reason.MODEL_LOAD_FAILED, "log"),
}
NARROW: dict[str, tuple[Callable[[Place], None], Reason, str]] = {
    "injected": (beside_a_stranger, Reason.POD_SECURITY_REFUSED, "privileged"),
    "over-quota": (over_quota, Reason.QUOTA_EXCEEDED, "narrow"),
    "evicted": (evicted, Reason.POD_FAILED, "Evicted"),
}


@pytest.fixture(scope="module")
def narrow(module_places: Callable[..., Place]) -> Place:
    """Put the obstacles that concern a whole namespace into another one."""
    place = module_places()
    place.provide()
    for put, _, _ in NARROW.values():
        put(place)
    return place


@pytest.fixture(scope="module")
def obstructed(narrow: Place, module_place: Place) -> Place:
    """Put every obstacle into one namespace, so that they are waited for together."""
    module_place.provide()
    module_place.put(module_place.seal(), "filetype/1")
    for put, _, _ in OBSTACLES.values():
        put(module_place)
    return module_place


@pytest.mark.parametrize("name", OBSTACLES)
def test_an_obstacle_is_one_reason_that_says_what_to_do(obstructed: Place, name: str) -> None:
    stands_in_the_way(obstructed, name, *OBSTACLES[name][1:])


@pytest.mark.parametrize("name", NARROW)
def test_an_obstacle_of_a_whole_namespace_is_one_reason_too(narrow: Place, name: str) -> None:
    stands_in_the_way(narrow, name, *NARROW[name][1:])


def stands_in_the_way(place: Place, name: str, reason: Reason, word: str) -> None:
    said = place.until_reason(reason, name)
    assert word in said["message"]
    assert len(said["message"]) > 30
    assert condition(place.resource(name), "Available")["status"] != "True"
    assert place.never_served(name)
    # the operator writes the status first
    place.kube.until(f"a warning says {reason}", lambda: reason in warnings_of(place, name))


def warnings_of(place: Place, name: str) -> set[str]:
    """Return the reasons of the warnings about a model."""
    about = (each for each in place.kube.all("events") if each["involvedObject"]["name"] == name)
    return {each["reason"] for each in about if each["type"] == "Warning"}


def test_an_obstacle_that_is_taken_away_is_forgotten(obstructed: Place) -> None:
    obstructed.put(obstructed.seal("later"), "filetype/later")
    obstructed.apply(name="too-small", modelSize="32Mi")
    obstructed.kube.run("create", "serviceaccount", "nobody")
    for name in ("no-folder", "too-small"):
        found = obstructed.until_ready(name)
        assert condition(found)["reason"] == Reason.SERVING
        assert answers_right(obstructed, name)
    # a new account wakes nobody, and the controller of replica sets comes back ever later
    obstructed.kube.run(
        "annotate", "replicaset", f"--selector={GROUP}/model=no-account", "test/account=made"
    )
    # an account without a role is the next thing in the way
    obstructed.until_reason(Reason.KEY_ACCESS_DENIED, "no-account")


def test_a_seal_whose_signatures_were_taken_away_is_not_signed(obstructed: Place) -> None:
    sealed = obstructed.seal("stripped")
    path = sealed / "seal.json"
    seal = json.loads(path.read_text())
    seal["envelope"]["signatures"] = []
    path.write_text(json.dumps(seal))
    obstructed.put(sealed, "filetype/stripped")
    obstructed.apply("filetype/stripped", name="stripped")
    obstructed.until_reason(Reason.SIGNATURE_MISSING, "stripped")
    assert obstructed.never_served("stripped")
