"""Pods beside a model: servers and clients of scripts, a model as an image, another server."""

from pathlib import Path
from typing import Any, Final

from support.authority import Authority
from support.images import build
from support.kind_place import Place
from support.kind_volume import CLAIM, SECURITY
from support.kube import Json

TOKEN: Final = "let-me-in"
_WAIT: Final = "import signal; signal.pause()"
_COLLECTOR: Final = Path(__file__).with_name("pod_collector.py")
_ORIGIN: Final = Path(__file__).with_name("pod_origin.py")
_SERVER: Final = Path(__file__).with_name("pod_server.py")


def serve_over_https(place: Place) -> str:
    """Serve the place's volume over HTTPS with a bearer token; returns the address.

    The CA is in the ConfigMap `origin-ca`, the token in the Secret `origin-token`.
    """
    models = {"persistentVolumeClaim": {"claimName": CLAIM, "readOnly": True}}
    bundle = _behind_tls(place, "origin", _ORIGIN, TOKEN, models=models)
    place.kube.apply(
        _object("ConfigMap", "origin-ca", data={"ca.crt": bundle}),
        _object("Secret", "origin-token", stringData={"token": TOKEN}),
    )
    return f"https://origin.{place.namespace}.svc"


def collect_logins(place: Place) -> tuple[str, str]:
    """Run a server that notes every login; returns its address and the CA that signed it."""
    bundle = _behind_tls(place, "collector", _COLLECTOR)
    return f"https://collector.{place.namespace}.svc", bundle


def run_script(
    place: Place, name: str, image: str, script: Path, *words: str, wait: bool = False
) -> None:
    """Run one of our scripts in a pod of its own until it is ready, or only put it there."""
    pod = scripted(name, image, script, *words, wait=wait)
    place.kube.apply(script_of(name, script), pod)
    place.kube.run("wait", f"pod/{name}", "--for=condition=Ready", "--timeout=110s")


def scripted(name: str, image: str, script: Path, *words: str, wait: bool = False) -> Json:
    """Return a pod that has a script under /script, and runs it unless it is to wait."""
    program = ["-c", _WAIT] if wait else [f"/script/{script.name}", *words]
    container = {
        "name": name,
        "image": image,
        "command": ["python3", *program],
        "securityContext": SECURITY,
        "volumeMounts": [{"name": "script", "mountPath": "/script"}],
    }
    spec = {
        "automountServiceAccountToken": False,
        "containers": [container],
        "terminationGracePeriodSeconds": 1,
        "volumes": [{"name": "script", "configMap": {"name": name}}],
    }
    metadata = {"name": name, "labels": {"app": name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _behind_tls(place: Place, name: str, script: Path, *words: str, **volumes: Json) -> str:
    """Run a script that serves HTTPS behind a Service of its name; returns its CA."""
    authority = Authority(name)
    tls = authority.issue([f"{name}.{place.namespace}.svc"])
    pod = scripted(name, place.python_image, script, *words)
    container = pod["spec"]["containers"][0]
    container["readinessProbe"] = {"tcpSocket": {"port": 8443}, "periodSeconds": 1}
    sources = {"tls": {"secret": {"secretName": f"{name}-tls"}}, **volumes}
    pod["spec"]["volumes"] += [{"name": each, **source} for each, source in sources.items()]
    container["volumeMounts"] += [{"name": each, "mountPath": f"/{each}"} for each in sources]
    spec = {"selector": {"app": name}, "ports": [{"port": 443, "targetPort": 8443}]}
    secret = {"tls.crt": tls.certificate, "tls.key": tls.key}
    place.kube.apply(
        script_of(name, script),
        _object("Secret", f"{name}-tls", stringData=secret),
        _object("Service", name, spec=spec),
        pod,
    )
    place.kube.run("wait", f"pod/{name}", "--for=condition=Ready", "--timeout=110s")
    return authority.bundle


def as_image(place: Place, sealed: Path) -> str:
    """Make an OCI image of a sealed model and load it; returns its name by digest."""
    name = build(
        "modelseal-test-model", "FROM scratch\nCOPY sealed /filetype\n", [(sealed, "sealed")]
    )
    place.cluster.load(name)
    return place.cluster.by_digest(name)


def foreign_server(place: Place, runtime: str) -> str:
    """Make an image of a server that is not ours and load it; returns its name by digest."""
    text = f'FROM {runtime}\nCOPY server.py /server.py\nENTRYPOINT ["python3", "/server.py"]\n'
    name = build("modelseal-test-server", text, [(_SERVER, "server.py")])
    place.cluster.load(name)
    return place.cluster.by_digest(name)


def script_of(name: str, script: Path) -> Json:
    """Return the ConfigMap that a scripted pod mounts."""
    return _object("ConfigMap", name, data={script.name: script.read_text()})


def _object(kind: str, name: str, **content: Any) -> Json:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **content}
