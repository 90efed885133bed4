"""What a request is once an integration has opened a unit in it: its units, and nothing else."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from opscore_middleware import Failure, Integration, WorkUnit
from opscore_middleware.agent.integrations import jobs
from opscore_middleware.agent.integrations.jobs import Jobs
from tests.agent.exchange import JSON, Exchange, reported
from tests.agent.support import ScriptedOpsCore, watched
from tests.support.waiting import wait_until_async

pytestmark = pytest.mark.anyio

TASK = {"opscore_task_id": "t-1.1"}
BODY = b'{"opscore_task_id": "t-1.1"}'
_numbers = itertools.count()


class Framework:
    """An integration whose framework works where a test says."""

    module = "json"

    def __init__(self) -> None:
        self.name = f"framework-{next(_numbers)}"
        self.unit: Callable[[str | None], WorkUnit] = lambda name: WorkUnit("none", name)

    def attach(self, open_unit: Callable[[str | None], WorkUnit]) -> None:
        self.unit = open_unit


def serving(
    ops_core: ScriptedOpsCore,
    framework: Framework,
    work: Callable[[], Awaitable[object]],
    *,
    status: int = 200,
    body: bytes = b'{"n": 1}',
    then: Callable[[], Awaitable[object]] = anyio.lowlevel.checkpoint,
    on: bool = True,
    **settings: Any,
) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await work()
        await send({"type": "http.response.start", "status": status, "headers": list(JSON)})
        await then()
        await send({"type": "http.response.body", "body": body})

    assert isinstance(framework, Integration)
    switch = [] if on else [f"-{framework.name}"]
    return watched(app, ops_core, integrations=[framework, *switch], **settings)


async def test_the_agent_is_idle_once_its_units_are_over_and_the_task_ends_with_the_response(
    ops_core: ScriptedOpsCore,
) -> None:
    framework = Framework()

    async def work() -> None:
        async with framework.unit("run"):
            pass

    async def then() -> None:
        await reported(ops_core, "active", "idle")  # while the response is held open

    agent = serving(ops_core, framework, work, then=then)
    await Exchange(BODY, headers=JSON).run(agent)
    reports = await reported(ops_core, "active", "idle", "idle")
    assert [r["details"] for r in reports] == [
        TASK,
        {},
        {**TASK, "opscore_task_state": "completed", "opscore_task_result": {"n": 1}},
    ]


@pytest.mark.parametrize("how", ["raises", "says so"])
async def test_a_unit_that_fails_is_told_at_once_and_alone(
    how: str, ops_core: ScriptedOpsCore
) -> None:
    framework = Framework()

    async def work() -> None:
        try:
            with framework.unit("run") as unit:
                if how == "raises":
                    raise ValueError("no ink")
                unit.fail(Failure("ValueError", "no ink"))
                unit.fail("and no paper")
        except ValueError:
            pass

    async def then() -> None:
        await reported(ops_core, "active", "error")

    agent = serving(ops_core, framework, work, then=then, body=b'{"jsonrpc": "2.0", "error": {}}')
    await Exchange(BODY, headers=JSON).run(agent)
    error = {"type": "ValueError", "message": "no ink", "where": "run"}
    (_, failed) = await reported(ops_core, "active", "error")
    assert failed["details"] == {**TASK, "opscore_task_state": "failed", "error": error}


@pytest.mark.parametrize("status", [200, 404, 500])
async def test_the_response_decides_nothing(status: int, ops_core: ScriptedOpsCore) -> None:
    framework = Framework()

    async def work() -> None:
        with framework.unit("run"):
            pass

    agent = serving(ops_core, framework, work, status=status)
    await Exchange(BODY, headers=JSON).run(agent)
    reports = await reported(ops_core, "active", "idle", "idle")
    end = {**TASK, "opscore_task_state": "completed"}
    if status == 200:
        end["opscore_task_result"] = {"n": 1}  # type: ignore[assignment]
    assert reports[2]["details"] == end


async def test_an_app_that_raises_afterwards_decides_nothing(ops_core: ScriptedOpsCore) -> None:
    framework = Framework()

    async def work() -> None:
        with framework.unit("run"):
            pass
        raise KeyError("somewhere else")

    with pytest.raises(KeyError):
        await Exchange(BODY, headers=JSON).run(serving(ops_core, framework, work))
    reports = await reported(ops_core, "active", "idle", "idle")
    assert reports[2]["details"] == {**TASK, "opscore_task_state": "completed"}


async def test_a_second_unit_of_a_request_begins_again(ops_core: ScriptedOpsCore) -> None:
    framework = Framework()

    async def work() -> None:
        with framework.unit("one"):
            pass
        await reported(ops_core, "active", "idle")
        try:
            with framework.unit("two"):
                raise ValueError("no ink")
        except ValueError:
            pass

    await Exchange(BODY, headers=JSON).run(serving(ops_core, framework, work))
    reports = await reported(ops_core, "active", "idle", "active", "error")
    assert [r["details"].get("opscore_task_state") for r in reports] == [None, None, None, "failed"]


async def test_a_unit_that_outlives_its_request_ends_the_task(ops_core: ScriptedOpsCore) -> None:
    framework = Framework()
    began, answered = anyio.Event(), anyio.Event()

    async def job() -> None:
        with framework.unit("job"):
            began.set()
            await answered.wait()

    async with anyio.create_task_group() as tasks:

        async def work() -> None:
            tasks.start_soon(job)
            await began.wait()

        agent = serving(ops_core, framework, work)
        await Exchange(BODY, headers=JSON).run(agent)
        await reported(ops_core, "active")
        answered.set()
    reports = await reported(ops_core, "active", "idle")
    assert reports[1]["details"] == {**TASK, "opscore_task_state": "completed"}


async def test_a_unit_that_was_cut_off_ends_no_task(ops_core: ScriptedOpsCore) -> None:
    framework = Framework()

    async def work() -> None:
        with anyio.move_on_after(0.01), framework.unit("run"):
            await anyio.sleep_forever()

    await Exchange(BODY, headers=JSON).run(serving(ops_core, framework, work))
    reports = await reported(ops_core, "active", "idle")
    assert reports[1]["details"] == {}


async def test_a_unit_that_is_broken_off_ends_no_task_and_the_next_one_does(
    ops_core: ScriptedOpsCore,
) -> None:
    framework = Framework()

    async def work() -> None:
        with contextlib.suppress(ValueError), framework.unit("first attempt") as unit:
            unit.break_off()
            raise ValueError("no ink")

    async def then() -> None:
        await reported(ops_core, "active", "idle")
        with framework.unit("second attempt"):
            pass

    agent = serving(ops_core, framework, work, then=then)
    await Exchange(BODY, headers=JSON).run(agent)
    reports = await reported(ops_core, "active", "idle", "active", "idle", "idle")
    assert [r["details"].get("opscore_task_state") for r in reports] == [
        *(None, None),
        *(None, None),
        "completed",
    ]


@pytest.mark.parametrize(
    ("body", "settings", "told"),
    [
        (b'{"n": 2}', {}, {"opscore_task_result": {"n": 2}}),
        (b'{"n": 2}', {"report_results": False}, {}),
        (b'"%s"' % (b"x" * 65_536), {}, {"opscore_task_result_dropped": True}),
        (None, {}, {}),
    ],
)
async def test_what_a_unit_has_come_to_is_the_result_and_the_response_is_not(
    body: bytes | None, settings: Any, told: dict[str, Any], ops_core: ScriptedOpsCore
) -> None:
    framework = Framework()

    async def work() -> None:
        with framework.unit("run") as unit:
            unit.come_to(body)

    async def then() -> None:
        await reported(ops_core, "active", "idle")  # while the response is held open

    await Exchange(BODY, headers=JSON).run(
        serving(ops_core, framework, work, then=then, **settings)
    )
    reports = await reported(ops_core, "active", "idle")
    assert reports[1]["details"] == {**TASK, "opscore_task_state": "completed", **told}


@pytest.mark.parametrize("how", ["fails", "raises", "is broken off"])
async def test_what_a_unit_has_come_to_counts_only_if_it_ends_well(
    how: str, ops_core: ScriptedOpsCore
) -> None:
    framework = Framework()

    async def work() -> None:
        with contextlib.suppress(ValueError), framework.unit("run") as unit:
            unit.come_to(b"1")
            if how == "fails":
                unit.fail("no ink")
            elif how == "is broken off":
                unit.break_off()
            else:
                raise ValueError("no ink")

    await Exchange(BODY, headers=JSON).run(serving(ops_core, framework, work))
    broken_off = how == "is broken off"
    reports = await reported(ops_core, "active", "idle" if broken_off else "error")
    details = reports[1]["details"]
    assert "opscore_task_result" not in details
    assert details.get("opscore_task_state") == (None if broken_off else "failed")


async def test_a_job_that_was_not_queued_is_forgotten(ops_core: ScriptedOpsCore) -> None:
    framework = Framework()
    waiting: list[Jobs] = []

    async def work() -> None:
        waiting.append(Jobs(framework.unit))
        waiting[0].put("j-1")
        waiting[0].forget("j-1")
        waiting[0].accepted("j-1")

    agent = serving(ops_core, framework, work)
    await Exchange(BODY, headers=JSON).run(agent)
    reports = await reported(ops_core, "active", "idle")
    assert reports[1]["details"]["opscore_task_state"] == "completed"


async def test_a_job_ends_the_task_of_the_request_that_queued_it(ops_core: ScriptedOpsCore) -> None:
    framework = Framework()
    waiting: list[Jobs] = []

    async def work() -> None:
        waiting.append(Jobs(framework.unit))
        waiting[0].put("j-1")
        waiting[0].accepted("j-1")

    agent = serving(ops_core, framework, work)
    await Exchange(BODY, headers=JSON).run(agent)
    await reported(ops_core, "active", "idle")
    with pytest.raises(OSError), waiting[0].unit("j-1", "job", repeated=OSError):
        raise OSError("no ink yet")
    await reported(ops_core, "active", "idle", "active", "idle")
    with waiting[0].unit("j-1", "job", repeated=OSError):
        pass
    reports = await reported(ops_core, *(("active", "idle") * 3))
    assert [r["details"] for r in reports if r["details"]] == [
        TASK,
        TASK,
        TASK,
        {**TASK, "opscore_task_state": "completed"},
    ]


async def test_of_jobs_that_are_never_done_the_earliest_are_forgotten(
    monkeypatch: pytest.MonkeyPatch, ops_core: ScriptedOpsCore
) -> None:
    monkeypatch.setattr(jobs, "_KEPT", 1)
    framework = Framework()
    waiting: list[Jobs] = []

    async def work() -> None:
        waiting.append(waiting[0] if waiting else Jobs(framework.unit))
        job = f"j-{len(waiting)}"
        waiting[0].put(job)
        waiting[0].accepted(job)

    agent = serving(ops_core, framework, work)
    for body in (BODY, b'{"opscore_task_id": "t-2.1"}'):
        await Exchange(body, headers=JSON).run(agent)
    for job in ("j-1", "j-2"):
        with waiting[0].unit(job, "job"):
            pass
    await wait_until_async(
        lambda: any("opscore_task_state" in report["details"] for report in ops_core.reports)
    )
    ended = [r["details"] for r in ops_core.reports if "opscore_task_state" in r["details"]]
    assert ended == [{"opscore_task_id": "t-2.1", "opscore_task_state": "completed"}]


async def test_switched_off_its_units_do_nothing(ops_core: ScriptedOpsCore) -> None:
    framework = Framework()

    async def work() -> None:
        try:
            with framework.unit("run"):
                raise ValueError("no ink")
        except ValueError:
            pass

    agent = serving(ops_core, framework, work, on=False)
    other = serving(ScriptedOpsCore(), framework, work)  # for which it is attached
    await Exchange(b"{}", headers=JSON).run(other)
    await Exchange(BODY, headers=JSON).run(agent)
    reports = await reported(ops_core, "active", "idle")
    assert reports[1]["details"]["opscore_task_state"] == "completed"
