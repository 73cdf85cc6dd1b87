"""A KeyProvider or ClusterKeyProvider as a value: whom to ask, whom to trust, and the bounds."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from modelseal.contract import (
    DEFAULT_LEASE_INTERVAL,
    DEFAULT_MAX_STALE,
    MAX_PROVIDER_DIGESTS,
    Demand,
    Reason,
)
from modelseal_operator.fields import Fields
from modelseal_operator.refusal import Refusal

MODEL_PART: Final = r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?"
SIGNER: Final = r"(?:ed25519|ecdsa-p256):[A-Za-z0-9+/]+={0,2}"
IMAGE: Final = r"[a-z0-9][A-Za-z0-9._:/-]{0,430}@sha256:[0-9a-f]{64}"
CIDR: Final = r"[0-9A-Fa-f:.]{2,39}/[0-9]{1,3}"
_ADDRESS: Final = r"https://[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?"
_TIME: Final = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[+-][0-9:]{5})"
)
_PATH: Final = r"[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*"
_WORD: Final = r"[A-Za-z0-9_.-]"
_ROLE: Final = rf"(?:{_WORD}|\{{(?:namespace|serviceAccount|owner|name)\}})+"
_KEY: Final = rf"(?:{_WORD}|\{{(?:owner|name)\}})+"

Kind = Literal["KeyProvider", "ClusterKeyProvider"]
Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Somebody on the network: an address range, or pods by labels. No ports means ours to say."""

    cidr: str | None = None
    namespace_labels: Labels = ()
    pod_labels: Labels = ()
    ports: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Vault:
    """How to reach and address the key service; words like `{owner}` are still to be filled in."""

    address: str
    namespace: str | None
    ca_bundle: str | None
    auth: str
    auth_mount: str
    role: str
    audience: str
    key: str
    """As a key URI, such as `vault:transit/{owner}_{name}`."""


@dataclass(frozen=True, kw_only=True)
class Grant:
    """One entry of allowedNamespaces."""

    namespace: str
    models: tuple[str, ...]

    def covers(self, model: str) -> bool:
        """Tell whether the entry names this model, or all of its owner's."""
        return model in self.models or f"{model.split('/', 1)[0]}/*" in self.models


@dataclass(frozen=True, kw_only=True)
class Retirement:
    """Which versions of the key stop to decrypt, and when, as the provider announces it."""

    below: int
    on: str


@dataclass(frozen=True, kw_only=True)
class Bound:
    """Which seals of one model may be opened; the rest are withdrawn."""

    name: str
    min_sequence: int | None
    digests: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Provider:
    """Everything that a provider says."""

    kind: Kind
    namespace: str | None
    name: str
    vault: Vault
    signers: tuple[str, ...]
    allow_unsigned: bool
    lease_interval: int
    max_stale: int
    allow_tmpfs: bool
    server_images: tuple[str, ...]
    egress: tuple[Peer, ...]
    allow_swap: bool
    demands: tuple[str, ...]
    grants: tuple[Grant, ...]
    bounds: tuple[Bound, ...]
    retirement: Retirement | None

    def bound_of(self, model: str) -> Bound | None:
        """Return the bound of a model, if there is one."""
        return next((bound for bound in self.bounds if bound.name == model), None)

    def allows(self, namespace: str) -> Grant | None:
        """Return the entry for a namespace. A namespaced provider serves its own, for any model."""
        if self.kind == "KeyProvider":
            return Grant(namespace=namespace, models=()) if namespace == self.namespace else None
        return next((grant for grant in self.grants if grant.namespace == namespace), None)


def parse_provider(kind: Kind, raw: Mapping[str, object]) -> Provider:
    """Read a provider; everything wrong with it is `ProviderInvalid`."""
    top = Fields(value=raw, reason=Reason.PROVIDER_INVALID)
    meta, spec = top.section("metadata"), top.section("spec")
    signers = spec.texts("signers", pattern=SIGNER, limit=8)
    unsigned = spec.flag("allowUnsigned", False)
    if bool(signers) == unsigned:
        raise Refusal(
            Reason.PROVIDER_INVALID,
            "the provider must either pin signers or set allowUnsigned: true",
        )
    lease, delivery, posture = (spec.section(name) for name in ("lease", "delivery", "posture"))
    return Provider(
        kind=kind,
        namespace=meta.optional_text("namespace"),
        name=meta.text("name"),
        vault=_vault(spec.section("vault"), cluster=kind == "ClusterKeyProvider"),
        signers=signers,
        allow_unsigned=unsigned,
        lease_interval=lease.number(
            "intervalSeconds", int(DEFAULT_LEASE_INTERVAL), low=5, high=3600
        ),
        max_stale=lease.number("maxStaleSeconds", int(DEFAULT_MAX_STALE), low=5, high=604800),
        allow_tmpfs=delivery.flag("allowTmpfs", False),
        server_images=delivery.texts("serverImages", pattern=IMAGE, limit=16),
        egress=tuple(parse_peer(peer) for peer in spec.sections("egress", 16)),
        allow_swap=posture.choice("swap", ["Refuse", "Allow"], "Refuse") == "Allow",
        demands=posture.texts("require", pattern="|".join(Demand), limit=len(Demand)),
        grants=_grants(spec) if kind == "ClusterKeyProvider" else (),
        bounds=tuple(_bound(entry) for entry in spec.sections("models")),
        retirement=_retirement(spec.section("vault").section("transit")),
    )


def parse_peer(fields: Fields) -> Peer:
    """Read a peer of an egress or ingress list."""
    return Peer(
        cidr=fields.optional_text("cidr", pattern=CIDR),
        namespace_labels=fields.labels("namespaceLabels", 8),
        pod_labels=fields.labels("podLabels", 8),
        ports=fields.numbers("ports", low=1, high=65535, limit=8),
    )


def _vault(vault: Fields, *, cluster: bool) -> Vault:
    auth = vault.section("auth")
    address = vault.text("address", pattern=_ADDRESS, limit=256)
    method = auth.choice("method", ["Kubernetes", "JWT"], "Kubernetes").lower()
    audience = auth.text("audience", address, pattern="[!-~]+", limit=256) if cluster else address
    return Vault(
        address=address,
        namespace=vault.optional_text("namespace", pattern=f"{_PATH}/?", limit=256),
        ca_bundle=vault.optional_text("caBundle", limit=65536),
        auth=method,
        auth_mount=_segments(auth, "mount", auth.text("mount", method, pattern=_PATH, limit=128)),
        role=auth.text("role", pattern=_ROLE, limit=256),
        # a namespaced provider is a tenant's: with an audience of the tenant's choice the token
        # could be replayed at the real key service
        audience=audience,
        key=_key(vault),
    )


def _key(vault: Fields) -> str:
    if not vault.has("kv"):
        transit = vault.section("transit")
        mount = _segments(transit, "mount", transit.text("mount", "transit", pattern=_PATH))
        name = transit.text("keyName", "{owner}_{name}", pattern=_KEY, limit=256)
        return f"vault:{mount}/{_segments(transit, 'keyName', name)}"
    kv = vault.section("kv")
    mount = _segments(kv, "mount", kv.text("mount", "secret", pattern=f"{_WORD}+", limit=128))
    path = _segments(kv, "path", kv.text("path", pattern=rf"{_KEY}(?:/{_KEY})*", limit=512))
    field = kv.text("field", "key", pattern=f"{_WORD}+", limit=128)
    version = kv.number("version", low=1, high=999_999_999)
    return f"vault-kv:{mount}/{path}#{field}@{version}"


def _segments(fields: Fields, name: str, value: str) -> str:
    if any(re.fullmatch(r"\.{1,2}", part) for part in value.split("/")):
        raise fields.wrong(name, "a path without '.' and '..'")
    return value


def _retirement(transit: Fields) -> Retirement | None:
    if not transit.has("retirement"):
        return None
    found = transit.section("retirement")
    return Retirement(
        below=found.number("belowVersion", low=2, high=999_999_999),
        on=found.text("on", pattern=_TIME),
    )


def _bound(entry: Fields) -> Bound:
    lowest = entry.has("minSequence")
    return Bound(
        name=entry.text("name", pattern=f"{MODEL_PART}/{MODEL_PART}"),
        min_sequence=entry.number("minSequence", low=0, high=(1 << 53) - 1) if lowest else None,
        digests=entry.texts("digests", pattern="sha256:[0-9a-f]{64}", limit=MAX_PROVIDER_DIGESTS),
    )


def _grants(spec: Fields) -> tuple[Grant, ...]:
    pattern = rf"{MODEL_PART}/(?:{MODEL_PART}|\*)"
    return tuple(
        Grant(
            namespace=entry.text("namespace", pattern="[a-z0-9-]{1,63}"),
            models=entry.texts("models", pattern=pattern, limit=64),
        )
        for entry in spec.sections("allowedNamespaces")
    )
