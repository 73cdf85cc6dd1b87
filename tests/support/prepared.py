"""A key service that was prepared by pasting what `modelseal policy` prints, with every login."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from modelseal.keys.policy_text import Login, policy_name, script, vault_steps
from support.openbao import KeyService
from support.token_review import Reviewer, reviewing
from support.tokens import Issuer

MODEL: Final = "vision/filetype"
NAMESPACE: Final = "vision"
ACCOUNT: Final = "filetype"
ROLE: Final = policy_name(MODEL, "agent")
METHODS: Final = ("jwt", "kubernetes")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The mounts' names and who signs service account tokens."""

    service: KeyService
    issuer: Issuer
    reviewer: Reviewer
    mount: str
    mounts: dict[str, str]
    """The mount of each way to log in."""

    @property
    def key(self) -> str:
        """The transit key's URI."""
        return f"vault:{self.mount}/models"

    def token(self, **changes: str | float) -> str:
        """Return a service account token for the key service."""
        wanted: dict[str, str | float] = {
            "namespace": NAMESPACE,
            "name": ACCOUNT,
            "audience": self.service.address,
        }
        return self.issuer.token(**(wanted | changes))  # type: ignore[arg-type]


@contextmanager
def prepared(service: KeyService) -> Iterator[Prepared]:
    """Prepare a key service for as long as the block lasts."""
    issuer = Issuer()
    with reviewing(issuer, service.certificate, service.private_key) as reviewer:
        place = Prepared(
            service=service,
            issuer=issuer,
            reviewer=reviewer,
            mount=service.name("transit"),
            mounts={method: service.name(method) for method in METHODS},
        )
        _enable_logins(place)
        for method, mount in place.mounts.items():
            login = Login(
                method=method,
                mount=mount,
                namespace=NAMESPACE,
                service_account=ACCOUNT,
                audience=service.address,
            )
            steps = vault_steps(model=MODEL, key=place.key, login=login)
            service.paste(script(steps if method == METHODS[0] else steps[-1:]))
        yield place


def _enable_logins(place: Prepared) -> None:
    for method, mount in place.mounts.items():
        place.service.call("POST", f"sys/auth/{mount}", {"type": method})
    jwt, kubernetes = (place.mounts[method] for method in METHODS)
    pem = place.issuer.public_pem
    place.service.call("POST", f"auth/{jwt}/config", {"jwt_validation_pubkeys": [pem]})
    place.service.call(
        "POST",
        f"auth/{kubernetes}/config",
        {
            "kubernetes_host": place.reviewer.address,
            "kubernetes_ca_cert": place.service.ca_file.read_text(),
            "token_reviewer_jwt": place.issuer.token("bao", "bao", "api"),
            "disable_local_ca_jwt": True,
        },
    )
