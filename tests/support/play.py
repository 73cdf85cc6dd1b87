"""A cluster to play with: OpenBao, the chart and one served model (`make cluster`).

    python -m support.play up|down

Everything of it lies in the user's cache folder; nobody's kubeconfig is touched.
"""

import shutil
import sys
from pathlib import Path
from typing import Final

from support import kind, kind_openbao
from support.binaries import CannotBuild, binary
from support.images import CACHE, Images, build_images
from support.kind_asking import answers_right
from support.kind_openbao import ClusterKeyService
from support.kind_operator import install
from support.kind_place import Place

NAME: Final = "modelseal"
FOLDER: Final = CACHE / "play"
KUBECONFIG: Final = FOLDER / "kubeconfig"
NEXT: Final = """
The model is served. What to type next:

  export KUBECONFIG={kubeconfig}{path}
  kubectl -n vision get encryptedmodels -o wide
  kubectl -n vision describe encryptedmodel filetype
  kubectl -n vision port-forward service/filetype 8080 &
  curl localhost:8080/v2/models/filetype

Take the right to the key away, and look again; then give it back:

  kubectl -n openbao exec deploy/openbao -- bao policy delete {policy}
  kubectl -n openbao exec -i deploy/openbao -- bao policy write {policy} - <{folder}/agent.hcl

make cluster-down removes it all.
"""


def main(words: list[str]) -> int:
    """Start the cluster or remove it."""
    if words == ["down"]:
        kind.delete(NAME)
        shutil.rmtree(FOLDER, ignore_errors=True)
        return 0
    lacking = kind.missing()
    if lacking:
        sys.stderr.write(f"make cluster: {lacking}\n")
        return 1
    try:
        up()
    except CannotBuild as error:
        sys.stderr.write(f"make cluster: {error}\n")
        return 1
    return 0


def up() -> None:
    """Start the cluster, unless it is there, and say what to type next."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    _say("building the images and the cluster (minutes, the first time)")
    images = build_images()
    cluster = kind.create(NAME, KUBECONFIG)
    images = Images.named(cluster.load(*images.all()))
    _say("starting OpenBao")
    with kind_openbao.running(cluster.kube, images.openbao, FOLDER) as bao:
        _log_in(bao)
        _say("installing the chart")
        install(cluster.kube, images)
        place = Place(
            cluster=cluster,
            bao=bao,
            kube=cluster.kube.at("vision"),
            folder=FOLDER,
            python_image=images.agent,
        )
        _serve(place)
    kubectl = str(Path(binary("kubectl")).parent) if shutil.which("kubectl") is None else ""
    path = f"\n  export PATH={kubectl}:$PATH" if kubectl else ""
    text = NEXT.format(kubeconfig=KUBECONFIG, path=path, policy=place.policy, folder=FOLDER)
    sys.stdout.write(text)


def _serve(place: Place) -> None:
    _say("sealing a model and serving it")
    place.open()
    place.provide()
    place.put(place.seal(), "filetype/1")
    place.apply()
    place.until_ready()
    if not answers_right(place):
        raise CannotBuild("the model answers something else than OpenVINO does")
    (FOLDER / "agent.hcl").write_text(place.agent_policy())


def _log_in(bao: ClusterKeyService) -> None:
    """Leave root's token in the server's pod, so that a reader can play the administrator."""
    token = bao.keys.server.root_token
    words = ("exec", "-i", "deploy/openbao", "--", "bao", "login", "-no-print", "-")
    bao.kube.run(*words, given=token)


def _say(text: str) -> None:
    sys.stderr.write(f"make cluster: {text}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
