"""One of several replicas of the operator leads, and writes only while it holds the lease."""

import asyncio
from pathlib import Path

import pytest

from modelseal_operator.cluster import Cluster, Election, connect
from modelseal_operator.cluster.client import Bucket
from support.fake_api import FakeApi, status
from support.operator_play import play, quiet, settled
from support.operator_run import fresh_model, fresh_provider, kubeconfig, reason, running, until


def test_only_one_of_two_replicas_writes_and_the_other_takes_over(tmp_path: Path) -> None:
    async def scenario(api: FakeApi, folder: Path) -> None:
        await api.put("KeyProvider", fresh_provider())
        await api.put("EncryptedModel", fresh_model())
        async with running(api, folder, identity="b") as standby:
            await settled(api, standby)
            async with running(api, folder, identity="a") as second:
                await until(
                    lambda: second.operator.health.port and not second.operator.wrong(), "it lives"
                )
                writes = len(api.writes)
                await api.put("EncryptedModel", fresh_model("more"))
                await until(lambda: reason(api, name="more")[0], "the leader acts")
                assert not second.operator.leads
                assert len(api.writes) > writes
        async with running(api, folder, identity="a") as successor:
            await until(lambda: successor.operator.leads, "the lease was given back")
            await quiet(api, successor)
            await api.put("EncryptedModel", fresh_model("last"))
            await until(lambda: reason(api, name="last")[0], "the successor acts")

    play(tmp_path, scenario)


def test_a_lease_in_doubt_makes_models_wait_and_none_of_them_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubt, asked = True, 0
    real = Election.leads

    def leads(election: Election) -> bool:
        nonlocal asked
        asked += doubt
        held: bool = real.__get__(election)
        return held and not doubt

    async def scenario(api: FakeApi, folder: Path) -> None:
        nonlocal doubt
        doubt = False
        async with running(api, folder) as replica:
            await until(lambda: replica.operator.leads, "it leads")
            doubt = True
            await api.put("KeyProvider", fresh_provider())
            await api.put("EncryptedModel", fresh_model())
            await until(lambda: asked > 8, "the workers look at the lease")
            assert api.writes == []
            doubt = False
            await settled(api, replica)
            retries = replica.operator.metrics.reconciles.labels("retry")
            assert retries._value.get() == 0

    monkeypatch.setattr(Election, "leads", property(leads))
    play(tmp_path, scenario)


def test_a_leader_that_cannot_renew_stops_writing_before_its_lease_ends(tmp_path: Path) -> None:
    async def scenario(api: FakeApi, folder: Path) -> None:
        clock = {"now": 1000.0}
        transport = await connect(kubeconfig(api, folder))
        cluster = Cluster(
            transport,
            Bucket(100, lambda: clock["now"]),
            may_write=lambda: True,
            count=lambda _method, _status: None,
        )
        election = Election(
            cluster, name="l", namespace="n", identity="a", seconds=15, clock=lambda: clock["now"]
        )
        leading = asyncio.Event()

        async def work() -> None:
            leading.set()
            await asyncio.Event().wait()

        task = asyncio.ensure_future(election.run(work))
        await asyncio.wait_for(leading.wait(), 5)
        assert election.leads
        api.fault = lambda _method, _path: status(500, "no lease today")
        clock["now"] += 9.4
        assert election.leads
        clock["now"] += 0.2
        assert not election.leads, "a write that takes 5 s could end after the lease"
        api.fault = lambda _method, _path: None
        await until(lambda: election.leads, "it leads again once it has renewed")
        await election.release()
        assert not election.leads
        lease = api.get("Lease", "l", "n")
        assert lease is not None
        assert lease["spec"]["holderIdentity"] == ""
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await cluster.close()

    play(tmp_path, scenario)
