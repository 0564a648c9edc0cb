"""Instances of small containers: from none to some and back, never too many, and none that is not well gets a call."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from region_parts import manifest, region


def read(path):
    return Path(path).read_text()


async def gather(*calls):
    return await asyncio.gather(*calls, return_exceptions=True)


async def test_a_caller_waits_while_an_instance_starts_and_is_answered(tmp_path):
    async with region(tmp_path) as at:
        revision = await at.deploy(manifest())
        pool = at.region.pool(revision)
        assert pool.scale_in() == 1
        await at.until(lambda: not pool.instances)
        (ended,) = pool.ended
        assert (ended.code, ended.killed) == (0, False)
        answered = await gather(*(at.who() for _ in range(3)))
        assert {revision for revision, _, _ in answered} == {revision}
        assert len(pool.ended) == 1
        assert [entry.instance for entry in at.region.door.entries][-1].startswith(f"{revision}/")


async def test_the_least_number_waits_for_calls_and_idle_ones_above_it_end(tmp_path):
    async with region(tmp_path, idle_seconds=0.05) as at:
        pool = at.region.pool(await at.deploy(manifest(least=1, concurrency=1)))
        waiting = [asyncio.ensure_future(at.who(b"wait")) for _ in range(2)]
        await at.until(lambda: sum(one.calls for one in pool.serving) == 2)
        busy = pool.serving
        assert len(busy) == 2
        pool.restart(busy[0])  # it ends with its call, and another takes its place: three at most
        assert [pid for _, pid, _ in await gather(waiting[0])] == [str(busy[0].pid)]
        pool.restart(busy[1])
        await gather(waiting[1])
        await at.until(lambda: len(pool.instances) == len(pool.serving) == 1)
        assert pool.scale_in() == 0
        assert {ended.code for ended in pool.ended} == {0}


async def test_one_instance_takes_so_many_calls_and_no_more_then_others_start_up_to_the_greatest_number(tmp_path):
    async with region(tmp_path, pending_max=3, pending_seconds=0.3) as at:
        pool = at.region.pool(await at.deploy(manifest(concurrency=2, most=2)))
        inside = [asyncio.ensure_future(at.who(b"wait")) for _ in range(4)]
        await at.until(lambda: sum(one.calls for one in pool.serving) == 4)
        assert sorted(one.calls for one in pool.serving) == [2, 2]
        refused = await gather(*(at.who() for _ in range(5)))
        assert [error.status for error in refused] == [Status.UNAVAILABLE] * 5
        reasons = [entry.reason for entry in at.region.door.entries]
        assert reasons == ["no-instance"] * 5
        assert len(pool.instances) == 2
        assert not pool.waiting
        for instance in pool.serving:
            instance.stop()
        answers = await gather(*inside)
        assert len({pid for _, pid, _ in answers}) == 2


async def test_a_caller_that_leaves_while_it_waits_leaves_no_place_taken(tmp_path):
    async with region(tmp_path) as at:
        pool = at.region.pool(await at.deploy(manifest(concurrency=1, most=1)))
        inside = asyncio.ensure_future(at.who(b"wait"))
        await at.until(lambda: pool.serving[0].calls == 1)
        impatient = asyncio.ensure_future(at.who())
        await at.until(lambda: pool.waiting == 1)
        impatient.cancel()
        await at.until(lambda: pool.waiting == 0)
        pool.restart(pool.serving[0])
        assert (await gather(inside, at.who()))[1][0] == pool.name
        assert [one.calls for one in pool.serving] == [0]


async def test_an_instance_that_is_ending_counts_until_it_has_ended(tmp_path):
    async with region(tmp_path) as at:
        pool = at.region.pool(await at.deploy(manifest(least=1, most=1, concurrency=2)))
        first = pool.serving[0]
        pool.restart(first)
        assert pool.instances == [first]
        _, pid, _ = await at.who()
        assert pid != str(first.pid)


@pytest.mark.parametrize(
    "image, startup, said",
    [
        ("crash", 1000, "failed to start and listen on the port"),
        ("wrong-port", 15, "failed to start and listen on the port"),
        ("never-ready", 150, "failed the configured startup probe checks"),
        ("nowhere", 1000, "Image 'nowhere' not found"),
    ],
)
async def test_a_bad_revision_never_gets_a_call_while_the_old_one_serves_on(tmp_path, image, startup, said):
    async with region(tmp_path) as at:
        good = await at.deploy(manifest(least=1))
        bad = await at.deploy(manifest(image, least=1, startup=startup))
        assert at.ready() == "False"
        assert said in str(at.status()["conditions"])
        assert at.status()["traffic"] == [{"latestRevision": True, "percent": 100, "revisionName": good}]
        assert {revision for revision, _, _ in await gather(*(at.who() for _ in range(20)))} == {good}
        assert bad not in {entry.instance.partition("/")[0] for entry in at.region.door.entries}
        await at.until(lambda: bad not in at.region.pools or not at.region.pool(bad).instances)
        again = await at.deploy(manifest("good", least=1, concurrency=3))
        assert at.ready() == "True"
        assert {revision for revision, _, _ in await gather(*(at.who() for _ in range(5)))} == {again}


async def test_a_canary_gets_its_per_cent_and_the_same_seed_the_same_calls(tmp_path):
    drawn = []
    for number in range(2):
        async with region(tmp_path / str(number), seed=7) as at:
            old = await at.deploy(manifest(concurrency=50))
            traffic = [
                {"revisionName": old, "percent": 80},
                {"latestRevision": True, "percent": 20, "tag": "candidate"},
            ]
            new = await at.deploy(manifest(concurrency=49, traffic=traffic))
            aside = next(target["url"] for target in at.status()["traffic"] if target.get("tag"))
            assert aside != at.region.url
            assert (await at.who(url=aside))[0] == new
            answers = [(await at.who())[0] for _ in range(100)]
            drawn.append([answer == new for answer in answers])
            assert {old, new} == set(answers)
    assert drawn[0] == drawn[1]
    assert 10 <= sum(drawn[0]) <= 30


async def test_one_that_answers_nothing_any_more_is_replaced(tmp_path):
    async with region(tmp_path, grace_seconds=0.05) as at:
        pool = at.region.pool(await at.deploy(manifest(least=1, most=1)))
        first = pool.serving[0]
        os.kill(first.pid, signal.SIGSTOP)
        await at.until(lambda: pool.ended)
        assert (await at.who())[1] != str(first.pid)
        assert pool.ended[0].killed


async def test_one_that_does_not_end_is_killed_when_its_time_is_over(tmp_path):
    async with region(tmp_path, grace_seconds=0.05) as at:
        pool = at.region.pool(await at.deploy(manifest("deaf", least=1, most=1)))
        pool.restart(pool.serving[0])
        await at.until(lambda: pool.ended)
        assert (pool.ended[0].code, pool.ended[0].killed) == (-signal.SIGKILL, True)


async def test_only_who_was_granted_it_may_call_and_from_the_moment_of_the_grant(tmp_path):
    async with region(tmp_path) as at:
        await at.deploy(manifest())
        with pytest.raises(GRPCError) as refused:
            await at.who(account="stranger")
        assert refused.value.status is Status.PERMISSION_DENIED
        stranger = at.google.metadata["stranger"].account.email
        policy = {"bindings": [{"role": "roles/run.invoker", "members": [f"serviceAccount:{stranger}"]}]}
        at.services.policy("gateway-service").replace(policy, lambda _: True)
        assert await at.who(account="stranger")
        with pytest.raises(GRPCError) as refused:
            await at.who()
        assert refused.value.status is Status.PERMISSION_DENIED


async def test_what_nothing_serves_is_not_found_and_what_is_deleted_ends(tmp_path):
    async with region(tmp_path) as at:
        pool = at.region.pool(await at.deploy(manifest(least=1)))
        at.services.delete("gateway-service")
        await at.until(lambda: not pool.instances)
        assert {ended.code for ended in pool.ended} == {0}
        with pytest.raises(GRPCError):
            await at.who()
        assert at.region.door.entries[-1].status == 403  # nobody may call what is not there


async def test_variables_secrets_and_files_reach_the_process(tmp_path):
    async with region(tmp_path) as at:
        project = at.region.admin.project
        project.create_secret("settings")
        project.add_version("settings", {"data": "b25l"})
        project.add_version("settings", {"data": "dHdv"})
        grant = {"role": "roles/secretmanager.secretAccessor", "members": ["serviceAccount:sa-gateway@x"]}
        grant["members"] = [f"serviceAccount:sa-gateway@{project.config.project}.iam.gserviceaccount.com"]
        project.secret_policy("settings").replace({"bindings": [grant]}, lambda _: True)
        wanted = manifest(SMALL_FILE="/etc/small/settings.txt")
        spec = wanted["spec"]["template"]["spec"]
        items = [{"key": "1", "path": "settings.txt"}]
        spec["volumes"] = [{"name": "etc", "secret": {"secretName": "settings", "items": items}}]
        spec["containers"][0]["volumeMounts"] = [{"name": "etc", "mountPath": "/etc/small"}]
        await at.deploy(wanted)
        _, _, path = await at.who()
        assert path.startswith(str(tmp_path))
    assert read(path) == "one"
