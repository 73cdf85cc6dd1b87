"""Whatever is killed, the same state is reached again; nothing is asked twice, nothing is lost."""

import pytest

from support.images import Images
from support.kind_asking import answers_right, is_right
from support.kind_load import ROOM, asking
from support.kind_operator import NAMESPACE
from support.kind_place import Place, is_ready
from support.kube import Json

pytestmark = [pytest.mark.kind, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def served(module_place: Place) -> Place:
    module_place.provide()
    module_place.put(module_place.seal(), "filetype/1")
    module_place.apply(serving=ROOM)
    module_place.until_ready()
    return module_place


@pytest.mark.node("kills a container from the node")
@pytest.mark.parametrize("container", ["agent", "runtime"])
def test_a_killed_container_comes_back_and_serves_the_same(served: Place, container: str) -> None:
    pod, before = served.pod(), restarts(served, container)
    kill(served, pod, container)
    served.kube.until(
        f"{container} restarted and the pod is ready",
        lambda: restarts(served, container) > before and is_ready(served.pods()[0]),
    )
    served.until_ready()
    assert answers_right(served)
    assert served.pod() == pod


def test_an_operator_killed_in_the_middle_leaves_nothing_half_done(served: Place) -> None:
    system = served.kube.at(NAMESPACE)
    served.apply(name="meanwhile")
    system.run("delete", "pods", "--all", "--grace-period=0", "--force")
    served.until_ready("meanwhile", seconds=240)
    assert answers_right(served, "meanwhile")
    served.kube.run("delete", "encryptedmodel", "meanwhile")
    served.kube.until("its pods are gone", lambda: not served.pods("meanwhile"))


def test_a_deleted_child_is_made_anew(served: Place) -> None:
    old = served.kube.get("service", "filetype")["metadata"]["uid"]
    served.kube.run("delete", "service", "filetype")
    served.kube.until("there is a new Service", lambda: another(served, old))
    assert answers_right(served)


def test_scaling_goes_through_the_resource_and_changes_nothing_else(served: Place) -> None:
    served.kube.run("scale", "encryptedmodel/filetype", "--replicas=2")
    served.kube.until("two pods are ready", lambda: ready(served) == 2, seconds=150)
    served.kube.run("scale", "encryptedmodel/filetype", "--replicas=1")
    served.kube.until("one pod is left", lambda: len(served.pods()) == 1)
    served.until_ready()


def test_a_new_version_replaces_the_old_one_without_a_lost_request(
    served: Place, images: Images
) -> None:
    served.put(served.seal("2", sequence=2), "filetype/2")
    old = served.pod()
    with asking(served, images.runtime) as load:
        served.apply("filetype/2", serving=ROOM)
        served.kube.until("version 2 serves", lambda: serves(served, "2"), seconds=150)
        served.kube.run("wait", f"pod/{old}", "--for=delete", "--timeout=110s")
    assert load.failures == []
    for client in load.clients:
        assert client.answered > 10
        assert {answer.version for answer in client.answers} == {"1", "2"}
        assert all(is_right(served, answer.scores.reshape(1, -1)) for answer in client.answers)


def kill(place: Place, pod: str, container: str) -> None:
    """Kill a container's first process as the kernel would: without notice."""
    select = ("--label", f"io.kubernetes.pod.name={pod}", "--name", f"^{container}$")
    found = place.cluster.on_node("crictl", "ps", "-q", *select).split()
    place.cluster.on_node("ctr", "-n=k8s.io", "task", "kill", "-s", "SIGKILL", found[0])


def restarts(place: Place, container: str) -> int:
    (pod,) = place.pods()
    status = pod["status"]
    found: list[Json] = [*status["containerStatuses"], *status["initContainerStatuses"]]
    return int(next(each["restartCount"] for each in found if each["name"] == container))


def another(place: Place, uid: str) -> bool:
    found = place.kube.get("service", "filetype")
    return bool(found) and found["metadata"]["uid"] != uid


def ready(place: Place) -> int:
    return int(place.resource()["status"].get("readyReplicas", 0))


def serves(place: Place, version: str) -> bool:
    return bool(place.until_ready()["status"]["model"].get("version") == version)
