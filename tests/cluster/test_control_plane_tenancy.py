"""Who may use which provider, lend which account, and deploy what."""

from collections.abc import Callable
from typing import Any

import pytest

from support import installation
from support.control_plane import ControlPlane, wait_until
from support.kube_api import ApiRefused, KubeApi
from support.operator_objects import OTHER_SIGNER, merged
from support.operator_process import OperatorProcess, service_account_token
from support.tenant import Tenant, example

Json = dict[str, Any]
pytestmark = pytest.mark.controlplane
COMPANY: Json = {"keyProviderRef": {"kind": "ClusterKeyProvider", "name": "company"}}


def company(api: KubeApi, *grants: Json, **spec: object) -> None:
    """Apply the cluster's provider with these grants and no others."""
    change = {"spec": {"allowedNamespaces": list(grants), "egress": None, **spec}}
    api.delete("ClusterKeyProvider", "company")
    api.create(merged(example("clusterkeyprovider"), change))


def grant(tenant: Tenant, *models: str) -> Json:
    return {"namespace": tenant.namespace, "models": list(models or ["vision/*"])}


def test_a_model_waits_for_its_provider_and_keeps_running_without_it(
    operator: OperatorProcess, tenant: Tenant
) -> None:
    tenant.model()
    assert "create it" in tenant.wait("ProviderNotFound", kind="Accepted")["message"]
    assert not any(tenant.children().values())
    tenant.provider()
    tenant.serving()
    before = tenant.children()
    tenant.api.delete("KeyProvider", "vault", tenant.namespace)
    tenant.wait("ProviderNotFound")
    assert tenant.children() == before


def test_the_provider_of_another_namespace_cannot_be_borrowed(
    operator: OperatorProcess, new_tenant: Callable[..., Tenant]
) -> None:
    rich, poor = new_tenant(), new_tenant()
    rich.provider()
    rich.model()
    rich.serving()
    poor.model()
    poor.wait("ProviderNotFound")
    assert not any(poor.children().values())


def test_a_cluster_provider_serves_only_namespaces_and_models_that_it_lists(
    operator: OperatorProcess, tenant: Tenant, api: KubeApi
) -> None:
    company(api)
    try:
        tenant.model(**COMPANY)
        assert tenant.namespace in tenant.wait("NamespaceNotAllowed")["message"]
        assert not any(tenant.children().values())
        company(api, grant(tenant, "speech/*", "vision/other"))
        tenant.wait("ModelNotAllowed")
        assert not any(tenant.children().values())
        company(api, grant(tenant))
        tenant.serving()
        company(api)
        tenant.wait("NamespaceNotAllowed")
        wait_until(lambda: not any(tenant.children().values()), "the children are gone")
    finally:
        api.delete("ClusterKeyProvider", "company")


@pytest.mark.parametrize(
    ("provider", "spec", "reason"),
    [
        ({"delivery": None}, {}, "DeliveryNotAllowed"),
        ({"delivery": {"serverImages": None}}, {}, "ServerImageNotAllowed"),
        ({}, {"model": {"signers": [OTHER_SIGNER]}}, "SignersNotAllowed"),
    ],
)
def test_a_model_may_only_tighten_what_its_provider_says(
    operator: OperatorProcess, tenant: Tenant, provider: Json, spec: Json, reason: str
) -> None:
    company(tenant.api, grant(tenant), **provider)
    try:
        tenant.create(merged(example("filetype-tmpfs"), {"spec": spec}))
        tenant.wait(reason, "filetype-ovms", "Accepted")
        assert not any(tenant.children().values())
    finally:
        tenant.api.delete("ClusterKeyProvider", "company")


def editor(tenant: Tenant, *more: Json) -> KubeApi:
    """Return a user who may write EncryptedModels, and nothing else but what `more` says."""
    write = {"apiGroups": ["modelseal.dev"], "resources": ["*"], "verbs": ["*"]}
    kind = {"apiVersion": "rbac.authorization.k8s.io/v1"}
    named = {"metadata": {"name": "editor"}}
    tenant.create({**kind, **named, "kind": "Role", "rules": [write, *more]})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "editor"}
    user = f"editor-of-{tenant.namespace}"
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}
    binding = {"kind": "RoleBinding", "roleRef": role, "subjects": [subject]}
    tenant.create({**kind, **named, **binding})
    return tenant.api.impersonate(user)


def lend(tenant: Tenant, user: KubeApi, **spec: object) -> Json:
    place = {"metadata": {"namespace": tenant.namespace}, "spec": spec}
    return user.create(merged(example("filetype"), place))


def test_who_may_not_create_pods_cannot_lend_a_service_account(tenant: Tenant) -> None:
    user = editor(tenant)

    def sentence() -> str:
        try:
            lend(tenant, user)
        except ApiRefused as error:
            return error.message
        tenant.api.delete("EncryptedModel", "filetype", tenant.namespace)
        return ""

    # a fresh Role and the policies take a moment to be seen
    said = wait_until(lambda: (s := sentence()) and "you may not run pods" in s and s, "it refuses")
    assert "as service account filetype: ask for" in said
    tenant.model()
    changed = {"spec": {"serviceAccountName": "other"}}
    with pytest.raises(ApiRefused, match="you may not run pods as service account other"):
        user.patch("EncryptedModel", "filetype", changed, tenant.namespace)
    user.patch("EncryptedModel", "filetype", {"spec": {"replicas": 2}}, tenant.namespace)
    user.close()


@pytest.mark.parametrize(
    "right",
    [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]},
        {
            "apiGroups": [""],
            "resources": ["serviceaccounts"],
            "resourceNames": ["filetype"],
            "verbs": ["use"],
        },
    ],
)
def test_who_may_create_pods_or_use_the_account_can_lend_it(tenant: Tenant, right: Json) -> None:
    user = editor(tenant, right)

    def lent() -> bool:
        try:
            lend(tenant, user)
        except ApiRefused:
            return False
        return True

    wait_until(lent, "the model is created")
    user.close()


def test_who_may_not_read_a_secret_cannot_send_it_to_an_address(tenant: Tenant) -> None:
    account = {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["use"]}
    user = editor(tenant, account)
    wait_until(lambda: _allowed(user, "serviceaccounts", "use", tenant), "the right is there")
    web = {"url": "https://evil.example.org", "tokenSecretRef": {"name": "other"}}
    with pytest.raises(ApiRefused, match="you may not read the secret other"):
        lend(tenant, user, source={"persistentVolumeClaim": None, "http": web})
    user.close()


def _allowed(user: KubeApi, resource: str, verb: str, tenant: Tenant) -> bool:
    asked = {"namespace": tenant.namespace, "resource": resource, "verb": verb}
    review = user.call(
        "POST",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked},
        },
    )
    return bool(review["status"]["allowed"])


@pytest.fixture(scope="module")
def stolen(plane: ControlPlane) -> KubeApi:
    """Return the API server as whoever has the operator's token sees it."""
    return KubeApi(plane.server, plane.folder / "ca.pem", service_account_token(plane))


def with_pod(**change: object) -> Json:
    return {"spec": {"template": {"spec": change}}}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (with_pod(automountServiceAccountToken=True), "never automount its token"),
        (with_pod(serviceAccountName="default", serviceAccount=None), "name a service account"),
        (with_pod(hostNetwork=True), "share no namespace with their node"),
        (with_pod(hostPID=True), "share no namespace with their node"),
        (with_pod(shareProcessNamespace=True), "nor processes with each other"),
        (with_pod(volumes=[{"name": "a", "hostPath": {"path": "/"}}]), "mount memory, settings"),
        (with_pod(volumes=[{"name": "a", "secret": {"secretName": "s"}}]), "no other secret"),
        (with_pod(containers=[{"name": "a", "image": "a"}]), "unprivileged, with a read-only"),
        (
            with_pod(
                volumes=[
                    {
                        "name": "more",
                        "projected": {"sources": [{"secret": {"name": "s"}}]},
                    }
                ]
            ),
            "no other secret",
        ),
    ],
)
def test_a_stolen_token_of_the_operator_deploys_only_pods_of_its_shape(
    operator: OperatorProcess, tenant: Tenant, stolen: KubeApi, change: Json, sentence: str
) -> None:
    deployment = _deployment(tenant)
    changed = merged(deployment, change)
    pod = changed["spec"]["template"]["spec"]
    # beside what the case adds the pod stays whole, or the API server would refuse it for less
    for field in ("volumes", "containers"):
        extra = change["spec"]["template"]["spec"].get(field, [])
        kept = deployment["spec"]["template"]["spec"][field]
        pod[field] = [*kept, *extra]
    with pytest.raises(ApiRefused) as caught:
        stolen.create(changed, "?dryRun=All")
    assert sentence in caught.value.message
    stolen.create(deployment, "?dryRun=All")


@pytest.mark.parametrize("namespace", ["kube-system", installation.NAMESPACE])
def test_a_stolen_token_of_the_operator_deploys_nothing_into_system_namespaces(
    operator: OperatorProcess, tenant: Tenant, stolen: KubeApi, namespace: str
) -> None:
    raw = merged(_deployment(tenant), {"metadata": {"namespace": namespace}})
    with pytest.raises(ApiRefused, match="does not deploy into system namespaces"):
        stolen.create(raw, "?dryRun=All")


def _deployment(tenant: Tenant) -> Json:
    tenant.provider()
    tenant.model()
    tenant.serving()
    raw = tenant.get("filetype", "Deployment")
    where = {"name": "copy", "namespace": tenant.namespace}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": where, "spec": raw["spec"]}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/secrets"),
        ("GET", "/api/v1/namespaces/modelseal-system/secrets/x"),
        ("POST", "/api/v1/namespaces/modelseal-system/serviceaccounts/modelseal/token"),
        ("POST", "/api/v1/namespaces/default/pods"),
        ("POST", "/api/v1/namespaces/default/pods/x/exec"),
        ("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles"),
    ],
)
def test_a_stolen_token_of_the_operator_reads_no_secret_and_makes_no_token(
    stolen: KubeApi, method: str, path: str
) -> None:
    with pytest.raises(ApiRefused) as caught:
        stolen.call(method, path, {} if method == "POST" else None)
    assert caught.value.status == 403
