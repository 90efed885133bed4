"""Claims and changes of several replicas at once: nothing given twice, and nobody in a circle."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
import pytest
import pytest_asyncio

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.liveness import Watermark
from opscore_middleware.core.models import Registration
from opscore_middleware.core.records import StoredHeartbeat
from opscore_middleware.core.runs.changes import slot_of
from opscore_middleware.core.runs.records import Advance, Claim, Run, Step
from opscore_middleware.core.runs.tasks import OPEN, TaskState
from opscore_middleware.core.sessions import SessionState
from opscore_middleware.stores import open_store
from opscore_middleware.stores import postgres as postgres_store
from opscore_middleware.stores.schema import steps
from tests.stores.run_support import Everything, advanced, claimed, ends, given, idle, sets, task
from tests.stores.support import NOW, said
from tests.support.waiting import wait_until_async

pytestmark = pytest.mark.asyncio

A: Final = ("a", "i")


@asynccontextmanager
async def opened(address: str) -> AsyncIterator[Everything]:
    store: Any = open_store(address)
    await store.open()
    yield store
    await store.close()


@pytest_asyncio.fixture
async def pair(postgres: str) -> AsyncIterator[list[Everything]]:
    """Two replicas on one database."""
    async with opened(postgres) as one, opened(postgres) as other:
        yield [one, other]


@pytest_asyncio.fixture
async def replica(pair: list[Everything]) -> Everything:
    return pair[0]


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(address)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def held(address: str, session_id: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """Hold a session as a replica does that changes it, and commit in the end."""
    async with connected(address) as connection, connection.transaction():
        await connection.execute(
            "SELECT FROM opscore.sessions WHERE session_id = $1 FOR UPDATE", session_id
        )
        yield connection


async def somebody_waits(holder: asyncpg.Connection[Any]) -> None:
    """Return once somebody waits for what a connection holds."""

    await wait_until_async(lambda: holder.fetchval(_BLOCKED))


# Of the locks as they are: who is connected is looked up once in a transaction.
_BLOCKED: Final = """
    SELECT count(*) FROM pg_locks
    WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"""


# --- claims and what happens meanwhile -----------------------------------------------------------


@pytest.mark.parametrize("state", ["paused", "cancelled"])
async def test_a_session_that_stops_while_a_claim_waits_for_it_is_left_alone(
    replica: Everything, postgres: str, state: str
) -> None:
    await idle(replica, "a", "i", "j")
    await given(replica, task("t", priority=1), session_id="s")
    await given(replica, task("u"), session_id="other")
    async with held(postgres, "s") as holder:
        claiming = asyncio.ensure_future(claimed(replica, limit=1))
        await somebody_waits(holder)
        await holder.execute("UPDATE opscore.sessions SET state = $1 WHERE session_id = 's'", state)
    assert set(await claiming) == {"u"}
    left = await replica.get_task("t")
    assert left is not None
    assert left.state is TaskState.READY


async def test_a_task_that_ends_while_a_claim_waits_is_left_alone_and_another_chosen(
    replica: Everything, postgres: str
) -> None:
    await idle(replica)
    await given(replica, task("t", priority=1), task("u"))
    async with held(postgres, "s") as holder:
        claiming = asyncio.ensure_future(claimed(replica))
        await somebody_waits(holder)
        await holder.execute("UPDATE opscore.tasks SET state = 'cancelled' WHERE task_id = 't'")
    assert await claiming == {"u": A}


async def test_a_session_that_nobody_lets_go_of_holds_up_no_others(
    replica: Everything, postgres: str
) -> None:
    await idle(replica)
    await given(replica, task("t", priority=1), session_id="held")
    await given(replica, task("u"), session_id="free")
    async with held(postgres, "held"):
        assert await claimed(replica) == {"u": A}
    await advanced(replica, ends("u"), task_id="u")
    assert await claimed(replica) == {"t": A}


async def test_a_change_that_cannot_be_kept_fails_alone(replica: Everything) -> None:
    for n in range(3):
        await given(replica, task(f"t{n}"), session_id=f"s{n}")
    steps = [ends("t0"), sets("t1", progress_message="a\x00b"), ends("t2")]
    together = await replica.advance(
        [Advance(step, session_id=f"s{n}") for n, step in enumerate(steps)], now=NOW
    )
    assert [isinstance(answer, Run) for answer in together] == [True, False, True]
    assert isinstance(together[1], asyncpg.PostgresError)
    states = [await replica.get_task(f"t{n}") for n in range(3)]
    assert [found and found.state for found in states] == ["completed", "ready", "completed"]


async def test_claims_pass_over_what_is_not_ready_in_whatever_number(replica: Everything) -> None:
    await idle(replica)
    await given(replica, *(task(f"later{n}", priority=9, ready_at=NOW + 1) for n in range(500)))
    await given(replica, task("t", priority=-9), session_id="low")
    assert await claimed(replica) == {"t": A}


async def test_of_more_slots_than_can_be_given_the_right_one_is(replica: Everything) -> None:
    agents = [f"a{n}" for n in range(6)]
    for agent_id in agents:
        await idle(replica, agent_id)
    order = []
    for n in range(12):
        await given(replica, task(f"t{n}"), session_id=f"s{n}", agent_id="own")
        ((given_to, _),) = (await claimed(replica, limit=1, now=NOW + n)).values()
        order.append(given_to)
        await advanced(replica, ends(f"t{n}"), task_id=f"t{n}")
    assert sorted(map(str, order[:6])) == agents
    assert order[:6] == order[6:]
    last = str(order[-1])
    await given(replica, task("own"), session_id="own", agent_id=last)
    assert await claimed(replica, limit=1) == {"own": (last, "i")}


async def test_an_error_that_tells_of_a_startup_is_no_failed_startup(replica: Everything) -> None:
    await idle(replica)
    details = '{"error":{"phase":"request"},"route":"startup"}'
    await replica.apply_reports([said("error", at=1, sequence=1, details=details)])
    await given(replica, task())
    assert await claimed(replica, limit=1) == {"t": A}


# --- two replicas at once ------------------------------------------------------------------------


class _Fleet:
    """Agents with instances behind shared endpoints, and two replicas that keep them busy."""

    AGENTS: Final = ("a", "b", "c")
    INSTANCES: Final = tuple(f"i{n}" for n in range(4))

    def __init__(self, stores: list[Everything], seed: int) -> None:
        self.stores = stores
        self.attempts: Counter[tuple[str, int]] = Counter()
        self.refused: list[BaseException] = []
        self._random = random.Random(seed)

    async def prepare(self, sessions: int, tasks: int) -> None:
        one = self.stores[0]
        for agent_id in self.AGENTS:
            await idle(one, agent_id, *self.INSTANCES)
        for n in range(sessions):
            pinned = self._random.choice([None, *self.AGENTS])
            await given(
                one,
                *(task(f"t{n}-{k}", pinned=pinned, priority=k % 3) for k in range(tasks)),
                session_id=f"s{n}",
            )

    async def dispatch(self, store: Everything) -> None:
        """Claim until there is nothing left that is not at an end."""
        while await store.unfinished():
            claims = await store.claim(limit=5, mark=None, now=NOW)
            self.attempts.update((c.task.task_id, c.task.attempt) for c in claims)
            await self._work(store, claims)

    async def _work(self, store: Everything, claims: Sequence[Claim]) -> None:
        """Start what was given out, often at another instance, then end it or give it back."""
        for step in (self._start, self._finish):
            ids = [claim.task.task_id for claim in claims]
            self._random.shuffle(ids)
            half = len(ids) // 2
            answers = await asyncio.gather(
                *(
                    store.advance([Advance(step(t), task_id=t) for t in part], now=NOW)
                    for part in (ids[:half], ids[half:])
                )
            )
            failed = [a for part in answers for a in part if isinstance(a, BaseException)]
            self.refused += failed

    def _start(self, task_id: str) -> Step:
        instance_id = self._random.choice(self.INSTANCES)
        return lambda run: _if_open(
            run, task_id, state=TaskState.RUNNING, instance_id=instance_id, started_at=NOW
        )

    def _finish(self, task_id: str) -> Step:
        if self._random.random() < 0.2:
            return lambda run: _if_open(run, task_id, state=TaskState.READY, stopped=True)
        return lambda run: _if_open(run, task_id, state=TaskState.COMPLETED)

    async def pause(self, store: Everything) -> None:
        """Pause and resume sessions while there is anything to do."""
        while await store.unfinished():
            session_ids = [f"s{self._random.randrange(12)}" for _ in range(3)]
            for state in (SessionState.PAUSED, SessionState.RUNNING):
                steps = [Advance(_to(state), session_id=s) for s in session_ids]
                await store.advance(steps, now=NOW)

    async def watch(self, store: Everything) -> None:
        """Look again and again whether any slot holds two."""
        while await store.unfinished():
            held = Counter(slot_of(t) for t in await store.open_tasks(self.AGENTS))
            assert set(held.values()) <= {1}


def _to(state: SessionState) -> Step:
    return lambda run: run._replace(state=state)


def _if_open(run: Run, task_id: str, **fields: Any) -> Run:
    return sets(task_id, **fields)(run) if run.tasks[task_id].state in OPEN else run


async def test_two_replicas_give_nothing_twice_and_never_wait_in_a_circle(
    pair: list[Everything],
) -> None:
    fleet = _Fleet(pair, seed=11)
    await fleet.prepare(sessions=12, tasks=10)
    await asyncio.gather(
        *(fleet.dispatch(store) for store in pair for _ in range(2)),
        *(fleet.pause(store) for store in pair),
        fleet.watch(pair[0]),
    )
    assert fleet.refused == []
    assert set(fleet.attempts.values()) == {1}
    for session in range(12):
        run = await pair[1].get_run(f"s{session}")
        assert run is not None
        for kept in run.tasks.values():
            assert kept.state is TaskState.COMPLETED
            assert fleet.attempts[kept.task_id, kept.attempt] == 1


async def test_attempts_that_swap_slots_from_both_replicas_end_where_they_began(
    pair: list[Everything],
) -> None:
    instances = [f"i{n}" for n in range(6)]
    await idle(pair[0], "a", *instances)
    for n in range(6):
        await given(pair[0], task(f"t{n}"), session_id=f"s{n}")
    assert len(await claimed(pair[0])) == 6
    order = random.Random(5)
    for _ in range(10):
        where = order.sample(instances, 6)
        answers = await asyncio.gather(
            *(
                pair[n % 2].advance(
                    [Advance(sets(f"t{n}", instance_id=where[n]), task_id=f"t{n}")], now=NOW
                )
                for n in range(6)
            )
        )
        assert all(isinstance(run, Run) for (run,) in answers)
        tasks = {t.task_id: t.instance_id for t in await pair[0].open_tasks(["a"])}
        assert sorted(map(str, tasks.values())) == instances


async def test_changes_and_claims_of_the_same_sessions_never_wait_in_a_circle(
    pair: list[Everything],
) -> None:
    sessions = [f"s{n}" for n in range(20)]
    await idle(pair[0], "a", *(f"i{n}" for n in range(20)))
    for session_id in sessions:
        await given(pair[0], task(session_id), session_id=session_id)
    order = random.Random(2)

    async def change(store: Everything) -> None:
        for _ in range(15):
            steps = [Advance(sets(s, state=TaskState.READY), session_id=s) for s in sessions]
            order.shuffle(steps)
            answers = await store.advance(steps, now=NOW)
            assert all(isinstance(run, Run) for run in answers)

    async def claim(store: Everything) -> None:
        for _ in range(15):
            await claimed(store, limit=order.randrange(2, 20))

    await asyncio.gather(*(act(store) for store in pair for act in (change, claim)))


async def test_replicas_that_claim_a_few_at_the_same_moment_give_each_once(
    pair: list[Everything],
) -> None:
    agents = [f"a{n}" for n in range(4)]
    for agent_id in agents:
        await idle(pair[0], agent_id)
    for n in range(30):
        names = [f"t{n}-{k}" for k in range(3)]
        for name in names:
            await given(pair[n % 2], task(name), session_id=name, agent_id="own")
        both = await asyncio.gather(*(claimed(store, now=NOW + n) for store in pair * 2))
        assert sorted(name for claims in both for name in claims) == names
        slots = [slot for claims in both for slot in claims.values()]
        assert len(set(slots)) == len(names)
        for name in names:
            await advanced(pair[0], ends(name), task_id=name)


async def test_a_few_are_given_out_though_the_session_of_one_is_held(
    replica: Everything, postgres: str
) -> None:
    await idle(replica, "a", "i", "j")
    await given(replica, task("t"), session_id="held")
    await given(replica, task("u"), session_id="free")
    async with held(postgres, "held"):
        assert set(await claimed(replica)) == {"u"}
    assert set(await claimed(replica)) == {"t"}


async def test_each_replica_gives_to_who_was_longest_without_a_task_whoever_gave_it(
    pair: list[Everything],
) -> None:
    agents = [f"a{n:02}" for n in range(40)]
    for agent_id in agents:
        await idle(pair[0], agent_id)
    order = random.Random(3)
    given_at: dict[str, int] = dict.fromkeys(agents, 0)
    for n in range(60):
        names = [f"t{n}-{k}" for k in range(order.choice([1, 2, 20]))]
        await given(pair[0], *map(task, names), session_id=f"s{n}", agent_id="own")
        now = NOW + n
        slots = (await claimed(order.choice(pair), limit=50, now=now)).values()
        got = {str(agent_id) for agent_id, _ in slots}
        assert len(got) == len(names)
        left_out = [given_at[agent_id] for agent_id in agents if agent_id not in got]
        assert max(given_at[agent_id] for agent_id in got) <= min(left_out)
        given_at.update(dict.fromkeys(got, now))
        for name in names:
            await advanced(pair[1], ends(name), task_id=name)


async def test_who_appears_at_one_replica_is_given_tasks_by_the_other(
    pair: list[Everything],
) -> None:
    one, other = pair
    await idle(one, "first")
    for n in range(3):
        await given(one, task(f"t{n}"), session_id=f"s{n}", agent_id="own")
    assert await claimed(one) == {"t0": ("first", "i")}
    await idle(other, "second")
    assert await claimed(one) == {"t1": ("second", "i")}
    await other.apply_reports([said("idle", agent_id="first", instance_id="j", at=1)])
    assert await claimed(one) == {"t2": ("first", "j")}


async def test_what_an_agent_can_do_since_now_is_known_to_every_replica(
    pair: list[Everything],
) -> None:
    one, other = pair
    await idle(one, "a", capabilities=("other",))
    await given(one, task(), agent_id="own")
    assert await claimed(other) == {}
    changed = Registration(
        agent_id="a",
        agent_name="a",
        version="1",
        capabilities=["c"],
        contact_endpoint="http://agent/task",
    )
    await one.register(changed, new_id="a", now=NOW + 1)
    assert await claimed(other) == {"t": A}


async def test_an_instance_that_was_lost_is_given_tasks_as_soon_as_it_is_heard_of(
    replica: Everything,
) -> None:
    await idle(replica)
    beat = StoredHeartbeat("a", "i", NOW, None, SECOND, None, None)
    await replica.heartbeat(beat)
    for n in range(3):
        await given(replica, task(f"t{n}"), session_id=f"s{n}", agent_id="own")
    later = NOW + 100 * SECOND
    mark = Watermark(NOW, later)
    assert await claimed(replica, mark=mark, now=later) == {}
    await replica.heartbeat(beat._replace(received_at=later))
    assert await claimed(replica, mark=mark, now=later) == {"t0": A}


# --- hearing -------------------------------------------------------------------------------------


async def test_words_are_heard_by_one_replica_and_taken_over_when_it_goes_away(
    postgres: str,
) -> None:
    lease = 1000
    async with opened(postgres) as second:
        await idle(second)
        await given(second, task())
        await claimed(second)
        async with opened(postgres) as first:
            turns = await asyncio.gather(
                *(
                    store.hearing(holder=name, lease=lease, now=NOW)
                    for store, name in ((first, "first"), (second, "second"))
                )
            )
            assert sum(turn is not None for turn in turns) == 1
            hears, name = (first, "first") if turns[0] is not None else (second, "second")
            start = max(turn for turn in turns if turn is not None)
            await hears.apply_reports([said("active", at=n, sequence=n) for n in (1, 2, 3)])
            words, position = await hears.words(after=start, limit=100, since=NOW)
            assert [word.sequence for word in words if word.sequence is not None] == [1, 2, 3]
            await hears.heard(holder=name, event_id=position)
        other = "second" if name == "first" else "first"
        assert await second.hearing(holder=other, lease=lease, now=NOW + lease - 1) is None
        assert await second.hearing(holder=other, lease=lease, now=NOW + lease) == position
        await second.heard(holder=name, event_id=position + 9)
        assert await second.hearing(holder=other, lease=lease, now=NOW + lease) == position
        assert await second.words(after=position, limit=100, since=NOW) == ([], position)


async def test_what_was_said_before_there_were_tasks_is_not_heard(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(postgres_store, "steps", lambda dialect: steps(dialect)[:3])
        async with opened(postgres) as before, connected(postgres) as connection:
            await connection.execute(
                "INSERT INTO opscore.agents (agent_id, agent_name, version, capabilities,"
                " registered_at, updated_at) VALUES ('a', 'a', '1', '[]', 0, 0)"
            )
            await before.apply_reports([said("active", at=n, sequence=n) for n in (1, 2)])
            last = await before.last_event_id()
    async with opened(postgres) as store:
        assert await store.hearing(holder="one", lease=1, now=NOW) == last
        await idle(store, at=9)
        await given(store, task())
        assert await claimed(store) == {"t": A}
