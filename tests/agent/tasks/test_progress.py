"""How far a task is, on its way to Ops-Core."""

from __future__ import annotations

from typing import Any

import anyio
import httpx
import pytest

from opscore_middleware import TaskContext, TaskRouter
from opscore_middleware.agent.progress import LIMIT, ProgressBoard
from tests.agent.desk import Desk, ours
from tests.agent.exchange import reported
from tests.agent.support import Received, ScriptedOpsCore
from tests.agent.tasks.sending import agent_with, forwarded, send
from tests.support.waiting import wait_until_async

PATH = "/v1/opscore/tasks/t-1.1/progress"


def told(ops_core: ScriptedOpsCore) -> list[Any]:
    return [call.body for call in list(ops_core.calls) if call.path == PATH]


@pytest.mark.anyio
async def test_a_handler_tells_how_far_it_is(ops_core: ScriptedOpsCore) -> None:
    tasks = TaskRouter()

    @tasks.task("draw")
    async def draw(task: TaskContext) -> None:
        await task.progress(0.4, "the left half")
        await wait_until_async(lambda: told(ops_core))
        await task.progress(1)
        await wait_until_async(lambda: len(told(ops_core)) == 2)

    agent = agent_with(tasks, ops_core)
    await send(agent, forwarded("draw"))
    assert told(ops_core) == [{"progress": 0.4, "message": "the left half"}, {"progress": 1.0}]
    await reported(ops_core, "active", "idle")
    first = next(i for i, call in enumerate(ops_core.calls) if call.path == PATH)
    assert any(call.reports for call in ops_core.calls[:first])  # that it is active comes first


@pytest.mark.anyio
async def test_nothing_is_told_of_a_task_that_is_over(ops_core: ScriptedOpsCore) -> None:
    tasks = TaskRouter()

    @tasks.task("draw")
    async def draw(task: TaskContext) -> None:
        agent._runtime.reporter._deliverer._not_before = float("inf")  # type: ignore[attr-defined]
        await task.progress(0.4)

    agent = agent_with(tasks, ops_core)
    await send(agent, forwarded("draw"))
    assert len(agent._runtime.progress) == 0


@pytest.mark.anyio
@pytest.mark.parametrize("done", [-0.1, 1.1, float("nan")])
async def test_progress_is_from_0_to_1(done: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        await TaskContext(name="draw").progress(done)


@pytest.mark.anyio
async def test_a_context_made_by_hand_tells_nobody() -> None:
    with anyio.fail_after(1):
        await TaskContext(name="draw").progress(0.5, "half")


# --- the reporter --------------------------------------------------------------------------------


def put(desk: Desk, *progress: float) -> None:
    for done in progress:
        desk.progress.put("t-1.1", done, None)


def test_the_latest_counts_and_reports_go_first(ops_core: ScriptedOpsCore) -> None:
    desk = Desk(ops_core)
    put(desk, 0.1, 0.2, 0.3)
    desk.deliver()
    assert told(ops_core) == [{"progress": 0.3}]
    assert ops_core.paths[-1] == PATH


@pytest.mark.parametrize("status", [429, 503, None])
def test_what_cannot_be_told_now_is_told_later(
    status: int | None, ops_core: ScriptedOpsCore
) -> None:
    desk = Desk(ops_core)
    desk.deliver()

    def away(_call: Received) -> httpx.Response:
        if status is None:
            raise httpx.ConnectError("away")
        return httpx.Response(status)

    ops_core.script = away
    put(desk, 0.1)
    assert desk.deliver()
    ops_core.script = lambda call: None
    desk.pass_time(60)
    assert told(ops_core)[-1] == {"progress": 0.1}
    assert len(desk.progress) == 0


@pytest.mark.parametrize(
    ("status", "body", "again"),
    [
        (404, {"detail": "Not Found"}, 0),
        (405, None, 0),
        (404, {"detail": "no such task", "code": "task_not_found"}, 1),
        (409, {"detail": "superseded", "code": "superseded"}, 1),
    ],
)
def test_what_is_refused_goes_and_a_server_without_the_route_is_left_alone(
    status: int, body: Any, again: int, ops_core: ScriptedOpsCore
) -> None:
    desk = Desk(ops_core)
    desk.deliver()
    ops_core.script = lambda call: httpx.Response(status, json=body) if call.path == PATH else None
    put(desk, 0.1)
    desk.deliver()
    put(desk, 0.2)
    assert desk.deliver() is None
    assert len(told(ops_core)) == 1 + again


def test_a_server_that_fails_at_progress_holds_up_no_report_and_is_no_outage(
    ops_core: ScriptedOpsCore, log: pytest.LogCaptureFixture
) -> None:
    desk = Desk(ops_core, agent_id="a")
    ops_core.script = lambda call: httpx.Response(500) if call.path == PATH else None
    put(desk, 0.1)
    for units in range(1, 21):
        desk.work()
        desk.courier.deliver(urgent=False)  # waits for nothing
        assert len(ops_core.reports) == 2 + 2 * units
        desk.pass_time(30)
    assert ours(log) == []
    assert 20 < len(told(ops_core)) < 400
    ops_core.script = lambda call: None
    desk.pass_time(30)
    assert len(desk.progress) == 0


def test_the_progress_of_one_task_holds_up_no_other_s(ops_core: ScriptedOpsCore) -> None:
    desk = Desk(ops_core)
    ops_core.script = lambda call: httpx.Response(500) if call.path == PATH else None
    put(desk, 0.1)
    desk.deliver()
    desk.progress.put("t-2.1", 0.2, None)
    desk.pass_time(30)
    assert "/v1/opscore/tasks/t-2.1/progress" in ops_core.paths
    assert len(desk.progress) == 1


def test_what_could_not_be_told_does_not_replace_what_is_newer() -> None:
    board = ProgressBoard(lambda: None)
    board.put("t-1.1", 0.1, "x" * 2000)
    taken = board.take()
    assert taken is not None
    assert len(taken.message or "") == 1000
    board.put("t-1.1", 0.2, None)
    board.put_back(taken)
    newest = board.take()
    assert newest is not None
    assert newest.progress == 0.2
    assert board.take() is None


def test_a_board_is_bounded() -> None:
    board = ProgressBoard(lambda: None)
    for number in range(LIMIT + 10):
        board.put(f"t-{number}", 0.5, None)
    assert len(board) == LIMIT
    board.clear()
    assert len(board) == 0
