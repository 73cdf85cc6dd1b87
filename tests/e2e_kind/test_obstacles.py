"""What stands in the way without anybody's ill will: each is one Reason, on a real kubelet."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from modelseal.contract import Reason
from modelseal.engine._openvino import ov
from support.authority import Authority
from support.kind_asking import answers_right
from support.kind_place import Place
from support.kube import condition

pytestmark = [pytest.mark.kind, pytest.mark.timeout(600)]
SCARCE = {"queueSize": 1, "maxBodySize": "1Mi", "performanceHint": "Latency"}
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
}


@pytest.fixture(scope="module")
def obstructed(module_place: Place) -> Place:
    """Put every obstacle into one namespace, so that they are waited for together."""
    module_place.provide()
    module_place.put(module_place.seal(), "filetype/1")
    for put, _, _ in OBSTACLES.values():
        put(module_place)
    return module_place


@pytest.mark.parametrize("name", OBSTACLES)
def test_an_obstacle_is_one_reason_that_says_what_to_do(obstructed: Place, name: str) -> None:
    _, reason, word = OBSTACLES[name]
    said = obstructed.until_reason(reason, name)
    assert word in said["message"]
    assert len(said["message"]) > 30
    assert condition(obstructed.resource(name), "Available")["status"] != "True"
    assert obstructed.never_served(name)
    warned = obstructed.kube.all("events")
    about = [each for each in warned if each["involvedObject"]["name"] == name]
    assert reason in {each["reason"] for each in about if each["type"] == "Warning"}


def test_an_obstacle_that_is_taken_away_is_forgotten(obstructed: Place) -> None:
    obstructed.put(obstructed.seal("later"), "filetype/later")
    obstructed.apply(name="too-small", modelSize="32Mi")
    obstructed.kube.run("create", "serviceaccount", "nobody")
    for name in ("no-folder", "too-small"):
        found = obstructed.until_ready(name)
        assert condition(found)["reason"] == Reason.SERVING
        assert answers_right(obstructed, name)
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
