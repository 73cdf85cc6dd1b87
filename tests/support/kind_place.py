"""One team's place in the cluster: a namespace, keys, a volume, a provider, and its models.

Everything is done as docs and README tell people to do it: the policies and the role are those
that `modelseal policy` prints, the model is sealed by `modelseal seal`, and what is applied is
YAML of ours.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from modelseal.contract import GROUP, Reason
from modelseal.keys.policy_text import policy_name
from support import kind_volume
from support.cli import environment, spawn
from support.kind import Cluster
from support.kind_given import RESTRICTED
from support.kind_openbao import ClusterKeyService
from support.kind_volume import CARRIER, CLAIM
from support.kube import Json, Kube, condition, custom
from support.models import magika_onnx

ACCOUNT: Final = "filetype"


@dataclass(kw_only=True)
class Place:
    """A namespace of its own with a transit key, a signer and a volume of its own."""

    cluster: Cluster
    bao: ClusterKeyService
    kube: Kube
    folder: Path
    python_image: str
    """An image that has Python: for the pod that carries files to the volume."""
    kv: bool = False
    """Whether its key lies in KV instead of transit."""
    mount: str = ""
    """Where its key lies in the key service; by default in a mount of its own."""
    address: str = field(init=False)
    signer: str = field(init=False)

    def __post_init__(self) -> None:
        self.address = self.bao.address(self.namespace)
        self.signer = self.new_signer("signer")

    @property
    def namespace(self) -> str:
        """The namespace's name, which is also the owner part of its models' names."""
        return self.kube.namespace

    @property
    def model(self) -> str:
        """The identity of its model."""
        return f"{self.namespace}/filetype"

    @property
    def key(self) -> str:
        """The key of its model, as the command line names it."""
        mount = self.mount or self.namespace
        if self.kv:
            return f"vault-kv:{mount}/{self.model}#kek"
        return f"vault:{mount}/{self.namespace}_filetype"

    @property
    def policy(self) -> str:
        """The name of the agent's policy and role."""
        return policy_name(self.model, "agent")

    def new_signer(self, name: str) -> str:
        """Make a signing key pair in the folder; returns the public key as providers pin it."""
        words = ("keygen", "--type", "ed25519", "--output", self.folder / name, "--json")
        made = spawn(*words, env=environment(self.folder))
        assert made.code == 0, made.err
        return str(made.json["signer"])

    def open(self) -> None:
        """Create the namespace with all that is in it, and key, policies and role."""
        self.prepare()
        self.write_policy()

    def prepare(self) -> None:
        """Create the namespace with its service account and volume, and a name of the server."""
        if self.cluster.node is None:
            self._apply_namespace(kind_volume.FOR_ROOT)
            kind_volume.let_everybody_write(self.kube, self.python_image)
        self._apply_namespace(RESTRICTED)
        self.kube.until_pods_may_come()
        self.kube.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}},
            kind_volume.claim(),
            kind_volume.carrier(self.python_image),
        )
        self.bao.add_alias(self.namespace)

    def _apply_namespace(self, labels: Mapping[str, str]) -> None:
        metadata = {"name": self.namespace, "labels": labels}
        self.kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})

    def close(self) -> None:
        """Delete the namespace; nobody waits for it."""
        self.kube.run("delete", "namespace", self.namespace, "--wait=false", "--ignore-not-found")
        self.bao.remove_alias(self.namespace)

    def policy_text(self, **changes: str) -> str:
        """Return what `modelseal policy` prints for this model."""
        given = {
            "model": self.model,
            "key": self.key,
            "namespace": self.namespace,
            "service-account": ACCOUNT,
            "audience": self.address,
            **changes,
        }
        words = [word for name, value in given.items() for word in (f"--{name}", value)]
        printed = spawn("policy", *words, env=environment(self.folder))
        assert printed.code == 0, printed.err
        return printed.out

    def write_policy(self, **changes: str) -> None:
        """Paste what `modelseal policy` prints, less the step that says when to skip it."""
        text = self.policy_text(**changes)
        if f"{self.namespace}/" in self.bao.keys.call("GET", "sys/mounts")["data"]:
            enable = f"bao secrets enable -path={self.namespace} transit\n"
            assert enable in text, "a key in KV is made only once"
            text = text.replace(enable, "")
        self.bao.keys.paste(text)

    def revoke(self) -> None:
        """Take the right to the key away: the role keeps its name, the policy allows nothing."""
        self.bao.keys.call("PUT", f"sys/policies/acl/{self.policy}", {"policy": "# nothing\n"})

    def restore(self) -> None:
        """Write the agent's policy anew, as it was printed."""
        body = {"policy": self.agent_policy()}
        self.bao.keys.call("PUT", f"sys/policies/acl/{self.policy}", body)

    def agent_policy(self) -> str:
        """Return the agent's policy as `modelseal policy` prints it."""
        _, _, after = self.policy_text().partition(f"policy write {self.policy} - <<'POLICY'\n")
        return after.partition("POLICY\n")[0]

    def seal(
        self,
        name: str = "1",
        *,
        sequence: int = 1,
        sign: str = "signer",
        source: Path | None = None,
        model: str | None = None,
        more: Sequence[str] = (),
    ) -> Path:
        """Seal a model with the command line; returns the folder, named by its version."""
        output = self.folder / name
        words: list[str | Path] = ["seal", source or magika_onnx(), "--output", output]
        words += ["--model", model or self.model, "--version", name, "--key", self.key]
        words += ["--sign", self.folder / sign, "--sequence", str(sequence), *more]
        keys, role = self.bao.keys, "agent" if self.kv else "sealer"
        variables = {
            "VAULT_ADDR": keys.address,
            "VAULT_CACERT": str(keys.ca_file),
            "VAULT_TOKEN": keys.token(policy_name(model or self.model, role)),
        }
        done = spawn(*words, env=environment(self.folder, **variables), timeout=120)
        assert done.code == 0, done.err
        return output

    def put(self, sealed: Path, path: str) -> None:
        """Copy a folder to the volume, replacing what is there."""
        self.until_the_volume_is_open()
        kind_volume.unpack(self.kube, sealed, path)

    def until_the_volume_is_open(self) -> None:
        """Wait for the pod that carries files to the volume."""
        ready = ("--for=condition=Ready", "--timeout=240s")
        self.kube.run("wait", f"pod/{CARRIER}", *ready, seconds=250)
        self.open_volume()

    def provide(
        self, name: str = "vault", *, role: str = "", vault: Json | None = None, **changes: Any
    ) -> None:
        """Apply a KeyProvider, with some of its fields changed."""
        kv = {"mount": self.namespace, "path": "{owner}/{name}", "field": "kek", "version": 1}
        spec: Json = {
            "vault": {
                "address": self.address,
                "caBundle": self.bao.ca_bundle,
                "auth": {"role": role or "modelseal-{owner}_{name}-agent"},
                **({"kv": kv} if self.kv else {"transit": {"mount": self.namespace}}),
                **(vault or {}),
            },
            "signers": [self.signer],
            "lease": {"intervalSeconds": 5, "maxStaleSeconds": 600},
            **changes,
        }
        self.kube.apply(custom("KeyProvider", name, spec))

    def spec(self, path: str = "filetype/1", **changes: Any) -> Json:
        """Return the spec of an EncryptedModel: the smallest, small enough for a laptop."""
        return {
            "model": {"name": self.model},
            "source": {"persistentVolumeClaim": {"claimName": CLAIM, "path": path}},
            "keyProviderRef": {"name": "vault"},
            "serviceAccountName": ACCOUNT,
            "modelSize": "32Mi",
            "compiledSize": "192Mi",
            "serving": {"queueSize": 4, "maxBodySize": "4Mi", "performanceHint": "Latency"},
            "template": {"cpu": {"runtime": {"request": "50m"}, "agent": {"request": "20m"}}},
            "rollout": {"drainSeconds": 3, "terminationGracePeriodSeconds": 20},
            **changes,
        }

    def apply(self, path: str = "filetype/1", *, name: str = "filetype", **changes: Any) -> None:
        """Apply an EncryptedModel."""
        self.kube.apply(custom("EncryptedModel", name, self.spec(path, **changes)))

    def resource(self, name: str = "filetype") -> Json:
        """Return the EncryptedModel as it is."""
        return self.kube.get(f"encryptedmodels.{GROUP}", name)

    def until_ready(self, name: str = "filetype", seconds: float = 300) -> Json:
        """Wait until the resource is Ready for what it says now, and its agent was heard."""

        def ready() -> Json | None:
            found = self.resource(name)
            current = found.get("metadata", {}).get("generation")
            says = condition(found)
            good = says.get("status") == "True" and says.get("observedGeneration") == current
            heard = "digest" in found.get("status", {}).get("model", {})
            return found if good and heard else None

        return self.kube.until(f"{name} is Ready", ready, seconds)

    def until_reason(
        self, reason: Reason, name: str = "filetype", kind: str = "Ready", seconds: float = 240
    ) -> Json:
        """Wait until a condition is not True for this reason; returns the condition."""

        def said() -> Json | None:
            found = condition(self.resource(name), kind)
            return found if found.get("reason") == reason and found["status"] != "True" else None

        return self.kube.until(f"{name} says {reason}", said, seconds)

    def pods(self, name: str = "filetype") -> list[Json]:
        """Return the pods of a model that are not on their way out."""
        found = self.kube.all("pods", f"{GROUP}/model={name}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def pod(self, name: str = "filetype") -> str:
        """Return the name of a model's one pod."""
        (pod,) = self.pods(name)
        return str(pod["metadata"]["name"])

    def never_served(self, name: str = "filetype") -> bool:
        """Tell whether no pod of a model is or was ready."""
        return not any(is_ready(pod) for pod in self.pods(name))

    @contextlib.contextmanager
    def forwarded(self, name: str = "filetype") -> Iterator[tuple[int, int]]:
        """Forward REST and gRPC of a model's Service to this machine."""
        with self.kube.forward(f"service/{name}", 8080, 9000) as ports:
            yield ports[8080], ports[9000]

    def open_volume(self) -> None:
        """Let everybody write to a volume of kind's host-path provisioner, which root owns.

        On a cluster that was given a pod of root's did it when the place was opened.
        """
        if self.cluster.node is None:
            return
        claim = self.kube.get("persistentvolumeclaim", CLAIM)
        volume = self.kube.get("persistentvolume", claim["spec"]["volumeName"])
        path = volume["spec"].get("hostPath", {}).get("path")
        if path:
            self.cluster.on_node("chmod", "0777", path)


def is_ready(pod: Json) -> bool:
    """Tell whether a pod is ready."""
    conditions = pod["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def kept_logs(kube: Kube, folder: Path) -> None:
    """Write the logs of all of a namespace's pods to a folder, for whoever looks at a failure."""
    folder.mkdir(parents=True, exist_ok=True)
    for pod in kube.all("pods"):
        name = pod["metadata"]["name"]
        for more in ((), ("--previous",)):
            done = kube.try_run("logs", name, "--all-containers", "--prefix", *more)
            (folder / f"{name}{''.join(more)}.log").write_bytes(done.stdout + done.stderr)
    (folder / "state.txt").write_text(kube.describe())
    (folder / "pods.json").write_text(json.dumps(kube.all("pods"), indent=1) + os.linesep)
