"""What a thousand agents' leases ask of one key service: the rate over time, and the latency.

The agents' own code keeps the leases: the schedule, the checks, the logins, a connection for each.
What is left out is the pods.
"""

import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.findings import Curves, Effort, Findings
from modelseal.cli.story.openbao import OpenBao, running
from modelseal.contract import Delivery, Reason
from modelseal.envelope import Envelope, Manifest, Policy, Seal, kek_context
from modelseal.errors import ModelsealError
from modelseal.keys import AppRoleAuth, KeyProvider, VaultSettings
from modelseal.keys.transit import VaultTransitProvider
from modelseal.keys.vault import VaultClient
from modelseal.secret import Secret
from modelseal_sidecar.keeper import Keeper
from modelseal_sidecar.lease import Lease
from modelseal_sidecar.provider_directory import ProviderDirectory
from modelseal_sidecar.settings import LeaseSettings
from modelseal_sidecar.status import Board, Status, utc_now
from modelseal_sidecar.tenure import Tenure
from modelseal_sidecar.wake import Stopped, Wake, boottime

TITLE = "Lease traffic of 1,000 agents"
LEASES = 1000
PROCESSES = 2
PREPARING = 30.0
"""Seconds for a thousand logins before all leases begin."""
SECONDS = 240.0
WINDOW = 10
SETTINGS = LeaseSettings(interval=60.0, max_stale=14400.0)
MODEL = "bench/model"
Asked = tuple[float, float, bool]
"""When a request was answered, in seconds since the leases began, how long it took, and whether it
failed."""


def measure(effort: Effort) -> Findings:
    """Keep a thousand leases for some minutes."""
    del effort
    with TemporaryDirectory() as name, running(Path(name)) as server:
        return found(_kept(server, _prepare(server)))


@dataclass(frozen=True, kw_only=True)
class Role:
    """How the agents log in, and the path of their key."""

    role_id: str
    secret_id: str


def _prepare(server: OpenBao) -> Role:
    """Make the key, a policy as printed, and a role whose tokens live for five minutes."""
    server.call("POST", "sys/mounts/transit", {"type": "transit"})
    server.call("POST", "transit/keys/models", {"derived": True})
    rules = ("transit/encrypt/models", "transit/rewrap/models", "sys/capabilities-self")
    policy = "".join(f'path "{path}" {{ capabilities = ["update"] }}\n' for path in rules)
    policy += 'path "transit/decrypt/models" { capabilities = ["update"] }\n'
    server.call("PUT", "sys/policies/acl/agent", {"policy": policy})
    server.call("POST", "sys/auth/approle", {"type": "approle"})
    life = {"token_policies": "agent", "token_ttl": 300, "token_max_ttl": 300}
    server.call("POST", "auth/approle/role/agent", life)
    role_id = server.call("GET", "auth/approle/role/agent/role-id")["data"]["role_id"]
    secret_id = server.call("POST", "auth/approle/role/agent/secret-id", {})["data"]["secret_id"]
    return Role(role_id=role_id, secret_id=secret_id)


def _kept(server: OpenBao, role: Role) -> list[Asked]:
    begin = boottime() + PREPARING
    with ProcessPoolExecutor(PROCESSES) as pool:
        share = LEASES // PROCESSES
        futures = [pool.submit(_keep, server, role, begin, share) for _ in range(PROCESSES)]
        return [each for future in futures for each in future.result()]


def _keep(server: OpenBao, role: Role, begin: float, share: int) -> list[Asked]:
    """Keep a share of the leases in this process; returns every request."""
    asked: list[Asked] = []
    threading.stack_size(256 << 10)
    agents = [_Agent.ready(server, role, begin, asked) for _ in range(share)]
    assert boottime() < begin, "not ready in time"
    asked.clear()
    time.sleep(begin - boottime())
    threads = [threading.Thread(target=each.run) for each in agents]
    for thread in threads:
        thread.start()
    time.sleep(SECONDS)
    for each in agents:
        each.wake.stop()
    for thread in threads:
        thread.join()
    return asked


@dataclass(frozen=True, kw_only=True)
class _Agent:
    """What keeps one lease, without a pod around it."""

    wake: Wake
    tenure: Tenure

    @classmethod
    def ready(cls, server: OpenBao, role: Role, begin: float, asked: list[Asked]) -> "_Agent":
        """Log in and wrap a key, as an opening would leave it."""
        provider = _provider(server, role, begin, asked)
        provider.login()
        context = kek_context(MODEL, bytes(32))
        recipient = provider.wrap(Secret(bytes(32)), context)
        keeper = Keeper(
            access=_Access(provider),
            seal=_seal(),
            recipient=recipient,
            context=context,
            read_again=_seal,
            policy=lambda: Policy(model=MODEL),
        )
        wake = Wake()
        spread, later = random.random(), random.random()  # noqa: S311 - for load, no secret
        lease = Lease.begin(SETTINGS, now=begin, factor=spread)
        tenure = Tenure(
            lease=lease.opened(begin, keeper.token_seconds(), later),
            keeper=keeper,
            not_after=None,
            directory=ProviderDirectory(None, SETTINGS, None),
            delivery=_Nobody(),
            board=Board(Status(delivery=Delivery.MEMFD, model=MODEL, since=utc_now())),
            wake=wake,
        )
        return cls(wake=wake, tenure=tenure)

    def run(self) -> None:
        """Keep the lease until told to stop."""
        with suppress(Stopped):
            raise self.tenure.keep()


@dataclass(frozen=True)
class _Access:
    provider: KeyProvider

    def current(self) -> KeyProvider:
        return self.provider

    def refresh(self) -> KeyProvider:
        return self.provider


class _Nobody:
    """A delivery to nobody."""

    memory_name = None
    again = True

    def extend(self, valid_for: float) -> None:
        """Tell nobody."""

    def lost(self) -> ModelsealError | None:
        """Miss nobody."""

    def start(self) -> None: ...
    def deliver(self, parcel: Any, valid_for: float) -> None: ...
    def withdraw(self, reason: Reason) -> None: ...
    def close(self) -> None: ...

    def has_room(self) -> bool:
        return True

    def released(self) -> bool:
        return True


def _provider(
    server: OpenBao, role: Role, begin: float, asked: list[Asked]
) -> VaultTransitProvider:
    secret = role.secret_id.encode()
    auth = AppRoleAuth(role_id=role.role_id, read=lambda: Secret(secret))
    client = VaultClient(VaultSettings(address=server.address, ca_file=server.ca_file, auth=auth))
    adapter = client._adapter
    original = adapter.request

    def timed(*words: Any, **named: Any) -> Any:
        start = boottime()
        failed = True
        try:
            answer = original(*words, **named)
            failed = False
            return answer
        finally:
            now = boottime()
            asked.append((now - begin, now - start, failed))

    adapter.request = timed  # type: ignore[method-assign]
    return VaultTransitProvider(client, mount="transit", key="models")


def _seal() -> Seal:
    manifest = Manifest(
        model=MODEL, version="1", sequence=1, not_after=None, seal_id=bytes(32), files=()
    )
    envelope = Envelope(payload_type="", payload=b"", signatures=())
    return Seal(manifest=manifest, envelope=envelope, mac=bytes(48), recipients=())


def found(asked: Sequence[Asked]) -> Findings:
    """Return the rate over time and what one request takes."""
    counts = Counter(int(when) for when, _, _ in asked)
    rates = [counts[second] for second in range(int(SECONDS))]
    curves = Curves(
        name="rate",
        title=f"Requests of {LEASES:,} leases that began together, interval 60 s",
        x="seconds since all began",
        y="requests in a second",
        lines={
            "each second": [(float(second), float(rate)) for second, rate in enumerate(rates)],
            "mean of 10 s": [
                (at + WINDOW / 2, statistics.mean(rates[at : at + WINDOW]))
                for at in range(0, len(rates), WINDOW)
            ],
        },
    )
    return Findings(curves=[curves], notes=[_table(asked, rates), _NOTE])


def _table(asked: Sequence[Asked], rates: Sequence[int]) -> str:
    spent = sorted(took * 1000 for _, took, _ in asked)
    tens = [statistics.mean(rates[at : at + WINDOW]) for at in range(0, len(rates), WINDOW)]
    figures = {
        "requests": f"{len(asked):,}",
        "of them failed": str(sum(failed for _, _, failed in asked)),
        "mean rate": f"{statistics.mean(rates):.1f} 1/s",
        "most, least in 10 s": f"{max(tens):.1f}, {min(tens):.1f} 1/s",
        "most in a second": f"{max(rates)}",
        "p50": f"{spent[len(spent) // 2]:.1f} ms",
        "p99": f"{spent[len(spent) * 99 // 100]:.1f} ms",
        "longest": f"{spent[-1]:.1f} ms",
    }
    rows = (list(figures), ["---"] * len(figures), list(figures.values()))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


_NOTE = f"""A check is two requests (`transit/rewrap`, `sys/capabilities-self`). A login is one more
and a check of its own; it comes every 75 to 150 s with tokens of five minutes, the first one at any
time before. The leases log in with an AppRole here. {PROCESSES} processes keep the leases, with a
connection for each, and share two processors with the key service. Latencies are those that the
agents see, their own work included. All leases begin in the same moment, as after a restart of
everything."""
