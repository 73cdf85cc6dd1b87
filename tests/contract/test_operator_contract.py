"""What the operator writes, agent and runtime read; what the CRDs promise, the code keeps."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelseal.contract import (
    AGENT_UID,
    GRPC_PORT,
    HEALTH_PORT,
    REPORT_PORT,
    REST_PORT,
    Reason,
    Stage,
)
from modelseal.engine.configuration import PER_DEVICE, read_by_device
from modelseal.envelope import Policy
from modelseal.errors import ModelsealError
from modelseal.keys.uri import parse_key_uri
from modelseal_operator.children import Context, build_children
from modelseal_operator.foreign import AGENT_REASONS, parse_farewell, parse_report
from modelseal_operator.provider import parse_provider
from modelseal_operator.resource import parse_model
from modelseal_runtime.settings import Settings as RuntimeSettings
from modelseal_sidecar.provider_directory import ProviderDirectory
from modelseal_sidecar.report import render_report, render_termination
from modelseal_sidecar.server import respond
from modelseal_sidecar.settings import LeaseSettings
from modelseal_sidecar.settings import Settings as AgentSettings
from modelseal_sidecar.status import Board, Status, utc_now
from support.operator_objects import (
    EXAMPLES,
    ROOT,
    cluster_provider_object,
    context,
    example,
    model_object,
    provider_object,
)

KV = provider_object(vault={"transit": None, "kv": {"path": "{owner}/{name}", "version": 2}})
VARIANTS: dict[str, Callable[[], Context]] = {
    "smallest": context,
    "full": lambda: context(example("filetype-full"), cluster_provider_object()),
    "tmpfs": lambda: context(example("filetype-tmpfs"), cluster_provider_object()),
    "kv": lambda: context(provider=KV),
    "combined": lambda: context(
        model_object(device={"preference": ["GPU", "CPU"], "combine": "Hetero"})
    ),
    "unsigned": lambda: context(provider=provider_object(signers=None, allowUnsigned=True)),
    "bounds": lambda: context(
        model_object(
            modelSize=1,
            serving={"maxBodySize": "2Gi", "queueSize": 1024, "requestTimeoutSeconds": 3600},
            rollout={"drainSeconds": 1, "terminationGracePeriodSeconds": 5},
        )
    ),
}


def containers(found: Context) -> tuple[Any, Any]:
    workload = next(c for c in build_children(found) if c["kind"] == "Deployment")
    pod = workload["spec"]["template"]["spec"]
    return pod["initContainers"][0], pod["containers"][0]


def environment(container: Any) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container.get("env", [])}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_agent_reads_what_the_operator_tells_it(name: str) -> None:
    found = VARIANTS[name]()
    agent, _ = containers(found)
    settings = AgentSettings.from_env(environment(agent))
    model = found.model
    assert settings.model == model.model
    assert settings.model_size == model.model_size
    assert settings.delivery is model.delivery
    assert settings.signers == found.resolved.signers
    assert settings.vault is not None
    assert settings.vault.role == found.resolved.role
    assert settings.vault.auth == found.resolved.provider.vault.auth
    parse_key_uri(settings.key)
    mounted = [mount["mountPath"] for mount in agent["volumeMounts"]]
    for path in (settings.vault.token_file, settings.source_ca_file, settings.source_token_file):
        assert path is None or any(path.is_relative_to(place) for place in mounted)


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "tmpfs"])
def test_the_runtime_reads_what_the_operator_tells_it(name: str) -> None:
    found = VARIANTS[name]()
    _, runtime = containers(found)
    settings = RuntimeSettings.from_env(environment(runtime))
    assert settings.model_name == found.model.serving.model_name
    together = (f"HETERO:{','.join(found.device.usable)}",)
    assert settings.devices == (together if name == "combined" else found.device.usable)
    assert settings.peer_uid == AGENT_UID
    assert settings.max_body_bytes == found.model.serving.max_body
    assert settings.device_properties == read_by_device(found.model.device_properties)
    assert settings.batch_rows == found.model.serving.batch_rows
    assert settings.batch_wait == found.model.serving.batch_delay / 1000
    sleep = runtime["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert sleep + settings.drain_seconds <= found.model.rollout.grace
    ports = {port["containerPort"] for port in runtime["ports"]}
    assert ports == {settings.rest_port, settings.grpc_port, settings.health_port}
    assert ports == {REST_PORT, GRPC_PORT, HEALTH_PORT}


@pytest.mark.parametrize("name", sorted(PER_DEVICE))
@pytest.mark.parametrize(
    "value", ["true", "7", "AUTO", "f32", "ACCURACY", "HIGH", "x", "1 2", "-1"]
)
def test_the_api_server_takes_the_device_properties_that_the_runtime_takes(
    name: str, value: str
) -> None:
    word = f"NPU.{name}={value}"
    assert allowed_by_crd(word) == read_without_error(word)


@pytest.mark.parametrize("word", ["CPU.CACHE_DIR=x", "CPU.PERFORMANCE_HINT=LATENCY", "GPU.0.X=1"])
def test_neither_takes_another_property(word: str) -> None:
    assert not allowed_by_crd(word)
    assert not read_without_error(word)


def allowed_by_crd(word: str) -> bool:
    """Whether the rule in the CRD takes a device property; its parts are joined by and, or."""
    crd = yaml.safe_load((ROOT / "crds" / "modelseal.dev_encryptedmodels.yaml").read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    items = spec["properties"]["device"]["properties"]["properties"]["items"]
    first, *others = re.findall(r"matches\('(.*?)'\)", items["x-kubernetes-validations"][0]["rule"])
    return bool(re.search(first, word)) and any(re.search(other, word) for other in others)


def read_without_error(word: str) -> bool:
    """Whether the runtime takes a device property."""
    try:
        read_by_device([word])
    except ModelsealError:
        return False
    return True


def test_each_side_of_the_socket_expects_the_other_sides_uid() -> None:
    agent, runtime = containers(context())
    agent_settings = AgentSettings.from_env(environment(agent))
    runtime_settings = RuntimeSettings.from_env(environment(runtime))
    assert agent_settings.peer_uid == runtime["securityContext"]["runAsUser"]
    assert runtime_settings.peer_uid == agent["securityContext"]["runAsUser"]
    assert agent_settings.socket == runtime_settings.socket


def test_probes_ask_for_paths_that_the_agent_has() -> None:
    agent, runtime = containers(context())
    status = Status(delivery=context().model.delivery, model="a/b", since=utc_now())
    for probe in (agent["livenessProbe"], runtime["startupProbe"], runtime["livenessProbe"]):
        assert probe["httpGet"]["port"] == REPORT_PORT
        assert respond(probe["httpGet"]["path"], "GET", status)[0] in (200, 503)


def test_a_running_agent_reads_the_lease_and_the_ca_from_the_config_map(tmp_path: Path) -> None:
    ca = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"
    provider = provider_object(
        vault={"caBundle": ca}, lease={"intervalSeconds": 7, "maxStaleSeconds": 70}
    )
    children = build_children(context(provider=provider))
    (data,) = (child["data"] for child in children if child["kind"] == "ConfigMap")
    for name, text in data.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    directory = ProviderDirectory(tmp_path, LeaseSettings(interval=60, max_stale=600), None)
    assert directory.lease() == LeaseSettings(interval=7, max_stale=70)
    path = directory.ca_file()
    assert path is not None
    assert path.read_text(encoding="utf-8") == ca


def test_a_running_agent_reads_from_the_config_map_which_seals_are_withdrawn(
    tmp_path: Path,
) -> None:
    digests = [f"sha256:{digit * 64}" for digit in "ab"]
    bounds = [
        {"name": "vision/other", "minSequence": 99},
        {"name": "vision/filetype", "minSequence": 4, "digests": digests},
    ]
    children = build_children(context(provider=provider_object(models=bounds)))
    (data,) = (child["data"] for child in children if child["kind"] == "ConfigMap")
    for name, text in data.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    directory = ProviderDirectory(tmp_path, LeaseSettings(interval=60, max_stale=600), None)
    found = directory.narrowed(Policy(model="vision/filetype"))
    assert (found.min_sequence, found.allowed) == (4, frozenset(digests))


def test_withdrawing_a_version_rolls_no_pod() -> None:
    bound = {"name": "vision/filetype", "minSequence": 4}
    templates = [
        child["spec"]["template"]
        for provider in (provider_object(), provider_object(models=[bound]))
        for child in build_children(context(provider=provider))
        if child["kind"] == "Deployment"
    ]
    assert templates[0] == templates[1]


@pytest.mark.parametrize("reason", sorted(AGENT_REASONS))
def test_the_operator_reads_what_agents_report_and_say_at_their_end(reason: Reason) -> None:
    board = Board(Status(delivery=context().model.delivery, model="a/b", since=utc_now()))
    board.settle(Stage.FETCH, reason)
    board.change(model_size=5, version="1.0", digest="sha256:" + "0" * 64)
    report = parse_report(render_report(board.read()))
    assert report is not None
    assert (report.stage, report.reason, report.model_size) == (Stage.FETCH, reason, 5)
    assert (report.version, report.digest) == ("1.0", "sha256:" + "0" * 64)
    failure = type("Failure", (ModelsealError,), {"stage": Stage.FETCH, "reason": reason})("x")
    body = render_termination(failure, board.read())
    farewell = parse_farewell(body.decode(), AGENT_REASONS)
    assert farewell is not None
    assert (farewell.stage, farewell.reason, farewell.model_size) == (Stage.FETCH, reason, 5)


def crd(name: str) -> Any:
    path = ROOT / "crds" / f"modelseal.dev_{name}.yaml"
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


CRDS = ("encryptedmodels", "keyproviders", "clusterkeyproviders")


def fields(schema: Any, path: str = "") -> list[tuple[str, Any]]:
    found = []
    for name, inner in schema.get("properties", {}).items():
        found += [(f"{path}.{name}", inner), *fields(inner, f"{path}.{name}")]
    if "items" in schema:
        found += fields(schema["items"], f"{path}[]")
    return found


@pytest.mark.parametrize("name", CRDS)
def test_every_field_is_described_bounded_and_structural(name: str) -> None:
    for path, schema in fields(crd(name)):
        assert "x-kubernetes-preserve-unknown-fields" not in schema, path
        if path in (".metadata", ".apiVersion", ".kind"):  # the API server describes these itself
            continue
        assert schema.get("description", "").endswith((".", "`")), path
        if schema.get("type") == "string" and "enum" not in schema:
            assert "maxLength" in schema or schema.get("format") == "date-time", path
        if schema.get("type") == "array":
            assert "maxItems" in schema, path
            assert "x-kubernetes-list-type" in schema, path
        if schema.get("type") == "object" and "additionalProperties" in schema:
            assert "maxProperties" in schema, path


@pytest.mark.parametrize("name", CRDS)
def test_every_rule_has_a_message_that_says_what_to_do(name: str) -> None:
    top = crd(name)
    schemas = [
        top,
        *(s for _, s in fields(top)),
        *(s["items"] for _, s in fields(top) if "items" in s),
    ]
    rules = [rule for s in schemas for rule in s.get("x-kubernetes-validations", [])]
    assert rules
    for rule in rules:
        assert len(rule["message"]) > 20, rule


def defaulted(schema: Any, value: Any) -> Any:
    """Return a value with the schema's defaults, as the API server stores it."""
    if isinstance(value, dict):
        found = dict(value)
        for name, inner in schema.get("properties", {}).items():
            if name not in found and "default" in inner:
                found[name] = inner["default"]
            if name in found:
                found[name] = defaulted(inner, found[name])
        return found
    if isinstance(value, list):
        return [defaulted(schema.get("items", {}), item) for item in value]
    return value


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_defaults_of_the_schema_are_those_of_the_code(path: Path) -> None:
    raw = example(path.stem)
    if raw["kind"] == "EncryptedModel":
        assert parse_model(raw) == parse_model(defaulted(crd("encryptedmodels"), raw))
        return
    schema = crd(f"{raw['kind'].lower()}s")
    kind = raw["kind"]
    assert parse_provider(kind, raw) == parse_provider(kind, defaulted(schema, raw))


def test_the_two_providers_differ_only_in_who_may_use_them_and_the_audience() -> None:
    one, other = crd("keyproviders"), crd("clusterkeyproviders")
    own = {path for path, _ in fields(other)} - {path for path, _ in fields(one)}
    assert {path for path in own if not path.startswith(".spec.allowedNamespaces")} == {
        ".spec.vault.auth.audience"
    }
    theirs = dict(fields(other))
    for path, schema in fields(one):
        if not schema.get("properties") and path not in (".kind",):
            assert schema == theirs[path], path
