"""One cluster for the session, one namespace for a test; logs are kept when a test fails."""

import contextlib
import itertools
import secrets
import tempfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support import kind, kind_ahead, kind_given, kind_openbao
from support.images import Images, build_images
from support.kind import Cluster
from support.kind_openbao import ClusterKeyService
from support.kind_operator import install
from support.kind_place import Place, kept_logs
from support.requirements import unavailable

_LOGS = Path(tempfile.gettempdir()) / "modelseal-e2e"
_numbers = itertools.count(1)
_FAILED = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Start a cluster, or say in one line what it lacks."""
    lacking = kind.missing()
    if lacking:
        unavailable(lacking)
    kind_ahead.wait()
    with kind.running(kind_ahead.NAME) as found:
        yield found


@pytest.fixture(scope="session")
def images(cluster: Cluster) -> Images:
    """Build the images and load them."""
    built = build_images()
    return Images.named(cluster.load(*built.all()))


@pytest.fixture(scope="session")
def bao(
    cluster: Cluster, images: Images, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ClusterKeyService]:
    """Run OpenBao in the cluster."""
    folder = tmp_path_factory.mktemp("openbao")
    with kind_openbao.running(cluster.kube, images.openbao, folder) as server:
        yield server


@pytest.fixture(scope="session")
def operator(cluster: Cluster, images: Images, bao: ClusterKeyService) -> ClusterKeyService:
    """Install the operator, beside the key service."""
    install(cluster.kube, images)
    return bao


@dataclass(kw_only=True)
class Places:
    """Opens places, and closes them all at the end."""

    cluster: Cluster
    images: Images
    bao: ClusterKeyService
    folder: Path
    opened: list[Place] = field(default_factory=list)

    def open(self, *, kv: bool = False) -> Place:
        """Open a place in a namespace of its own, with its key in transit or in KV."""
        place = self.make(f"t{next(_numbers)}-{secrets.token_hex(2)}", kv=kv)
        place.open()
        return place

    def make(self, name: str, *, kv: bool = False, mount: str = "") -> Place:
        """Return a place that somebody else opens."""
        (self.folder / name).mkdir()
        place = Place(
            cluster=self.cluster,
            bao=self.bao,
            kube=self.cluster.kube.at(name),
            folder=self.folder / name,
            python_image=self.images.agent,
            kv=kv,
            mount=mount,
        )
        self.opened.append(place)
        return place

    def close(self, request: pytest.FixtureRequest) -> None:
        """Close all, and keep the logs if a test that used them failed."""
        with contextlib.ExitStack() as stack:
            for place in self.opened:
                stack.callback(place.close)
                if request.node.stash.get(_FAILED, False):
                    kept_logs(place.kube, _LOGS / request.node.name / place.namespace)


@pytest.fixture(scope="session")
def make_places(
    cluster: Cluster, images: Images, operator: ClusterKeyService
) -> Callable[[Path], Places]:
    """Return how places are made in this session."""
    return lambda folder: Places(cluster=cluster, images=images, bao=operator, folder=folder)


@pytest.fixture
def places(
    request: pytest.FixtureRequest, make_places: Callable[[Path], Places], tmp_path: Path
) -> Iterator[Places]:
    """Make the places of a test, and close them after it, even if a later fixture fails."""
    places = make_places(tmp_path)
    yield places
    places.close(request)


@pytest.fixture
def new_place(places: Places) -> Callable[[], Place]:
    """Open as many places as a test wants."""
    return places.open


@pytest.fixture
def place(new_place: Callable[[], Place]) -> Place:
    """Open a place."""
    return new_place()


@pytest.fixture(scope="module")
def module_places(
    request: pytest.FixtureRequest,
    make_places: Callable[[Path], Places],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., Place]]:
    """Open as many places as a module wants, and close them even if its own fixtures fail."""
    places = make_places(tmp_path_factory.mktemp("places"))
    yield places.open
    places.close(request)


@pytest.fixture(scope="module")
def module_place(module_places: Callable[..., Place]) -> Place:
    """Open a place that the tests of a module share."""
    return module_places()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Replace the operator late and uninstall it last: every other test needs it."""
    late = ("test_upgrading", "test_operations")
    items.sort(key=lambda item: late.index(item.path.stem) if item.path.stem in late else -1)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out, before its fixtures, what a cluster that was only lent does not allow."""
    for mark in item.iter_markers("node"):
        if kind_given.given():
            unavailable(f"only a kubeconfig is given, and this test {mark.args[0]}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember whether a test failed, so that its place's logs are kept."""
    report = yield
    if report.failed:
        for node in item.listchain():
            node.stash[_FAILED] = True
    return report
