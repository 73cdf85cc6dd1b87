"""How long `kubectl apply` takes to lead to a ready model, sealed against plain, on a real cluster.

One side applies an EncryptedModel; the other a Deployment by hand that runs the same runtime, from
the same image with the same resources and probes, on the same model from the same volume in the
clear. Rounds alternate; nothing else runs in the cluster.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.findings import Effort, Findings, Row, interleaved

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from modelseal.contract import UNWRAPPED, Env
from modelseal.engine import convert_onnx
from support import kind, kind_openbao
from support.images import Images, build_images
from support.kind_operator import install
from support.kind_place import Place
from support.kind_volume import CLAIM
from support.kind_workloads import script_of
from support.models import magika_onnx

TITLE = "From apply to Ready"
NAMESPACE = "applying"
PLAIN = "plain"
SCRIPT = Path(__file__).with_name("plain_pod.py")
Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Side:
    """What is applied, and what says that it is ready."""

    document: Json
    kind: str
    name: str
    condition: str
    labels: str


def measure(effort: Effort) -> Findings:
    """Apply each side once in every round, and delete it again."""
    if lacking := kind.missing():
        sys.exit(f"this question needs a cluster: {lacking}")
    with tempfile.TemporaryDirectory() as name, scene(Path(name)) as (place, images):
        notes = Moments(place)
        sides = {
            "sealed": timed(place, sealed_side(place), notes.read),
            "plain": timed(place, plain_side(place, images)),
        }
        values = interleaved(sides, rounds=effort.rounds)
    row = Row(
        question="a model of 3 MB, from `kubectl apply` to Ready",
        unit="s",
        values=values,
        ours="sealed",
        baseline="plain",
        target="≤ 1.1",
        limit=LIMIT,
    )
    return Findings(rows=[row], notes=[NOTE, notes.text()])


@contextmanager
def scene(folder: Path) -> Iterator[tuple[Place, Images]]:
    """Prepare a namespace with the model on its volume, sealed and plain."""
    images = build_images()
    with kind.running("modelseal-bench") as cluster:
        assert cluster.node is not None, "the node's containers are looked at"
        images = Images.named(cluster.load(*images.all()))
        with kind_openbao.running(cluster.kube, images.openbao, folder) as bao:
            install(cluster.kube, images)
            place = Place(
                cluster=cluster,
                bao=bao,
                kube=cluster.kube.at(NAMESPACE),
                folder=folder,
                python_image=images.agent,
            )
            place.open()
            place.provide()
            place.put(place.seal(), "filetype/1")
            place.put(in_the_clear(folder / "clear"), "clear/1")
            yield place, images
            place.close()


def in_the_clear(folder: Path) -> Path:
    """Write the model as sealing converts it."""
    folder.mkdir()
    with convert_onnx(magika_onnx()) as converted, converted.open_weights() as weights:
        (folder / "model.xml").write_bytes(converted.xml)
        (folder / "model.bin").write_bytes(weights.read())
    return folder


def timed(
    place: Place, side: Side, looked: Callable[[datetime], None] | None = None
) -> Callable[[], float]:
    """Return what applies a side and returns the seconds until it is ready."""

    def run() -> float:
        given, target = json.dumps(side.document), f"{side.kind}/{side.name}"
        started, begun = time.monotonic(), datetime.now().astimezone()
        place.kube.run("apply", "-f", "-", given=given)
        place.kube.run("wait", target, f"--for=condition={side.condition}", "--timeout=120s")
        seconds = time.monotonic() - started
        if looked:
            looked(begun)
        place.kube.run("delete", target, "--wait=true")
        place.kube.until("its pods are gone", lambda: not place.kube.all("pods", side.labels))
        return seconds

    return run


def sealed_side(place: Place) -> Side:
    """Return the smallest EncryptedModel, with the resources that it has by default."""
    spec = {**place.spec(), "template": {}, "rollout": {"drainSeconds": 1}}
    kinds = {"apiVersion": "modelseal.dev/v1alpha1", "kind": "EncryptedModel"}
    return Side(
        document={**kinds, "metadata": {"name": "filetype"}, "spec": spec},
        kind="encryptedmodel",
        name="filetype",
        condition="Ready",
        labels="modelseal.dev/model=filetype",
    )


def plain_side(place: Place, images: Images) -> Side:
    """Return the Deployment that somebody would write who has no secret to keep."""
    place.kube.apply(script_of(PLAIN, SCRIPT))
    labels = {"app": PLAIN}
    template = {"metadata": {"labels": labels}, "spec": _plain_pod(images.runtime)}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    kinds = {"apiVersion": "apps/v1", "kind": "Deployment"}
    return Side(
        document={**kinds, "metadata": {"name": PLAIN}, "spec": spec},
        kind="deployment",
        name=PLAIN,
        condition="Available",
        labels=f"app={PLAIN}",
    )


def _plain_pod(image: str) -> Json:
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [_plain_container(image)],
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "terminationGracePeriodSeconds": 20,
        "volumes": [
            {"name": "script", "configMap": {"name": PLAIN}},
            {"name": "models", "persistentVolumeClaim": {"claimName": CLAIM, "readOnly": True}},
        ],
    }


def _plain_container(image: str) -> Json:
    settings = {
        Env.MODEL_NAME: PLAIN,
        Env.PERFORMANCE_HINT: "Latency",
        Env.MAX_BODY_BYTES: str(4 << 20),
        Env.QUEUE_SIZE: "4",
        Env.DRAIN_SECONDS: "1",
    }
    return {
        "name": "runtime",
        "image": image,
        "command": ["python3", f"/script/{SCRIPT.name}", "/models/clear/1"],
        "env": [{"name": name.value, "value": value} for name, value in settings.items()],
        "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
        "livenessProbe": {"httpGet": {"path": "/livez", "port": 8082}, "periodSeconds": 5},
        "readinessProbe": {
            "httpGet": {"path": "/readyz", "port": 8082},
            "periodSeconds": 1,
            "failureThreshold": 1,
        },
        "resources": {
            "requests": {"cpu": "500m", "memory": "592Mi"},
            "limits": {"memory": "592Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsUser": 10002,
        },
        "volumeMounts": [
            {"name": "script", "mountPath": "/script"},
            {"name": "models", "mountPath": "/models", "readOnly": True},
        ],
    }


class Moments:
    """When what happened on the way to a sealed model, in seconds from `kubectl apply`."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._seen: dict[str, list[float]] = {}

    def read(self, begun: datetime) -> None:
        """Note the moments of the pod that is there now."""
        pod = self._place.pod()
        found = {
            "the agent's container started": self._started(pod, "agent"),
            "the runtime's container started": self._started(pod, "runtime"),
            "the key was unwrapped": self._logged(pod, "agent", UNWRAPPED),
            "the model was loaded": self._logged(pod, "runtime", "the model is loaded"),
        }
        for what, moment in found.items():
            self._seen.setdefault(what, []).append((moment - begun).total_seconds())

    def text(self) -> str:
        """Return the medians as a sentence; the first round is not measured."""
        told = [
            f"{what} after {statistics.median(moments[1:]):.1f} s"
            for what, moments in sorted(self._seen.items(), key=lambda each: min(each[1]))
        ]
        return f"On the way of the sealed side, by medians: {', '.join(told)}."

    def _started(self, pod: str, name: str) -> datetime:
        node = self._place.cluster
        select = ("--label", f"io.kubernetes.pod.name={pod}", "--name", f"^{name}$")
        (found,) = node.on_node("crictl", "ps", "-q", *select).split()
        status = json.loads(node.on_node("crictl", "inspect", found))["status"]
        return _moment(status["startedAt"])

    def _logged(self, pod: str, container: str, what: str) -> datetime:
        lines: Sequence[str] = self._place.kube.run(
            "logs", pod, f"--container={container}", "--timestamps"
        ).splitlines()
        return next(_moment(line.split()[0]) for line in lines if what in line)


def _moment(text: str) -> datetime:
    # Python reads microseconds, and the node's clock is this machine's
    whole, _, rest = text.rstrip("Z").partition(".")
    digits = rest.partition("+")[0][:6] or "0"
    return datetime.fromisoformat(f"{whole}.{digits}+00:00")


LIMIT = "a second program's start on the same processors, and a kubelet that looks once a second"
NOTE = """Both sides run the same runtime from the same image, with the same memory, processor
share and probes, on the same model in the OpenVINO format from the same volume. The plain side is
a Deployment that is applied by hand; its model lies in the clear. Times are from before `kubectl
apply` to the end of a `kubectl wait` (for `Ready` of the EncryptedModel, for `Available` of the
Deployment); images are on the node, and the model is deleted between rounds. The lease, the login
and the network policy are part of the sealed side.

The target is missed by a tick: the kubelet asks once a second, the plain model is loaded before
the second tick, and the sealed one, whose agent and server share two processors while both start
Python, half a second after it. Before they started side by side it was two ticks: 4.0 s against
1.77 s, 2.27 of the plain side (medians of seven)."""
