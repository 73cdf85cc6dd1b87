"""What an installation brings beside the operator: namespace, CRDs and exactly the rights."""

from pathlib import Path
from typing import Any, Final

import yaml

Json = dict[str, Any]
NAMESPACE: Final = "modelseal-system"
ACCOUNT: Final = "modelseal-operator"
_WATCH: Final = ("get", "list", "watch")
_KEEP: Final = (*_WATCH, "create", "patch", "delete")
_RULES: Final = (
    ("modelseal.dev", "encryptedmodels", _WATCH),
    ("modelseal.dev", "encryptedmodels/status", ("patch",)),
    ("modelseal.dev", "keyproviders", ("list", "watch")),
    ("modelseal.dev", "clusterkeyproviders", ("list", "watch")),
    ("", "configmaps", _KEEP),
    ("", "services", _KEEP),
    ("networking.k8s.io", "networkpolicies", _KEEP),
    ("policy", "poddisruptionbudgets", _KEEP),
    ("apps", "deployments", _KEEP),
    ("apps", "replicasets", ("list", "watch")),
    ("", "pods", ("list", "watch")),
    ("", "nodes", ("list", "watch")),
    ("events.k8s.io", "events", ("create",)),
)


def objects(crds: Path) -> list[Json]:
    """Return the objects in the order in which they must be created."""
    found: list[Json] = [yaml.safe_load(p.read_text()) for p in sorted(crds.glob("*.yaml"))]
    metadata = {"name": ACCOUNT}
    subjects = [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}]
    rbac = "rbac.authorization.k8s.io"
    lease = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"]}
    rules = [{"apiGroups": [g], "resources": [r], "verbs": list(v)} for g, r, v in _RULES]
    return [
        *found,
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata | _HERE},
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": metadata, "rules": rules},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": metadata,
            "subjects": subjects,
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": ACCOUNT},
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "Role",
            "metadata": metadata | _HERE,
            "rules": [{**lease, "verbs": ["get", "create", "update"]}],
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": metadata | _HERE,
            "subjects": subjects,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": ACCOUNT},
        },
    ]


_HERE: Final = {"namespace": NAMESPACE}
