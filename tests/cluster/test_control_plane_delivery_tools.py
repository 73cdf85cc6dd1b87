"""What delivery tools take for healthy: Helm 4 waits by kstatus, which is Flux's own judgement."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.binaries import binary
from support.control_plane import HOLD, ControlPlane
from support.operator_objects import merged
from support.operator_process import operating
from support.tenant import Tenant, example

Json = dict[str, Any]
pytestmark = pytest.mark.controlplane
HELD: Json = {"template": {"metadata": {"labels": {HOLD: "yes"}}}}


class Release:
    """A chart of one EncryptedModel, as a team would make one."""

    def __init__(self, plane: ControlPlane, tenant: Tenant, folder: Path) -> None:
        self._kubeconfig = plane.kubeconfig("a-team", plane.tokens["admin"])
        self._namespace = tenant.namespace
        self._folder = folder
        (folder / "templates").mkdir()
        chart = {"apiVersion": "v2", "name": "filetype", "version": "1.0.0"}
        (folder / "Chart.yaml").write_text(yaml.safe_dump(chart), encoding="utf-8")

    def install(self, seconds: int, **spec: object) -> "subprocess.CompletedProcess[str]":
        """Install the chart and wait for it."""
        place = {"metadata": {"namespace": self._namespace}, "spec": spec}
        model = yaml.safe_dump(merged(example("filetype"), place))
        (self._folder / "templates" / "model.yaml").write_text(model, encoding="utf-8")
        words = ["upgrade", "--install", "filetype", str(self._folder), "--wait=watcher"]
        where = [f"--kubeconfig={self._kubeconfig}", f"--namespace={self._namespace}"]
        return subprocess.run(
            [str(binary("helm")), *words, f"--timeout={seconds}s", *where],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.fixture
def release(plane: ControlPlane, tenant: Tenant, tmp_path: Path) -> Release:
    tenant.provider()
    return Release(plane, tenant, tmp_path)


def test_a_model_that_no_operator_has_seen_is_not_healthy(release: Release) -> None:
    done = release.install(3)
    assert done.returncode != 0
    assert "EncryptedModel" in done.stderr


def test_a_model_is_healthy_when_it_is_ready_and_not_before(
    plane: ControlPlane, release: Release, tenant: Tenant
) -> None:
    with operating(plane):
        held = release.install(5, **HELD)
        assert held.returncode != 0
        assert tenant.says()[0] == "False"
        served = release.install(30, template=None)
        assert served.returncode == 0, served.stderr
        assert tenant.says() == ("True", "Serving")
