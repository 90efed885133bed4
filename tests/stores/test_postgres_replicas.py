"""Several stores on one database: whatever one promises, all of them promise together."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from opscore_middleware.core.clock import SECOND, system_clock
from opscore_middleware.core.liveness import is_lost
from opscore_middleware.core.models import Registration
from opscore_middleware.core.records import Once, ReportOutcome
from opscore_middleware.core.sessions import Session
from opscore_middleware.core.store import Store, WakingStore
from opscore_middleware.stores import open_store
from opscore_middleware.stores.postgres import PostgresStore
from tests.stores.support import NOW, add, instances, said, told
from tests.stores.test_heartbeats import beat
from tests.stores.test_model import CALLS, KNOWN, STRANGER, Call, Model, shows
from tests.stores.test_sessions import session
from tests.support.waiting import TIMEOUT

aio = pytest.mark.asyncio

ACCEPTED, DUPLICATE = ReportOutcome.ACCEPTED, ReportOutcome.DUPLICATE


@asynccontextmanager
async def replicas(address: str, count: int) -> AsyncIterator[list[Store]]:
    """Stores that open at once, as replicas that are started together do."""
    stores = [open_store(address) for _ in range(count)]
    await asyncio.gather(*(store.open() for store in stores))
    try:
        yield stores
    finally:
        await asyncio.gather(*(store.close() for store in stores))


@pytest_asyncio.fixture
async def pair(postgres: str) -> AsyncIterator[list[Store]]:
    async with replicas(postgres, 2) as stores:
        yield stores


# --- reports -------------------------------------------------------------------------------------


@aio
async def test_one_report_sent_to_both_is_kept_once(pair: list[Store]) -> None:
    await add(pair[0])
    for sequence in range(1, 21):
        outcomes = await asyncio.gather(
            *(store.apply_reports([said(sequence=sequence)]) for store in pair)
        )
        assert sorted(outcome for (outcome,) in outcomes) == [ACCEPTED, DUPLICATE]
    assert [t.sequence for t in await told(pair[0])] == list(range(1, 21))


@aio
async def test_of_reports_to_both_the_highest_sequence_is_current(pair: list[Store]) -> None:
    await add(pair[0])
    sequences = list(range(1, 201))
    random.Random(7).shuffle(sequences)
    await asyncio.gather(
        *(pair[n % 2].apply_reports([said(f"s{n}", sequence=n)]) for n in sequences)
    )
    for store in pair:
        instance = (await instances(store))["i"]
        assert (instance.state, instance.sequence) == ("s200", 200)


@aio
async def test_who_goes_on_after_the_last_event_seen_misses_none(postgres: str) -> None:
    reports, writers = 300, 8
    async with replicas(postgres, 3) as (one, other, reader):
        await add(one)
        seen: list[int] = []
        writing = asyncio.gather(*(_write(s, n, reports) for s in (one, other) for n in range(8)))
        # In turns with the writers: an event that appeared behind one that was seen would be lost.
        while len(seen) < 2 * writers * reports:
            done = writing.done()
            page = await reader.events(
                after=seen[-1] if seen else 0, limit=10_000, max_size=10_000_000
            )
            seen += [event.event_id for event in page]
            assert page or not done, "events are missing"
        await writing
        everything = await reader.events(after=0, limit=10_000, max_size=10_000_000)
        assert seen == [event.event_id for event in everything]
        written = Counter((event.instance_id, event.sequence) for event in everything)
        assert set(written.values()) == {1}
        assert len(written) == 2 * writers * reports


async def _write(store: Store, instance: int, reports: int) -> None:
    name, sequence = f"{id(store)}-{instance}", itertools.count(1)
    for size in itertools.cycle((1, 7, 30)):
        batch = [said(instance_id=name, sequence=n) for n in itertools.islice(sequence, size)]
        batch = [report for report in batch if (report.sequence or 0) <= reports]
        if not batch:
            return
        assert await store.apply_reports(batch, whole=True) == [ACCEPTED] * len(batch)


@aio
async def test_reports_and_heartbeats_of_the_same_instances_never_wait_in_a_circle(
    pair: list[Store],
) -> None:
    await add(pair[0])
    order = random.Random(3)

    async def talk(store: Store) -> None:
        for sequence in range(1, 40):
            names = [f"{n}" for n in range(20)]
            order.shuffle(names)
            reports = [said(instance_id=name, sequence=sequence) for name in names]
            # Mixed, so that one commit changes some rows several times.
            reports += [said("active", instance_id=name, at=sequence) for name in names[:5]]
            await asyncio.gather(
                store.apply_reports(reports),
                *(store.heartbeat(beat(instance_id=name)) for name in names),
            )

    await asyncio.wait_for(asyncio.gather(*(talk(store) for store in pair)), TIMEOUT)
    assert len(await instances(pair[0])) == 20


def test_calls_that_go_to_either_end_as_the_model_says(postgres: str) -> None:
    examples = itertools.count()
    with asyncio.Runner() as runner:
        manager = replicas(postgres, 2)
        stores = runner.run(manager.__aenter__())
        try:

            @settings(max_examples=40, deadline=None)
            @given(CALLS, st.randoms(use_true_random=False))
            def holds(calls: list[Call], chance: random.Random) -> None:
                runner.run(_agrees(stores, next(examples), calls, chance))

            holds()
        finally:
            runner.run(manager.__aexit__(None, None, None))


async def _agrees(
    stores: list[Store], example: int, calls: list[Call], chance: random.Random
) -> None:
    model = Model()
    ids = {agent: f"{agent}{example}" for agent in (*KNOWN, STRANGER)}
    for agent in KNOWN:
        await add(chance.choice(stores), ids[agent])
    for whole, batch in calls:
        renamed = [report._replace(agent_id=ids[report.agent_id]) for report in batch]
        outcomes = await chance.choice(stores).apply_reports(renamed, whole=whole)
        assert list(outcomes) == model.call(whole, batch)
    for store in stores:
        for agent in KNOWN:
            await shows(store, ids[agent], agent, model)


# --- everything else -----------------------------------------------------------------------------


@aio
async def test_a_new_name_that_both_register_at_once_is_one_agent(pair: list[Store]) -> None:
    for name in ("n", "m"):
        registered = await asyncio.gather(
            *(
                pair[n % 2].register(Registration(agent_name=name), new_id=f"{name}{n}", now=NOW)
                for n in range(20)
            )
        )
        known = [r for r in registered if r is not None]
        assert len(known) == 20
        assert len({r.agent.agent_id for r in known}) == 1
        assert sum(r.created for r in known) == 1


@aio
async def test_a_new_id_that_both_register_at_once_is_one_agent(pair: list[Store]) -> None:
    registered = await asyncio.gather(
        *(
            pair[n % 2].register(
                Registration(agent_id="a", agent_name=f"n{n}", instance_id=f"i{n}"),
                new_id="unused",
                now=NOW + n,
            )
            for n in range(20)
        )
    )
    assert sum(r is not None and r.created for r in registered) == 1
    assert len(await instances(pair[0])) == 20


@aio
async def test_what_is_to_be_done_once_is_done_by_one(pair: list[Store]) -> None:
    done = await asyncio.gather(
        *(
            pair[n % 2].register(
                Registration(agent_id=f"a{n}", agent_name="n"),
                new_id="unused",
                now=NOW,
                once=Once("k", NOW + 100),
            )
            for n in range(20)
        )
    )
    assert sum(r is not None for r in done) == 1
    outs = await asyncio.gather(
        *(pair[n % 2].deregister("a0", now=NOW, once=Once("d", NOW + 100)) for n in range(20))
    )
    assert outs.count(None) == 19


@aio
async def test_a_session_that_both_start_is_one_and_both_change_it_in_turns(
    pair: list[Store],
) -> None:
    await add(pair[0])
    started = await asyncio.gather(
        *(pair[n % 2].start_session(session(result=0, workflow_id=f"w{n}")) for n in range(20))
    )
    assert sum(created for _, created in started) == 1
    assert len({kept.workflow_id for kept, _ in started}) == 1

    def count(kept: Session) -> Session:
        return kept.model_copy(update={"result": kept.result + 1})

    await asyncio.gather(*(pair[n % 2].update_session("s", count) for n in range(40)))
    kept = await pair[0].get_session("s")
    assert kept is not None
    assert kept.result == 40


@aio
async def test_all_share_one_watermark_as_long_as_any_listens(pair: list[Store]) -> None:
    for second in range(12):
        mark = await pair[second % 2].watermark(now=NOW + second * SECOND)
    assert (mark.since, mark.seen_at) == (NOW, NOW + 11 * SECOND)


@aio
async def test_whoever_waits_hears_of_what_another_replica_has_written(pair: list[Store]) -> None:
    writer, waiter = pair
    assert isinstance(waiter, WakingStore)
    await add(writer)
    heard = await waiter.wait_for_events(TIMEOUT, after=0)  # connects, and may have missed some
    waiting = asyncio.ensure_future(waiter.wait_for_events(TIMEOUT, after=heard))
    await writer.apply_reports([said(sequence=1)])
    await asyncio.wait_for(waiting, TIMEOUT / 2)
    assert len(await waiter.events(after=0, limit=9, max_size=999)) == 1


# --- clocks --------------------------------------------------------------------------------------


@aio
@pytest.mark.parametrize("hours", [-2, 2])
async def test_a_replica_whose_clock_is_wrong_loses_nobody_and_keeps_nobody_alive(
    postgres: str, hours: int
) -> None:
    wrong = hours * 3600 * SECOND
    template = open_store(postgres)
    assert isinstance(template, PostgresStore)
    off = PostgresStore(template.address, clock=lambda: system_clock() + wrong)
    async with replicas(postgres, 1) as (right,):
        await off.open()
        await add(off, now=system_clock() + wrong)
        await off.heartbeat(beat(received_at=system_clock() + wrong))
        await off.apply_reports([said("idle", sequence=1, received_at=system_clock() + wrong)])
        instance = (await instances(right))["i"]
        assert abs(instance.last_seen_at - system_clock()) < 60 * SECOND
        for store, now in ((right, system_clock()), (off, system_clock() + wrong)):
            mark = await store.watermark(now=now)
            assert abs(mark.seen_at - system_clock()) < 60 * SECOND
            assert not is_lost(instance, mark)
        await off.close()


@aio
async def test_a_clock_that_is_about_right_is_left_alone(postgres: str) -> None:
    template = open_store(postgres)
    assert isinstance(template, PostgresStore)
    store = PostgresStore(template.address, clock=lambda: system_clock() + SECOND // 2)
    await store.open()
    assert (await store.watermark(now=NOW)).seen_at == NOW
    await store.close()
