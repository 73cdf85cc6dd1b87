"""Every way to take the right to a model away on a cluster, and how to give it back."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from modelseal.contract import Reason
from support.kind_place import ACCOUNT, Place

INTERVAL: Final = 5
CHECKED: Final = INTERVAL * 1.2 + 2
"""Seconds within which a check of the lease and the unloading are over."""
TOKEN_SECONDS: Final = 20
"""Life of the agents' tokens where an account or a role is taken away: 300 as printed."""
MAX_STALE: Final = 40
CACHED: Final = 10
"""Seconds for which the API server remembers that a token was good."""
REFRESHED: Final = 120
"""Seconds that a kubelet may take to refresh a ConfigMap: its sync period and its cache's life."""


@dataclass(frozen=True, kw_only=True)
class Withdrawal:
    """One way; `take` returns the moment from which the bound counts, by the wall clock."""

    name: str
    reason: Reason
    bound: float
    """Seconds within which the model has to be unloaded."""
    take: Callable[[Place], datetime]
    give: Callable[[Place], None]
    kv: bool = False
    """Whether it is a way to withdraw a key that lies in KV."""


def provide(place: Place, **changes: Any) -> None:
    """Apply the provider with the short intervals that the bounds here are of."""
    lease = {"intervalSeconds": INTERVAL, "maxStaleSeconds": MAX_STALE}
    place.provide(**{"lease": lease, **changes})


def shorten_tokens(place: Place) -> None:
    """Let the agents' tokens live shorter than printed, so that nobody waits for five minutes."""
    life = {"token_ttl": TOKEN_SECONDS, "token_max_ttl": TOKEN_SECONDS}
    place.bao.keys.call("POST", _role(place), life)


def revoke_tokens(place: Place) -> None:
    """Revoke every token that Kubernetes auth gave."""
    place.bao.keys.call("POST", "sys/leases/revoke-prefix/auth/kubernetes/login")


def _role(place: Place) -> str:
    return f"auth/kubernetes/role/{place.policy}"


def _key(place: Place) -> str:
    return f"{place.namespace}/keys/{place.namespace}_filetype"


def _now(act: Callable[[Place], object]) -> Callable[[Place], datetime]:
    """Return how to act, with the time before it."""

    def take(place: Place) -> datetime:
        begun = datetime.now(UTC)
        act(place)
        return begun

    return take


def _delete_key(place: Place) -> None:
    keys = place.bao.keys
    allowed = {"deletion_allowed": True, "exportable": True, "allow_plaintext_backup": True}
    keys.call("POST", f"{_key(place)}/config", allowed)
    backup = f"{place.namespace}/backup/{place.namespace}_filetype"
    (place.folder / "backup").write_text(keys.call("GET", backup)["data"]["backup"])
    keys.call("DELETE", _key(place))


def _restore_key(place: Place) -> None:
    body = {"backup": (place.folder / "backup").read_text()}
    path = f"{place.namespace}/restore/{place.namespace}_filetype"
    place.bao.keys.call("POST", path, body)


def _raise_version(place: Place) -> None:
    keys = place.bao.keys
    keys.call("POST", f"{_key(place)}/rotate")
    newest = keys.call("GET", _key(place))["data"]["latest_version"]
    keys.call("POST", f"{_key(place)}/config", {"min_decryption_version": newest})


def _lower_version(place: Place) -> None:
    place.bao.keys.call("POST", f"{_key(place)}/config", {"min_decryption_version": 1})


def _delete_policy(place: Place) -> None:
    place.bao.keys.call("DELETE", f"sys/policies/acl/{place.policy}")


def _delete_role(place: Place) -> None:
    place.bao.keys.call("DELETE", _role(place))


def _restore_role(place: Place) -> None:
    place.write_policy()
    shorten_tokens(place)


def _delete_role_and_tokens(place: Place) -> None:
    _delete_role(place)
    revoke_tokens(place)


def _delete_account(place: Place) -> None:
    place.kube.run("delete", "serviceaccount", ACCOUNT)


def _restore_account(place: Place) -> None:
    place.kube.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}})


def _withdraw_version(place: Place) -> None:
    provide(place, models=[{"name": place.model, "minSequence": 1000}])


def _allow_another_digest(place: Place) -> None:
    provide(place, models=[{"name": place.model, "digests": [f"sha256:{'0' * 64}"]}])


def _delete_secret(place: Place) -> None:
    path = f"{place.namespace}/delete/{place.model}"
    place.bao.keys.call("POST", path, {"versions": [1]})


def _undelete_secret(place: Place) -> None:
    path = f"{place.namespace}/undelete/{place.model}"
    place.bao.keys.call("POST", path, {"versions": [1]})


def _cut_off(place: Place) -> None:
    place.bao.seal()


WITHDRAWALS: Final[tuple[Withdrawal, ...]] = (
    Withdrawal(
        name="key deleted",
        reason=Reason.KEY_NOT_FOUND,
        bound=CHECKED,
        take=_now(_delete_key),
        give=_restore_key,
    ),
    Withdrawal(
        name="key version raised",
        reason=Reason.KEY_REVOKED,
        bound=CHECKED,
        take=_now(_raise_version),
        give=_lower_version,
    ),
    Withdrawal(
        name="policy changed",
        reason=Reason.KEY_ACCESS_DENIED,
        bound=CHECKED,
        take=_now(Place.revoke),
        give=Place.restore,
    ),
    Withdrawal(
        name="policy deleted",
        reason=Reason.KEY_ACCESS_DENIED,
        bound=CHECKED,
        take=_now(_delete_policy),
        give=Place.restore,
    ),
    Withdrawal(
        name="role deleted, token expires",
        reason=Reason.KEY_ACCESS_DENIED,
        bound=TOKEN_SECONDS + CHECKED,
        take=_now(_delete_role),
        give=_restore_role,
    ),
    Withdrawal(
        name="service account deleted",
        reason=Reason.KEY_ACCESS_DENIED,
        bound=TOKEN_SECONDS + CACHED + CHECKED,
        take=_now(_delete_account),
        give=_restore_account,
    ),
    Withdrawal(
        name="version withdrawn",
        reason=Reason.ROLLBACK_REJECTED,
        bound=REFRESHED + CHECKED,
        take=_now(_withdraw_version),
        give=provide,
    ),
    Withdrawal(
        name="digest not on the list",
        reason=Reason.ROLLBACK_REJECTED,
        bound=REFRESHED + CHECKED,
        take=_now(_allow_another_digest),
        give=provide,
    ),
    Withdrawal(
        name="KV version deleted",
        reason=Reason.KEY_REVOKED,
        bound=CHECKED,
        take=_now(_delete_secret),
        give=_undelete_secret,
        kv=True,
    ),
    Withdrawal(
        name="KV policy changed",
        reason=Reason.KEY_ACCESS_DENIED,
        bound=CHECKED,
        take=_now(Place.revoke),
        give=Place.restore,
        kv=True,
    ),
)
"""Those that concern one place alone."""
WITH_TOKENS: Final = Withdrawal(
    name="role deleted, tokens revoked",
    reason=Reason.KEY_ACCESS_DENIED,
    bound=CHECKED,
    take=_now(_delete_role_and_tokens),
    give=_restore_role,
)
CUT_OFF: Final = Withdrawal(
    name="key service cut off",
    reason=Reason.LEASE_STALE,
    bound=MAX_STALE + 2,
    take=_now(_cut_off),
    give=lambda place: place.bao.unseal(),
)


def expiring(place: Place, seconds: float) -> tuple[str, Withdrawal]:
    """Seal a version that ends in some seconds; returns its path, and the waiting for its end."""
    end = (datetime.now(UTC) + timedelta(seconds=seconds)).replace(microsecond=0)
    name = f"until-{end:%H%M%S}"
    words = ("--not-after", f"{end:%Y-%m-%dT%H:%M:%SZ}")
    place.put(place.seal(name, more=words), f"filetype/{name}")
    ending = Withdrawal(
        name="notAfter passed",
        reason=Reason.EXPIRED,
        bound=2,
        take=lambda _: end,
        give=lambda _: None,
    )
    return f"filetype/{name}", ending
