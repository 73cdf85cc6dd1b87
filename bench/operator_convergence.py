"""How long the operator takes to converge on many models, what it needs, and what it writes idle.

A real control plane of processes, with KWOK for nodes and pods. The models are there before the
operator starts, so the time is the operator's and not the client's. Beside it a bare client writes
the same objects and statuses, and decides nothing.
"""

import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.findings import Effort, Findings, Row
from modelseal.contract import LABEL_MODEL
from modelseal_operator.kinds import MODEL, OURS

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support import installation
from support.audit import Audit
from support.control_plane import ControlPlane, running
from support.kube_api import ALL, KubeApi
from support.operator_objects import merged
from support.operator_process import OperatorProcess
from support.tenant import Tenant, example

TITLE = "Operator: convergence on many models"
SIZES = (100, 1000, 5000)
CHILDREN = ("ConfigMap", "NetworkPolicy", "Service", "Deployment")
WRITERS = 8
IDLE_SECONDS = 30.0
PATIENCE = 1800.0
Json = dict[str, Any]


def measure(effort: Effort) -> Findings:
    """Measure each size once: a round takes minutes, and nothing is compared."""
    del effort
    rows: list[Row] = []
    for size in SIZES:
        rows += _rows(size, measure_size(size))
    return Findings(
        rows=rows,
        notes=[
            "A model has five children and one pod. *Applied* is from the operator's start "
            "until every model has its Deployment and a status of its generation; *ready* until "
            "every model says Ready, which waits for the controller manager, the scheduler and "
            "KWOK on the same processors. The API server, etcd and all of these share the "
            "machine with the operator. Writes are counted in the audit log. The bare client "
            f"writes the same children and statuses with {WRITERS} threads, without Events, "
            "watches and decisions: what the machine allows at best. It comes second, to a "
            "control plane that holds the operator's objects already, which is why it is slower "
            "than the operator at 5,000. All models of a size are in one namespace.",
        ],
    )


def measure_size(size: int) -> dict[str, float]:
    """Return seconds to converge, memory in MiB and writes for this many models."""
    with tempfile.TemporaryDirectory() as name, running(Path(name), qps=2000) as plane:
        api = plane.api()
        try:
            namespace = _fill(api, size)
            return _measured(plane, api, namespace, size)
        finally:
            api.close()


def _measured(plane: ControlPlane, api: KubeApi, namespace: str, size: int) -> dict[str, float]:
    found = _converged(plane, api, namespace, size)
    return {**found, "bare": _bare(api, namespace, _models(api, f"{namespace}-bare", size))}


def _converged(plane: ControlPlane, api: KubeApi, namespace: str, size: int) -> dict[str, float]:
    audit = Audit(plane.audit_log)
    started = time.monotonic()
    operator = OperatorProcess(plane)
    try:
        operator.wait_for_lead()
        applied = _until(operator, lambda: operator.told_models() == size) - started
        ready = _until(operator, lambda: operator.ready_models() == size) - started
        assert _applied(api, namespace) == size
        writes = len(audit.writes())
        settled = Audit(plane.audit_log)
        time.sleep(IDLE_SECONDS)
        return {
            "applied": applied,
            "ready": ready,
            "processor": operator.processor_seconds(),
            "memory": operator.peak_memory() / 1024,
            "writes": writes / size,
            "idle": float(len(settled.writes())),
        }
    finally:
        operator.stop()


def _fill(api: KubeApi, size: int) -> str:
    for number in range(1 + size // 200):
        resources = {"cpu": "1000", "memory": "4Ti", "pods": "400"}
        node = {"metadata": {"name": f"node-{number}"}, "status": {"allocatable": resources}}
        api.create({"apiVersion": "v1", "kind": "Node", **node})
    for raw in installation.objects("admissionPolicies.enabled=true"):
        api.apply(raw, "installer")
    _until_served(api)
    return _models(api, "bench", size)


def _models(api: KubeApi, namespace: str, size: int) -> str:
    tenant = Tenant(api, namespace)
    tenant.provider()
    base = example("filetype")

    def create(number: int) -> None:
        place = {"name": f"model-{number:05}", "namespace": tenant.namespace}
        api.create(merged(base, {"metadata": place}))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(create, range(size)))
    return tenant.namespace


def _bare(api: KubeApi, source: str, target: str) -> float:
    """Write to one namespace what the operator wrote to the other; return the seconds."""
    written: dict[str, list[Json]] = defaultdict(list)
    for kind in CHILDREN:
        for raw in api.list(kind, source, f"?labelSelector={OURS}"):
            written[raw["metadata"]["labels"][LABEL_MODEL]].append(_copy(kind, raw, target))
    statuses = {raw["metadata"]["name"]: raw["status"] for raw in api.list(MODEL.name, source)}

    def write(name: str) -> None:
        for raw in written[name]:
            api.create(raw)
        api.patch(MODEL.name, name, {"status": statuses[name]}, target, "status")

    started = time.monotonic()
    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, statuses))
    return time.monotonic() - started


def _copy(kind: str, raw: Json, namespace: str) -> Json:
    metadata = {key: raw["metadata"][key] for key in ("name", "labels")}
    kept: Json = {key: raw[key] for key in ("data", "spec") if key in raw}
    for given in ("clusterIP", "clusterIPs"):
        kept.get("spec", {}).pop(given, None)
    place = {"apiVersion": ALL[kind].api_version, "kind": kind}
    return {**place, "metadata": {**metadata, "namespace": namespace}, **kept}


def _until_served(api: KubeApi) -> None:
    end = time.monotonic() + 60
    names = {"encryptedmodels", "keyproviders", "clusterkeyproviders"}
    while time.monotonic() < end:
        found = api.call("GET", "/apis/modelseal.dev/v1alpha1") if _grouped(api) else {}
        if names <= {each["name"] for each in found.get("resources", [])}:
            return
        time.sleep(0.2)
    raise TimeoutError("the CRDs were never served")


def _grouped(api: KubeApi) -> bool:
    groups = api.call("GET", "/apis")["groups"]
    return any(group["name"] == "modelseal.dev" for group in groups)


def _applied(api: KubeApi, namespace: str) -> int:
    models = api.list("EncryptedModel", namespace)
    return sum(
        raw.get("status", {}).get("observedGeneration") == raw["metadata"]["generation"]
        for raw in models
    )


def _until(operator: OperatorProcess, check: Callable[[], bool]) -> float:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert operator.alive, operator.text[-2000:]
        if check():
            return time.monotonic()
        time.sleep(0.2)
    raise TimeoutError(f"not converged: {operator.text[-2000:]}")


def _rows(size: int, found: dict[str, float]) -> list[Row]:
    def row(question: str, unit: str, key: str, target: str, limit: str) -> Row:
        return Row(
            question=f"{size:,} models: {question}",
            unit=unit,
            values={"operator": [found[key]]},
            ours="operator",
            baseline=None,
            target=target,
            limit=limit,
        )

    seconds = {1000: "< 40", 5000: "< 240"}.get(size, "none")
    return [
        row(
            "children applied and status written",
            "s",
            "applied",
            seconds,
            "the control plane's own work on the same processors: see the next two rows",
        ),
        Row(
            question=f"{size:,} models: the same, beside a client that only writes",
            unit="s",
            values={"operator": [found["applied"]], "bare client": [found["bare"]]},
            ours="operator",
            baseline="bare client",
            target="none",
            limit="what the API server, the controllers, the scheduler and KWOK make of each write",
        ),
        row(
            "processor time of the operator until every model was ready, its start included",
            "s",
            "processor",
            seconds,
            "Python: objects parsed, decided about, compared and written",
        ),
        row("every model ready", "s", "ready", "none", "controllers and scheduler beside it"),
        row(
            "peak memory of the operator",
            "MiB",
            "memory",
            "< 150" if size <= 1000 else "none",
            "objects are kept as compact JSON",
        ),
        row("writes for each model", "writes", "writes", "none", "children, statuses and Events"),
        row(
            f"writes in {IDLE_SECONDS:g} s of rest, without the Lease",
            "writes",
            "idle",
            "0",
            "a pass that changes nothing writes nothing",
        ),
    ]


def main() -> None:
    """Print what one size gives: `python -m bench.operator_convergence 1000`."""
    for size in [int(word) for word in sys.argv[1:]] or list(SIZES):
        print(size, measure_size(size))


if __name__ == "__main__":
    main()
