"""Services, the NetworkPolicy and the PodDisruptionBudget."""

from collections.abc import Iterable
from typing import Final

from modelseal.contract import GRPC_PORT, HEALTH_PORT, REPORT_PORT, REST_PORT
from modelseal_operator.children.common import Context, Json, child, selector_labels
from modelseal_operator.provider import Peer
from modelseal_operator.resource import Web

_NAMESPACE: Final = "kubernetes.io/metadata.name"
_DNS: Final = ({"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"})


def services(context: Context) -> list[Json]:
    """Return the Service, and a headless one beside it for clients that balance themselves."""
    name = context.model.name
    return [
        child(context.model, "Service", name, {"spec": _service(name)}),
        child(
            context.model,
            "Service",
            headless_name(name),
            {"spec": {**_service(name), "clusterIP": "None"}},
        ),
    ]


def headless_name(name: str) -> str:
    """Return the name of the headless Service."""
    return f"{name}-pods"


def disruption_budget(context: Context) -> Json:
    """Return the budget; only for more than one pod, or nodes could not be drained."""
    spec = {
        "maxUnavailable": 1,
        "selector": {"matchLabels": selector_labels(context.model.name)},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    model = context.model
    return child(model, "PodDisruptionBudget", model.name, {"spec": spec})


def network_policy(context: Context) -> Json:
    """Return the policy: who may ask the model, and whom its pods may ask."""
    model = context.model
    spec: Json = {
        "podSelector": {"matchLabels": selector_labels(model.name)},
        "policyTypes": ["Ingress"],
        "ingress": _ingress(context),
    }
    if egress_limited(context):
        spec["policyTypes"].append("Egress")
        spec["egress"] = _egress(context)
    return child(model, "NetworkPolicy", model.name, {"spec": spec})


def egress_limited(context: Context) -> bool:
    """Tell whether egress can be limited: only if every peer that is needed is listed."""
    source = context.model.source
    listed = not isinstance(source, Web) or bool(source.egress)
    return context.model.managed_network and bool(context.resolved.provider.egress) and listed


def _service(name: str) -> Json:
    return {
        "type": "ClusterIP",
        "selector": selector_labels(name),
        "ports": [
            _service_port("http", REST_PORT, "rest", "http"),
            _service_port("grpc", GRPC_PORT, "grpc", "kubernetes.io/h2c"),
        ],
    }


def _service_port(name: str, port: int, target: str, protocol: str) -> Json:
    return {
        "name": name,
        "port": port,
        "targetPort": target,
        "protocol": "TCP",
        "appProtocol": protocol,
    }


def _ingress(context: Context) -> list[Json]:
    settings = context.settings
    operator = {
        "namespaceSelector": {"matchLabels": {_NAMESPACE: settings.operator_namespace}},
        "podSelector": {"matchLabels": dict(settings.operator_labels)},
    }
    clients = [{"podSelector": {}}, *(_peer(peer) for peer in context.model.allow_from)]
    rules: list[Json] = [
        {"from": clients, "ports": _ports((REST_PORT, GRPC_PORT))},
        {"from": [operator], "ports": _ports((REPORT_PORT,))},
    ]
    if settings.scraper_labels:
        scraper = {"namespaceSelector": {"matchLabels": dict(settings.scraper_labels)}}
        rules.append({"from": [scraper], "ports": _ports((REPORT_PORT, HEALTH_PORT))})
    return rules


def _egress(context: Context) -> list[Json]:
    source = context.model.source
    peers = [*context.resolved.provider.egress, *(source.egress if isinstance(source, Web) else ())]
    rules = [{"to": [_peer(peer)], "ports": _ports(peer.ports)} for peer in peers]
    return [{"ports": [dict(port) for port in _DNS]}, *rules]


def _peer(peer: Peer) -> Json:
    if peer.cidr:
        return {"ipBlock": {"cidr": peer.cidr}}
    found: Json = {}
    if peer.namespace_labels:
        found["namespaceSelector"] = {"matchLabels": dict(peer.namespace_labels)}
    if peer.pod_labels:
        found["podSelector"] = {"matchLabels": dict(peer.pod_labels)}
    return found


def _ports(numbers: Iterable[int]) -> list[Json]:
    return [{"port": number, "protocol": "TCP"} for number in numbers]
