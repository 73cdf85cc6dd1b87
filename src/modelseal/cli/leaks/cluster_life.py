"""The life of a canary model on a cluster: sealed, served, updated, crashed, evicted, deleted."""

import contextlib
import io
import json
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from modelseal.cli import pods
from modelseal.cli.environment import open_key, open_signing_key
from modelseal.cli.kubectl import Json, Kubectl, condition, until
from modelseal.cli.leaks.canary import Canary, hatch
from modelseal.cli.leaks.needles import Needle
from modelseal.cli.models import collected
from modelseal.cli.recipients import wrap_for
from modelseal.contract import API_VERSION, GROUP
from modelseal.envelope import Recipient, seal_files
from modelseal.errors import ServingError
from modelseal.secret import Secret

NAME: Final = "modelseal-leakcheck"
_MODELS: Final = f"encryptedmodels.{GROUP}"
_WAIT: Final = "import signal, sys; print(sys.argv[1], flush=True); signal.pause()"
_UNPACK: Final = (
    "import sys, tarfile; "
    "tarfile.open(fileobj=sys.stdin.buffer, mode='r|').extractall('/models', filter='data')"
)
_REMOVE: Final = f"import shutil; shutil.rmtree('/models/{NAME}', ignore_errors=True)"
_ASK: Final = """
import sys, urllib.request
head = {"Content-Type": "application/json"}
request = urllib.request.Request(sys.argv[1], sys.stdin.buffer.read(), head)
sys.stdout.buffer.write(urllib.request.urlopen(request, timeout=60).read())
"""


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What the cluster's user prepared for the canary, as for any other model."""

    model: str
    key: str
    sign: str | None
    provider: str
    service_account: str
    claim: str


@dataclass(kw_only=True)
class ClusterLife:
    """One canary model in a namespace; `texts` collects what programs and the API say."""

    kube: Kubectl
    ground: Ground
    canary: Canary
    image: str
    word: str
    """What the carrier logs and a ConfigMap holds, to be found again."""
    texts: list[tuple[str, bytes]] = field(default_factory=list)
    keys: list[Needle] = field(default_factory=list)
    """The data keys, as they are made."""
    ended: bool = False

    def publish(self, version: int) -> None:
        """Seal the model, and put the ciphertext on the volume."""
        providers = [open_key(self.ground.key)]

        def wrap(dek: Secret, context: bytes) -> Sequence[Recipient]:
            self.keys.append(Needle.of(f"data key {version}", bytes(dek.buffer)))
            return wrap_for(providers)(dek, context)

        signer = open_signing_key(self.ground.sign) if self.ground.sign else None
        with (
            tempfile.TemporaryDirectory(prefix="modelseal-leakcheck-") as folder,
            collected(self.canary.xml, keep_onnx=False) as files,
        ):
            output = Path(folder) / "sealed"
            seal_files(
                files=files,
                output=output,
                model=self.ground.model,
                version=str(version),
                sequence=version,
                recipients_for=wrap,
                signer=signer,
            )
            self.kube.python(NAME, "-c", _UNPACK, given=_packed(output, f"{NAME}/{version}"))

    def apply(self, version: int) -> None:
        """Apply the resource for a version, and wait until it is served."""
        self.kube.apply(self._resource(version))
        self.until_ready(version)

    def until_ready(self, version: int) -> None:
        """Wait until this version is served by one pod."""

        def ready() -> bool:
            found = self._found()
            says, serves = condition(found), found.get("status", {}).get("model", {})
            current = says.get("observedGeneration") == found["metadata"]["generation"]
            right = says.get("status") == "True" and serves.get("version") == str(version)
            return current and right and len(self.pods()) == 1

        until("the canary model was not served", ready, self._says)
        self.listen()

    def restarted(self, before: int) -> bool:
        """Say whether containers of the pod restarted more often than before."""
        return self.restarts() > before

    def restarts(self) -> int:
        """Return how often containers of the model's pods restarted."""
        statuses = [
            each
            for pod in self.pods()
            for kind in ("initContainerStatuses", "containerStatuses")
            for each in pod["status"].get(kind, [])
        ]
        return sum(int(each["restartCount"]) for each in statuses)

    def ask(self) -> None:
        """Infer once, from the carrier; the answer is kept.

        Raises:
            ServingError: the model does not answer as it should.

        """
        data = [1.0] * self.canary.width
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, self.canary.width], "data": data}
        address = f"http://{NAME}.{self.kube.namespace}.svc:8080/v2/models/{NAME}/infer"
        question = json.dumps({"inputs": [tensor]}).encode()
        answer = self.kube.python(NAME, "-c", _ASK, address, given=question)
        if len(json.loads(answer)["outputs"][0]["data"]) != self.canary.width:
            raise ServingError("failed to check for leaks: the canary model does not answer")
        self.texts.append(("answer", answer))

    def evict(self, version: int) -> None:
        """Evict the model's pod, and wait for its successor."""
        (pod,) = self.pods()
        name = pod["metadata"]["name"]
        self.kube.evict(name)
        until("the evicted pod did not go", lambda: name not in self._names(), self._says)
        self.until_ready(version)

    def end(self) -> None:
        """Delete the resource, and wait until its pods are gone."""
        self.listen()
        self.kube.delete(_MODELS, NAME)
        until("the pods did not go", lambda: not self._names(), self._says)
        self.ended = True

    def listen(self) -> None:
        """Collect what the programs logged and what the API shows of the namespace."""
        kinds = "pods,events,configmaps,services,deployments,replicasets"
        if not self.ended:  # whoever uninstalled may have taken the definition too
            kinds += f",{_MODELS}"
        self.texts.append(("objects", self.kube.run("get", kinds, "-o=json")))
        for pod in [NAME, *self._names()]:
            for more in ((), ("--previous",)):
                with contextlib.suppress(ServingError):  # most containers have no earlier life
                    words = ("logs", pod, "--all-containers", "--ignore-errors", *more)
                    self.texts.append((f"logs of {pod}", self.kube.run(*words)))

    def pods(self) -> list[Json]:
        """Return the model's pods that are not on their way out."""
        return [pod for pod in self._pods() if "deletionTimestamp" not in pod["metadata"]]

    def uids(self) -> list[str]:
        """Return the uids of all of the model's pods."""
        return [pod["metadata"]["uid"] for pod in self._pods()]

    def _names(self) -> list[str]:
        return [pod["metadata"]["name"] for pod in self._pods()]

    def _pods(self) -> list[Json]:
        found: list[Json] = self.kube.get("pods", "-l", f"{GROUP}/model={NAME}").get("items", [])
        return found

    def _found(self) -> Json:
        return self.kube.get(_MODELS, NAME)

    def _says(self) -> str:
        says = condition(self._found())
        return f"the resource says {says.get('reason')}: {says.get('message')}"

    def _resource(self, version: int) -> Json:
        claim = {"claimName": self.ground.claim, "path": f"{NAME}/{version}"}
        spec: dict[str, Any] = {
            "model": {"name": self.ground.model},
            "source": {"persistentVolumeClaim": claim},
            "keyProviderRef": {"name": self.ground.provider},
            "serviceAccountName": self.ground.service_account,
            "modelSize": "32Mi",
            "serving": {"queueSize": 4, "maxBodySize": "8Mi"},
            "template": {"cpu": {"runtime": {"request": "50m"}, "agent": {"request": "20m"}}},
            "rollout": {"strategy": "Recreate"},
        }
        return {
            "apiVersion": f"{GROUP}/{API_VERSION}",
            "kind": "EncryptedModel",
            "metadata": {"name": NAME},
            "spec": spec,
        }


@contextlib.contextmanager
def begun(kube: Kubectl, ground: Ground, image: str, word: str) -> Iterator[ClusterLife]:
    """Hatch the canary and start its carrier; whatever was made goes with the block."""
    with tempfile.TemporaryDirectory(prefix="modelseal-leakcheck-") as folder:
        life = ClusterLife(
            kube=kube, ground=ground, canary=hatch(Path(folder)), image=image, word=word
        )
        stored = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME}}
        try:
            kube.delete("pod", NAME)
            kube.apply({**stored, "data": {"planted": word}}, _carrier(life))
            kube.run("wait", f"pod/{NAME}", "--for=condition=Ready", "--timeout=180s")
            yield life
            kube.python(NAME, "-c", _REMOVE)
        finally:
            if not life.ended:
                kube.run("delete", _MODELS, NAME, "--ignore-not-found")
            kube.run("delete", "pod,configmap", NAME, "--ignore-not-found", "--wait=false")


def _carrier(life: ClusterLife) -> Json:
    """Return the pod that takes ciphertext to the volume and asks the model."""
    volumes = {"models": {"persistentVolumeClaim": {"claimName": life.ground.claim}}}
    command = ("python3", "-c", _WAIT, life.word)
    return pods.restricted(NAME, life.image, command, user=10001, volumes=volumes)


def _packed(folder: Path, name: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.add(folder, name, filter=_readable)
    return content.getvalue()


def _readable(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Let the agent read what is ciphertext, whoever owned it here."""
    member.uid = member.gid = 10001
    member.uname = member.gname = ""
    member.mode = 0o755 if member.isdir() else 0o644
    return member
