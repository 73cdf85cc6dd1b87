"""Pods beside a model: a web server of ciphertext, a client under way, another server."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from support.authority import Authority
from support.images import build
from support.kind_asking import question
from support.kind_place import CLAIM, SECURITY, Place
from support.kube import Json

TOKEN: Final = "let-me-in"
_CLIENT: Final = """
import json, sys, threading, urllib.request
address, body = sys.argv[1], sys.stdin.readline().encode()
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
answers, failures = 0, []
while not ended.is_set():
    try:
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            json.load(answer)["outputs"]
        answers += 1
    except Exception as error:
        failures.append(repr(error))
    if answers == 1:
        print("asking", flush=True)
print(json.dumps({"answers": answers, "failures": failures[:20]}))
"""
_ORIGIN: Final = Path(__file__).with_name("pod_origin.py")
_SERVER: Final = Path(__file__).with_name("pod_server.py")


@dataclass(kw_only=True)
class Load:
    """What a client that asks without pause has seen; filled in when it ends."""

    answers: int = 0
    failures: list[str] = field(default_factory=list)


@contextlib.contextmanager
def asking(place: Place, name: str = "filetype") -> Iterator[Load]:
    """Ask a model over its Service, from a pod of the namespace, as long as the block lasts."""
    place.kube.apply(_pod("client", place.python_image, "import signal; signal.pause()"))
    place.kube.run("wait", "pod/client", "--for=condition=Ready", "--timeout=60s")
    address = f"http://{name}.{place.namespace}.svc:8080/v2/models/{name}/infer"
    command = place.kube.command("exec", "-i", "client", "--", "python3", "-c", _CLIENT, address)
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    load = Load()
    tokens = question()[:1]
    tensor = {"name": "bytes", "datatype": "INT32", "shape": list(tokens.shape)}
    process.stdin.write(
        json.dumps({"inputs": [{**tensor, "data": tokens.ravel().tolist()}]}) + "\n"
    )
    process.stdin.flush()
    try:
        assert process.stdout.readline() == "asking\n"
        yield load
        said, _ = process.communicate(timeout=60)
        found = json.loads(said)
        load.answers, load.failures = found["answers"], found["failures"]
    finally:
        process.kill()
        process.communicate(timeout=20)


def serve_over_https(place: Place) -> str:
    """Serve the place's volume over HTTPS with a bearer token; returns the address.

    The CA is in the ConfigMap `origin-ca`, the token in the Secret `origin-token`.
    """
    authority = Authority("ciphertext origin")
    tls = authority.issue([f"origin.{place.namespace}.svc"])
    pod = _pod("origin", place.python_image, "")
    container = pod["spec"]["containers"][0]
    container["command"] = ["python3", "/origin/pod_origin.py", TOKEN]
    container["readinessProbe"] = {"tcpSocket": {"port": 8443}, "periodSeconds": 1}
    sources: dict[str, Json] = {
        "models": {"persistentVolumeClaim": {"claimName": CLAIM, "readOnly": True}},
        "origin": {"configMap": {"name": "origin"}},
        "tls": {"secret": {"secretName": "origin-tls"}},
    }
    pod["spec"]["volumes"] = [{"name": name, **source} for name, source in sources.items()]
    container["volumeMounts"] = [{"name": name, "mountPath": f"/{name}"} for name in sources]
    spec = {"selector": {"app": "origin"}, "ports": [{"port": 443, "targetPort": 8443}]}
    place.kube.apply(
        _object("ConfigMap", "origin", data={_ORIGIN.name: _ORIGIN.read_text()}),
        _object("ConfigMap", "origin-ca", data={"ca.crt": authority.bundle}),
        _object("Secret", "origin-token", stringData={"token": TOKEN}),
        _object(
            "Secret", "origin-tls", stringData={"tls.crt": tls.certificate, "tls.key": tls.key}
        ),
        _object("Service", "origin", spec=spec),
        pod,
    )
    place.kube.run("wait", "pod/origin", "--for=condition=Ready", "--timeout=60s")
    return f"https://origin.{place.namespace}.svc"


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


def _pod(name: str, image: str, program: str) -> Json:
    container = {
        "name": name,
        "image": image,
        "command": ["python3", "-c", program],
        "securityContext": SECURITY,
    }
    spec = {
        "automountServiceAccountToken": False,
        "containers": [container],
        "terminationGracePeriodSeconds": 1,
    }
    metadata = {"name": name, "labels": {"app": name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _object(kind: str, name: str, **content: Any) -> Json:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **content}
