"""Whatever a tenant writes that the API server takes ends in a status, and stops nobody else."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.control_plane import wait_until
from support.installation import objects
from support.kube_api import ApiRefused
from support.operator_objects import merged
from support.operator_process import OperatorProcess
from support.tenant import Tenant, example

Json = dict[str, Any]
pytestmark = pytest.mark.controlplane
BATCH = 12
LONGEST = 40


def _texts(schema: Json) -> st.SearchStrategy[str]:
    limit = min(schema.get("maxLength", LONGEST), LONGEST)
    free = st.text(max_size=limit)
    if "pattern" not in schema:
        return free
    return st.one_of(st.from_regex(schema["pattern"], fullmatch=True), free)


def values(schema: Json) -> st.SearchStrategy[Any]:
    """Return values of a schema: mostly such as it allows, now and then others."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        quantities = ["1", "1Mi", "1.5Gi", "100m", "1e9", "9Ei", "-1", "0", "8Ti"]
        return st.one_of(st.integers(0, 1 << 40), st.sampled_from(quantities), st.text(max_size=8))
    if schema.get("type") == "array":
        return st.lists(values(schema["items"]), max_size=3)
    if schema.get("type") == "integer":
        low, high = schema.get("minimum", -(1 << 31)), schema.get("maximum", (1 << 31) - 1)
        return st.one_of(st.integers(low, high), st.sampled_from([low, high]))
    scalars: dict[str, Callable[[], st.SearchStrategy[Any]]] = {
        "boolean": st.booleans,
        "string": lambda: _texts(schema),
    }
    return scalars.get(schema.get("type", ""), lambda: _objects(schema))()


def _objects(schema: Json) -> st.SearchStrategy[Json]:
    if "additionalProperties" in schema:
        return st.dictionaries(st.text(max_size=20), values(schema["additionalProperties"]))
    fields = schema.get("properties", {})
    required = {k: values(v) for k, v in fields.items() if k in schema.get("required", ())}
    optional = {k: values(v) for k, v in fields.items() if k not in required}
    return st.fixed_dictionaries(required, optional=optional)


def spec_schema(kind: str) -> Json:
    (crd,) = (
        raw
        for raw in objects()
        if raw["kind"] == "CustomResourceDefinition" and raw["spec"]["names"]["kind"] == kind
    )
    found: Json = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return found


@st.composite
def changes(draw: st.DrawFn, schema: Json) -> Json:
    """Return a change of one to three fields of a spec."""
    names = draw(st.lists(st.sampled_from(sorted(schema["properties"])), min_size=1, max_size=3))
    return {name: draw(values(schema["properties"][name])) for name in names}


QUIET: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}


@pytest.mark.timeout(120)
def test_every_spec_that_the_api_server_takes_gets_a_status_and_fails_no_pass(
    operator: OperatorProcess, tenant: Tenant
) -> None:
    tenant.provider()
    taken: list[str] = []

    @settings(max_examples=8, **QUIET)
    @given(st.lists(changes(spec_schema("EncryptedModel")), min_size=6, max_size=BATCH))
    def check(specs: list[Json]) -> None:
        made = [name for name, spec in _named(specs, "m") if _taken(tenant, "filetype", name, spec)]
        taken.extend(made)
        try:
            wait_until(lambda: all(_told(tenant, name) for name in made), f"{made} are told")
        finally:
            for name in made:
                tenant.api.delete("EncryptedModel", name, tenant.namespace)

    check()
    assert len(taken) > 8
    assert operator.metric('modelseal_operator_reconciles_total{result="failure"}') == 0
    assert "Traceback" not in operator.text


@pytest.mark.timeout(120)
def test_every_provider_that_the_api_server_takes_leaves_its_models_with_a_status(
    operator: OperatorProcess, tenant: Tenant
) -> None:
    told: list[str] = []

    @settings(max_examples=4, **QUIET)
    @given(st.lists(changes(spec_schema("KeyProvider")), min_size=6, max_size=BATCH))
    def check(specs: list[Json]) -> None:
        named = _named(specs, "p")
        made = [name for name, spec in named if _taken(tenant, "keyprovider", name, spec)]
        for name in made:
            assert _taken(tenant, "filetype", f"of-{name}", {"keyProviderRef": {"name": name}})
        told.extend(made)
        try:
            wait_until(lambda: all(_told(tenant, f"of-{name}") for name in made), "all told")
        finally:
            for name in made:
                tenant.api.delete("EncryptedModel", f"of-{name}", tenant.namespace)
                tenant.api.delete("KeyProvider", name, tenant.namespace)

    check()
    assert len(told) > 4
    assert operator.metric('modelseal_operator_reconciles_total{result="failure"}') == 0
    assert "Traceback" not in operator.text


def _named(specs: list[Json], prefix: str) -> list[tuple[str, Json]]:
    return [(f"{prefix}{number}", spec) for number, spec in enumerate(specs)]


def _taken(tenant: Tenant, base: str, name: str, spec: Json) -> bool:
    # what runs costs nothing here, but a thousand pods of one model take their time
    raw = merged(example(base), {"metadata": {"name": name}, "spec": spec})
    if base == "filetype":
        raw["spec"]["replicas"] = min(raw["spec"].get("replicas", 1), 2)
    try:
        tenant.create(raw)
    except ApiRefused as error:
        if error.status not in (400, 422):
            raise
        return False
    return True


def _told(tenant: Tenant, name: str) -> bool:
    status, reason = tenant.says(name, "Accepted")
    return bool(status and reason)
