"""An EncryptedModel as a value, parsed from what the API server delivers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from modelseal.contract import AGENT_UID, MAX_NAME, RUNTIME_UID, Delivery
from modelseal_operator.device_fields import read_combine, read_devices, read_properties
from modelseal_operator.fields import Fields
from modelseal_operator.provider import (
    CIDR,
    IMAGE,
    MODEL_PART,
    SIGNER,
    Kind,
    Labels,
    Peer,
    parse_peer,
)
from modelseal_operator.refusal import Refusal

NAME: Final = rf"[a-z](?:[-a-z0-9]{{0,{MAX_NAME - 2}}}[a-z0-9])?"
OBJECT_NAME: Final = r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?"
_KEY: Final = r"[-._a-zA-Z0-9]{1,253}"
_FOLDER: Final = r"[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*"
_URL: Final = r"https?://[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?"
_PROXY: Final = r"https?://[A-Za-z0-9.-]+(?::[0-9]{1,5})?/?"
_MAX_SIZE: Final = 1 << 43


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A folder on a PersistentVolumeClaim."""

    name: str
    path: str | None


@dataclass(frozen=True, kw_only=True)
class KeyRef:
    """One key of a ConfigMap or Secret of the same namespace."""

    name: str
    key: str


@dataclass(frozen=True, kw_only=True)
class Web:
    """A folder at a web address."""

    url: str
    ca: KeyRef | None
    token: KeyRef | None
    proxy: str | None
    egress: tuple[Peer, ...]


@dataclass(frozen=True, kw_only=True)
class Image:
    """A folder in an OCI image that the kubelet mounts."""

    reference: str
    path: str | None
    pull_policy: str


Source = Claim | Web | Image


@dataclass(frozen=True, kw_only=True)
class Server:
    """Another server than our runtime."""

    image: str
    args: tuple[str, ...]
    readiness_path: str
    uid: int


@dataclass(frozen=True, kw_only=True)
class Serving:
    """How the model is served; sizes in bytes, times in seconds."""

    model_name: str
    hint: str
    max_body: int
    queue: int
    timeout: int
    batch_rows: int
    batch_delay: int
    """In milliseconds."""


@dataclass(frozen=True, kw_only=True)
class Cpu:
    """CPU of one container, in canonical form."""

    request: str | None
    limit: str | None


@dataclass(frozen=True, kw_only=True)
class Toleration:
    """A taint that is tolerated; None is left out."""

    key: str | None
    operator: str
    value: str | None
    effect: str | None
    seconds: int | None


@dataclass(frozen=True, kw_only=True)
class Spread:
    """One topology over which pods are spread."""

    key: str
    skew: int
    when: str


@dataclass(frozen=True, kw_only=True)
class Template:
    """The typed additions to the pods."""

    labels: Labels
    annotations: Labels
    agent_cpu: Cpu
    runtime_cpu: Cpu
    node_selector: Labels
    tolerations: tuple[Toleration, ...]
    spread: tuple[Spread, ...]
    priority_class: str | None
    runtime_class: str | None
    fs_group: int | None
    pull_secrets: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """How a new template replaces an old one; times in seconds."""

    strategy: str | None
    deadline: int
    drain: int
    grace: int


@dataclass(frozen=True, kw_only=True)
class EncryptedModel:
    """Everything that an EncryptedModel says."""

    namespace: str
    name: str
    uid: str
    generation: int
    model: str
    digest: str | None
    min_sequence: int | None
    signers: tuple[str, ...]
    source: Source
    provider_kind: Kind
    provider_name: str
    service_account: str
    model_size: int
    compiled_size: int
    replicas: int
    suspend: bool
    delivery: Delivery
    server: Server | None
    devices: tuple[str, ...]
    device_properties: tuple[str, ...]
    combine: str
    """OpenVINO's name for how the chosen device and CPU share the work; empty if they do not."""
    groups: tuple[int, ...]
    serving: Serving
    template: Template
    rollout: Rollout
    managed_network: bool
    allow_from: tuple[Peer, ...]

    @property
    def pods(self) -> int:
        """The number of pods that should run."""
        return 0 if self.suspend else self.replicas

    @property
    def pinned(self) -> bool:
        """Whether an older or another seal would be refused."""
        return self.digest is not None or self.min_sequence is not None


def parse_model(raw: Mapping[str, object]) -> EncryptedModel:
    """Read an EncryptedModel; everything wrong with it is `SpecInvalid`."""
    top = Fields(value=raw)
    meta, spec = top.section("metadata"), top.section("spec")
    name = meta.text("name", pattern=NAME)
    model, reference = spec.section("model"), spec.section("keyProviderRef")
    device, size = spec.section("device"), spec.size("modelSize", "512Mi", high=_MAX_SIZE)
    kind = reference.choice("kind", ["KeyProvider", "ClusterKeyProvider"], "KeyProvider")
    parsed = EncryptedModel(
        namespace=meta.text("namespace", pattern="[a-z0-9-]{1,63}"),
        name=name,
        uid=meta.text("uid", limit=64),
        generation=meta.number("generation", 0, low=0, high=1 << 62),
        model=model.text("name", pattern=f"{MODEL_PART}/{MODEL_PART}"),
        digest=model.optional_text("digest", pattern="sha256:[0-9a-f]{64}"),
        min_sequence=_min_sequence(model),
        signers=model.texts("signers", pattern=SIGNER, limit=8),
        source=_source(spec.section("source")),
        provider_kind="KeyProvider" if kind == "KeyProvider" else "ClusterKeyProvider",
        provider_name=reference.text("name", pattern=OBJECT_NAME),
        service_account=spec.text("serviceAccountName", pattern=OBJECT_NAME),
        model_size=size,
        compiled_size=spec.size("compiledSize", str(2 * size), high=2 * _MAX_SIZE),
        replicas=spec.number("replicas", 1, low=0, high=1000),
        suspend=spec.flag("suspend", False),
        delivery=Delivery(spec.choice("delivery", ["Memfd", "Tmpfs"], "Memfd").lower()),
        server=_server(spec.section("server")) if spec.has("server") else None,
        devices=read_devices(device),
        device_properties=read_properties(device),
        combine=read_combine(device),
        groups=device.numbers("supplementalGroups", low=1, high=(1 << 31) - 1, limit=8),
        serving=_serving(spec.section("serving"), name),
        template=_template(spec.section("template")),
        rollout=_rollout(spec.section("rollout")),
        managed_network=spec.choice("networkPolicy", ["Managed", "Unmanaged"], "Managed")
        == "Managed",
        allow_from=tuple(parse_peer(peer) for peer in spec.sections("allowFrom", 16)),
    )
    return _consistent(parsed, spec)


def _consistent(model: EncryptedModel, spec: Fields) -> EncryptedModel:
    if model.service_account == "default":
        raise spec.wrong("serviceAccountName", "a service account of this model's own")
    if (model.server is not None) != (model.delivery is Delivery.TMPFS):
        raise spec.wrong("delivery", "Tmpfs exactly when another server is named")
    return model


def _min_sequence(model: Fields) -> int | None:
    return model.number("minSequence", low=0, high=1 << 53) if model.has("minSequence") else None


def _source(source: Fields) -> Source:
    present = [n for n in ("persistentVolumeClaim", "http", "image") if source.has(n)]
    if len(present) != 1:
        raise Refusal(
            source.reason, "spec.source must have exactly one of persistentVolumeClaim, http, image"
        )
    fields = source.section(present[0])
    if present[0] == "http":
        return _web(fields)
    if present[0] == "image":
        return Image(
            reference=fields.text("reference", pattern=IMAGE),
            path=_folder(fields),
            pull_policy=fields.choice(
                "pullPolicy", ["Always", "IfNotPresent", "Never"], "IfNotPresent"
            ),
        )
    return Claim(name=fields.text("claimName", pattern=OBJECT_NAME), path=_folder(fields))


def _folder(fields: Fields) -> str | None:
    path = fields.optional_text("path", pattern=_FOLDER, limit=512)
    if path and {".", ".."} & set(path.split("/")):
        raise fields.wrong("path", "a path without '.' and '..'")
    return path


def _web(fields: Fields) -> Web:
    return Web(
        url=fields.text("url", pattern=_URL, limit=2048),
        ca=_key_ref(fields, "caConfigMapRef", "ca.crt"),
        token=_key_ref(fields, "tokenSecretRef", "token"),
        proxy=fields.optional_text("proxy", pattern=_PROXY, limit=256),
        egress=tuple(
            Peer(
                cidr=peer.text("cidr", pattern=CIDR),
                ports=peer.numbers("ports", low=1, high=65535, limit=8),
            )
            for peer in fields.sections("egress", 16)
        ),
    )


def _key_ref(fields: Fields, name: str, key: str) -> KeyRef | None:
    if not fields.has(name):
        return None
    found = fields.section(name)
    return KeyRef(
        name=found.text("name", pattern=OBJECT_NAME), key=found.text("key", key, pattern=_KEY)
    )


def _server(server: Fields) -> Server:
    uid = server.number("runAsUser", RUNTIME_UID, low=1, high=65533)
    if uid == AGENT_UID:
        raise server.wrong("runAsUser", "another uid than the agent's")
    return Server(
        image=server.text("image", pattern=IMAGE),
        args=server.texts("args", limit=32),
        readiness_path=server.text(
            "readinessPath", "/v2/health/ready", pattern="/[A-Za-z0-9._~/-]*"
        ),
        uid=uid,
    )


def _serving(serving: Fields, name: str) -> Serving:
    pattern = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
    batching = serving.section("batching")
    return Serving(
        model_name=serving.text("modelName", name, pattern=pattern, limit=128),
        hint=serving.choice("performanceHint", ["Auto", "Latency", "Throughput"], "Auto").upper(),
        max_body=serving.size("maxBodySize", "16Mi", low=1024, high=1 << 31),
        queue=serving.number("queueSize", 16, low=1, high=1024),
        timeout=serving.number("requestTimeoutSeconds", 30, low=1, high=3600),
        batch_rows=batching.number("maxRows", 1, low=1, high=1024),
        batch_delay=batching.number("maxDelayMilliseconds", 0, low=0, high=1000),
    )


def _template(template: Fields) -> Template:
    meta, cpu = template.section("metadata"), template.section("cpu")
    labels, annotations = meta.labels("labels"), meta.labels("annotations")
    if any(k.startswith(("modelseal.dev/", "app.kubernetes.io/")) for k, _ in labels):
        raise meta.wrong("labels", "free of modelseal.dev/ and app.kubernetes.io/")
    if any(k.startswith("modelseal.dev/") for k, _ in annotations):
        raise meta.wrong("annotations", "free of modelseal.dev/")
    group = (
        template.number("fsGroup", low=1, high=(1 << 31) - 1) if template.has("fsGroup") else None
    )
    return Template(
        labels=labels,
        annotations=annotations,
        agent_cpu=_cpu(cpu.section("agent")),
        runtime_cpu=_cpu(cpu.section("runtime")),
        node_selector=template.labels("nodeSelector"),
        tolerations=tuple(_toleration(t) for t in template.sections("tolerations", 16)),
        spread=tuple(_spread(s) for s in template.sections("topologySpread", 4)),
        priority_class=template.optional_text("priorityClassName", pattern=OBJECT_NAME),
        runtime_class=template.optional_text("runtimeClassName", pattern=OBJECT_NAME),
        fs_group=group,
        pull_secrets=template.texts("imagePullSecrets", pattern=OBJECT_NAME, limit=8),
    )


def _cpu(fields: Fields) -> Cpu:
    return Cpu(request=fields.cpu("request"), limit=fields.cpu("limit"))


def _toleration(fields: Fields) -> Toleration:
    seconds = (
        fields.number("tolerationSeconds", low=-(1 << 31), high=1 << 31)
        if fields.has("tolerationSeconds")
        else None
    )
    return Toleration(
        key=fields.optional_text("key", limit=317),
        operator=fields.choice("operator", ["Exists", "Equal"], "Equal"),
        value=fields.optional_text("value", limit=63),
        effect=fields.optional_text("effect", pattern="NoSchedule|PreferNoSchedule|NoExecute"),
        seconds=seconds,
    )


def _spread(fields: Fields) -> Spread:
    return Spread(
        key=fields.text("topologyKey", limit=317),
        skew=fields.number("maxSkew", 1, low=1, high=1000),
        when=fields.choice(
            "whenUnsatisfiable", ["ScheduleAnyway", "DoNotSchedule"], "ScheduleAnyway"
        ),
    )


def _rollout(rollout: Fields) -> Rollout:
    strategy = (
        rollout.choice("strategy", ["RollingUpdate", "Recreate"])
        if rollout.has("strategy")
        else None
    )
    drain = rollout.number("drainSeconds", 10, low=1, high=600)
    grace = rollout.number("terminationGracePeriodSeconds", 60, low=5, high=3600)
    if drain >= grace:
        raise rollout.wrong("drainSeconds", "below terminationGracePeriodSeconds")
    deadline = rollout.number("progressDeadlineSeconds", 600, low=30, high=86400)
    return Rollout(strategy=strategy, deadline=deadline, drain=drain, grace=grace)
