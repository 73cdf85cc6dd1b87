"""The two containers of a pod: the agent as a native sidecar, and the server."""

from typing import Final

from modelseal.contract import (
    AGENT_CONTAINER,
    AGENT_UID,
    GRPC_PORT,
    HEALTH_PORT,
    REPORT_PORT,
    REST_PORT,
    RUNTIME_CONTAINER,
    RUNTIME_UID,
    TERMINATION_LOG,
    Delivery,
)
from modelseal_operator.children.common import Context, Json, without_none
from modelseal_operator.children.environment import agent_environment, runtime_environment
from modelseal_operator.children.volumes import mounts, pod_volumes
from modelseal_operator.memory import pod_memory
from modelseal_operator.quantities import format_bytes
from modelseal_operator.resource import Cpu, Server

HEALTH_PATH: Final = "/healthz"
READY_PATH: Final = "/readyz"
LEASE_PATH: Final = "/lease"
_AGENT_CPU: Final = "100m"
_RUNTIME_CPU: Final = "500m"
_SOCKET_SECONDS: Final = 60
_TIMES: Final = _SOCKET_SECONDS // 10


def agent_container(context: Context) -> Json:
    """Return the agent; the kubelet starts it first and stops it last."""
    return {
        "name": AGENT_CONTAINER,
        "image": context.settings.agent_image,
        "imagePullPolicy": context.settings.pull_policy,
        "restartPolicy": "Always",
        "env": agent_environment(context),
        "ports": [_port("report", REPORT_PORT)],
        **_agent_probe(context),
        "resources": _resources(
            context.model.template.agent_cpu, _AGENT_CPU, pod_memory(context.model).agent
        ),
        "securityContext": _security(AGENT_UID),
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "File",
        "volumeMounts": mounts(pod_volumes(context), AGENT_CONTAINER),
    }


def server_container(context: Context) -> Json:
    """Return the server: our runtime, or the one that the resource names."""
    server, model = context.model.server, context.model
    resources = _resources(model.template.runtime_cpu, _RUNTIME_CPU, pod_memory(model).runtime)
    if context.device.resource:
        resources["limits"][context.device.resource] = "1"
        resources["requests"][context.device.resource] = "1"
    return {
        "name": RUNTIME_CONTAINER,
        "ports": [_port("rest", REST_PORT), _port("grpc", GRPC_PORT), *_health_port(server)],
        # the kubelet ends a server that does not let go of a model whose lease has ended
        "livenessProbe": _lease_probe(),
        "lifecycle": {"preStop": {"sleep": {"seconds": model.rollout.drain}}},
        "resources": resources,
        "securityContext": _security(server.uid if server else RUNTIME_UID),
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "File",
        "volumeMounts": mounts(pod_volumes(context), RUNTIME_CONTAINER),
        **(_foreign(server) if server else _ours(context)),
    }


def _agent_probe(context: Context) -> Json:
    """Return what holds back another server until its files are there; ours starts beside."""
    if context.model.delivery is Delivery.TMPFS:
        patience = context.model.rollout.deadline
        return {"startupProbe": _probe(HEALTH_PATH, REPORT_PORT, period=1, threshold=patience)}
    # an agent that does not come to listen on its socket is started anew
    return {"livenessProbe": _probe(HEALTH_PATH, REPORT_PORT, period=10, threshold=_TIMES)}


def _ours(context: Context) -> Json:
    return {
        # the two start side by side; until the agent answers nobody asks it for the lease
        "startupProbe": _probe(HEALTH_PATH, REPORT_PORT, period=1, threshold=_SOCKET_SECONDS),
        "image": context.settings.runtime_image,
        "imagePullPolicy": context.settings.pull_policy,
        "env": runtime_environment(context),
        "readinessProbe": _probe(READY_PATH, HEALTH_PORT, period=1, threshold=1),
    }


def _foreign(server: Server) -> Json:
    return without_none(
        {
            "image": server.image,
            "imagePullPolicy": "IfNotPresent",
            "args": list(server.args),
            "readinessProbe": _probe(server.readiness_path, REST_PORT, period=2, threshold=1),
        }
    )


def _health_port(server: Server | None) -> list[Json]:
    return [] if server else [_port("health", HEALTH_PORT)]


def _port(name: str, number: int) -> Json:
    return {"name": name, "containerPort": number, "protocol": "TCP"}


def _lease_probe() -> Json:
    # an agent says no at once: more time for it only spares servers on a node that is overloaded
    return _probe(LEASE_PATH, REPORT_PORT, period=5, threshold=1, timeout=5)


def _probe(path: str, port: int, *, period: int, threshold: int, timeout: int = 2) -> Json:
    return {
        "httpGet": {"path": path, "port": port, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": threshold,
    }


def _resources(cpu: Cpu, default: str, memory: int) -> Json:
    bound = format_bytes(memory)
    return {
        "requests": {"cpu": cpu.request or cpu.limit or default, "memory": bound},
        "limits": without_none({"cpu": cpu.limit, "memory": bound}),
    }


def _security(uid: int) -> Json:
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsGroup": uid,
        "runAsNonRoot": True,
        "runAsUser": uid,
    }
