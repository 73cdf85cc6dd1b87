"""The kinds that the operator knows, and where the API server has them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from modelseal.contract import API_VERSION, FIELD_MANAGER, GROUP, LABEL_MANAGED_BY
from modelseal_operator.children.common import API_VERSIONS


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of object."""

    name: str
    group: str
    version: str
    plural: str
    namespaced: bool = True
    selector: str | None = None
    """What a watch asks for; None is everything."""

    @property
    def api_version(self) -> str:
        """Group and version as they are written in objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, sub: str = "") -> str:
        """Return the path of an object or of a list."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts += [self.plural, *([name] if name else []), *([sub] if sub else [])]
        return "/" + "/".join(parts)


OURS: Final = f"{LABEL_MANAGED_BY}={FIELD_MANAGER}"


def _own(name: str, plural: str, *, namespaced: bool = True) -> Kind:
    return Kind(name=name, group=GROUP, version=API_VERSION, plural=plural, namespaced=namespaced)


def _child(name: str, plural: str) -> Kind:
    group, _, version = API_VERSIONS[name].rpartition("/")
    return Kind(name=name, group=group, version=version, plural=plural, selector=OURS)


MODEL: Final = _own("EncryptedModel", "encryptedmodels")
PROVIDER: Final = _own("KeyProvider", "keyproviders")
CLUSTER_PROVIDER: Final = _own("ClusterKeyProvider", "clusterkeyproviders", namespaced=False)
CHILDREN: Final = (
    _child("ConfigMap", "configmaps"),
    _child("NetworkPolicy", "networkpolicies"),
    _child("Service", "services"),
    _child("PodDisruptionBudget", "poddisruptionbudgets"),
    _child("Deployment", "deployments"),
)
REPLICA_SET: Final = Kind(
    name="ReplicaSet", group="apps", version="v1", plural="replicasets", selector=OURS
)
POD: Final = Kind(name="Pod", group="", version="v1", plural="pods", selector=OURS)
NODE: Final = Kind(name="Node", group="", version="v1", plural="nodes", namespaced=False)
EVENT: Final = Kind(name="Event", group="events.k8s.io", version="v1", plural="events")
LEASE: Final = Kind(name="Lease", group="coordination.k8s.io", version="v1", plural="leases")

WATCHED: Final = (MODEL, PROVIDER, CLUSTER_PROVIDER, *CHILDREN, REPLICA_SET, POD)
KINDS: Final[Mapping[str, Kind]] = {kind.name: kind for kind in (*WATCHED, NODE, EVENT)}
