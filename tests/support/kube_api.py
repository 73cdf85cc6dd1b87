"""A user's hand on an API server: plain JSON over HTTPS, for tests that play admin or tenant."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import urllib3

from modelseal_operator.kinds import KINDS, LEASE, Kind

Json = dict[str, Any]
MERGE: Final = "application/merge-patch+json"
APPLY: Final = "application/apply-patch+yaml"
_CLUSTER_WIDE: Final = {
    "Namespace": "v1/namespaces",
    "PersistentVolume": "v1/persistentvolumes",
    "CustomResourceDefinition": "apiextensions.k8s.io/v1/customresourcedefinitions",
    "ClusterRole": "rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "rbac.authorization.k8s.io/v1/clusterrolebindings",
    "ValidatingAdmissionPolicy": "admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": (
        "admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
    ),
}
_NAMESPACED: Final = {
    "PersistentVolumeClaim": "v1/persistentvolumeclaims",
    "ResourceQuota": "v1/resourcequotas",
    "Secret": "v1/secrets",
    "ServiceAccount": "v1/serviceaccounts",
    "Role": "rbac.authorization.k8s.io/v1/roles",
    "RoleBinding": "rbac.authorization.k8s.io/v1/rolebindings",
}


def _kind(name: str, where: str, *, namespaced: bool) -> Kind:
    api, plural = where.rsplit("/", 1)
    group, _, version = api.rpartition("/")
    return Kind(name=name, group=group, version=version, plural=plural, namespaced=namespaced)


ALL: Final[Mapping[str, Kind]] = {
    **KINDS,
    LEASE.name: LEASE,
    **{name: _kind(name, where, namespaced=False) for name, where in _CLUSTER_WIDE.items()},
    **{name: _kind(name, where, namespaced=True) for name, where in _NAMESPACED.items()},
}


class ApiRefused(Exception):
    """The API server refused; the text is its sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status: Final = status
        self.message: Final = message


class KubeApi:
    """Requests with one user's token, or, with the right to, as somebody else."""

    def __init__(self, server: str, ca_file: Path, token: str, user: str | None = None) -> None:
        self.server: Final = server
        self.ca_file: Final = ca_file
        self._token: Final = token
        self._user: Final = user
        self._pool: Final = urllib3.PoolManager(
            ca_certs=str(ca_file), maxsize=8, timeout=30, retries=False
        )

    def impersonate(self, user: str) -> "KubeApi":
        """Return the same server as another user sees it."""
        return KubeApi(self.server, self.ca_file, self._token, user)

    def close(self) -> None:
        """Close all connections."""
        self._pool.clear()

    def call(
        self, method: str, path: str, body: Json | None = None, content: str = "application/json"
    ) -> Json:
        """Make one request; ApiRefused if the answer is no success."""
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        if self._user:
            headers["Impersonate-User"] = self._user
        if body is not None:
            headers["Content-Type"] = content
        data = json.dumps(body) if body is not None else None
        answer = self._pool.request(method, self.server + path, body=data, headers=headers)
        if answer.status >= 400:
            raise ApiRefused(answer.status, _sentence(answer.data))
        found: Json = json.loads(answer.data)
        return found

    def healthy(self) -> bool:
        """Tell whether the server says that it is ready."""
        headers = {"Authorization": f"Bearer {self._token}"}
        try:
            return self._pool.request("GET", f"{self.server}/readyz", headers=headers).status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def get(self, kind: str, name: str, namespace: str | None = None) -> Json:
        """Return an object; ApiRefused if there is none."""
        return self.call("GET", ALL[kind].path(namespace, name))

    def find(self, kind: str, name: str, namespace: str | None = None) -> Json | None:
        """Return an object, or None if there is none."""
        try:
            return self.get(kind, name, namespace)
        except ApiRefused as error:
            if error.status == 404:
                return None
            raise

    def list(self, kind: str, namespace: str | None = None, query: str = "") -> list[Json]:
        """Return all objects of a kind."""
        found: list[Json] = self.call("GET", ALL[kind].path(namespace) + query)["items"]
        return found

    def create(self, raw: Json, query: str = "") -> Json:
        """Create an object."""
        path = ALL[raw["kind"]].path(raw["metadata"].get("namespace"))
        return self.call("POST", path + query, raw)

    def apply(self, raw: Json, manager: str = "a-user") -> Json:
        """Server-side apply, as `kubectl apply --server-side` does."""
        path = ALL[raw["kind"]].path(raw["metadata"].get("namespace"), raw["metadata"]["name"])
        return self.call("PATCH", f"{path}?fieldManager={manager}", raw, APPLY)

    def patch(
        self, kind: str, name: str, change: Json, namespace: str | None = None, sub: str = ""
    ) -> Json:
        """Merge-patch an object or one of its subresources."""
        return self.call("PATCH", ALL[kind].path(namespace, name, sub), change, MERGE)

    def delete(self, kind: str, name: str, namespace: str | None = None) -> None:
        """Delete an object if it is there."""
        try:
            self.call("DELETE", ALL[kind].path(namespace, name))
        except ApiRefused as error:
            if error.status != 404:
                raise

    def edit(self, kind: str, name: str, namespace: str, change: Callable[[Json], None]) -> Json:
        """Read, change and replace an object, again if somebody else was faster."""
        while True:
            raw = self.get(kind, name, namespace)
            change(raw)
            try:
                return self.call("PUT", ALL[kind].path(namespace, name), raw)
            except ApiRefused as error:
                if error.status != 409:
                    raise


def _sentence(data: bytes) -> str:
    try:
        return str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return data.decode(errors="replace")[:400]
