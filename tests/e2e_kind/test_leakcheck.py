"""`modelseal leakcheck --cluster` as a user runs it: it finds what leaks, and nothing here does."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.binaries import binary
from support.cli import environment, spawn
from support.images import Images
from support.kind_operator import NAMESPACE, RELEASE, install
from support.kind_place import ACCOUNT, Place
from support.kind_volume import CLAIM

pytestmark = [pytest.mark.kind, pytest.mark.timeout(900)]
Report = dict[str, dict[str, Any]]


@pytest.fixture
def ground(place: Place, images: Images) -> Iterator[Place]:
    """Prepare a namespace as the documentation says, with nothing that the check brings itself."""
    place.provide()
    place.until_the_volume_is_open()
    yield place
    install(place.kube, images)


def test_a_canarys_life_on_a_cluster_leaves_nothing_behind_and_every_search_was_proven(
    ground: Place,
) -> None:
    report = checked(ground)
    verdicts = {name: each["verdict"] for name, each in report.items()}
    assert verdicts.pop("blocks of deleted files") == "not looked at"
    assert verdicts.pop("agent's memory") in ("clean", "found")
    if ground.cluster.node is None:
        assert verdicts.pop("etcd's files") in ("clean", "not looked at")
    if "pattern is |" in report["core files"]["note"]:
        assert verdicts.pop("core files") == "not looked at"
    assert set(verdicts.values()) == {"clean"}, report
    assert report["core files"]["read"] >= 2, "both programs crashed"
    assert report["memory of all other processes"]["read"] > 1000
    assert not ground.kube.at(NAMESPACE).all("deployments"), "it was uninstalled"


def checked(place: Place) -> Report:
    """Run the check; by place."""
    keys = place.bao.keys
    env = environment(
        place.folder,
        KUBECONFIG=str(place.kube.kubeconfig),
        VAULT_ADDR=keys.address,
        VAULT_CACERT=str(keys.ca_file),
        VAULT_TOKEN=keys.token(f"modelseal-{place.model.replace('/', '_')}-sealer"),
    )
    words: list[str | Path] = ["leakcheck", "--cluster", "--json", "--namespace", place.namespace]
    words += ["--model", place.model, "--key", place.key, "--sign", place.folder / "signer"]
    words += ["--service-account", ACCOUNT, "--claim", CLAIM, "--kubectl", place.kube.program]
    words += ["--uninstall", f"{binary('helm')} uninstall {RELEASE} --namespace={NAMESPACE} --wait"]
    done = spawn(*words, env=env, timeout=840)
    assert done.out, done.err
    return {each["place"]: each for each in done.json}
