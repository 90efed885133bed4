"""Tasks go to the handler of their name, and their end is reported with what they came to."""

from __future__ import annotations

import asyncio
import functools
from typing import Annotated, Any

import anyio
import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from opscore_middleware import ConfigurationError, TaskContext, TaskRouter
from tests.agent.exchange import reported
from tests.agent.support import ScriptedOpsCore, watched
from tests.agent.tasks.sending import agent_with, answered, forwarded, send

pytestmark = pytest.mark.anyio

TASK = {"opscore_task_id": "t-1.1", "opscore_session_id": "s-1", "task_name": "summarise"}


class Summary(BaseModel):
    """What a summary is."""

    text: str
    words: int


def summarising(inline: bool = False) -> TaskRouter:
    tasks = TaskRouter()

    @tasks.task("summarise", inline=inline)
    async def summarise(text: Annotated[str, Field(min_length=1)], words: int = 2) -> Summary:
        await anyio.lowlevel.checkpoint()
        return Summary(text=" ".join(text.split()[:words]), words=words)

    return tasks


async def test_a_task_is_acknowledged_and_its_result_reported(ops_core: ScriptedOpsCore) -> None:
    agent = agent_with(summarising(), ops_core)
    exchange = await send(agent, forwarded(text="ink is wet and black", more="is fine"))
    assert answered(exchange) == (202, {"status": "accepted"})
    reports = await reported(ops_core, "active", "idle")
    assert [r["details"] for r in reports] == [
        TASK,
        {
            **TASK,
            "opscore_task_state": "completed",
            "opscore_task_result": {"text": "ink is", "words": 2},
        },
    ]


async def test_inline_the_result_is_answered_and_reported(ops_core: ScriptedOpsCore) -> None:
    agent = agent_with(summarising(inline=True), ops_core)
    exchange = await send(agent, forwarded(text="ink is wet", words="1"))
    assert answered(exchange) == (200, {"text": "ink", "words": 1})
    reports = await reported(ops_core, "active", "idle")
    assert reports[1]["details"]["opscore_task_result"] == {"text": "ink", "words": 1}


async def test_a_handler_may_take_the_whole_payload_and_the_context(
    ops_core: ScriptedOpsCore,
) -> None:
    tasks = TaskRouter()
    seen: list[TaskContext] = []

    @tasks.task("summarise", inline=True)
    async def summarise(task: TaskContext, summary: Summary) -> str:
        seen.append(task)
        return summary.text

    body = forwarded(text="ink", words=1)
    assert answered(await send(agent_with(tasks, ops_core), body)) == (200, "ink")
    (task,) = seen
    assert (task.name, task.task_id, task.session_id) == ("summarise", "t-1.1", "s-1")
    assert task.payload == {"text": "ink", "words": 1}


async def test_parameters_may_be_called_anything(ops_core: ScriptedOpsCore) -> None:
    tasks = TaskRouter()

    @tasks.task("summarise", inline=True)
    async def summarise(schema: int, model_config: int, _hidden: int = 3, *, copy: Any = None):  # type: ignore[no-untyped-def]
        return [schema, model_config, _hidden, copy]

    body = forwarded(schema=1, model_config=2, copy=[4])
    exchange = await send(agent_with(tasks, ops_core), body)
    assert answered(exchange) == (200, [1, 2, 3, [4]])


@pytest.mark.parametrize("inline", [True, False])
async def test_parameters_that_do_not_fit_are_refused_with_each_fault(
    inline: bool, ops_core: ScriptedOpsCore
) -> None:
    agent = agent_with(summarising(inline), ops_core)
    exchange = await send(agent, forwarded(text="", words="many"))
    status, body = answered(exchange)
    assert (status, body["code"]) == (422, "validation_failed")
    assert [fault["loc"] for fault in body["detail"]] == [["payload", "text"], ["payload", "words"]]
    reports = await reported(ops_core, "active", "idle")
    assert reports[1]["details"] == {
        **TASK,
        "opscore_task_state": "failed",
        "opscore_task_status": 422,
    }


@pytest.mark.parametrize(
    "body", [b"no json", b"[]", b'{"messageType": "chat"}', b'{"payload": 3}', b""]
)
async def test_what_is_no_task_is_refused(body: bytes, ops_core: ScriptedOpsCore) -> None:
    status, answer = answered(await send(agent_with(summarising(), ops_core), body))
    assert (status, answer["code"]) == (422, "validation_failed")
    assert all(set(fault) == {"type", "loc", "msg"} for fault in answer["detail"])


async def test_a_task_by_an_unknown_name_is_refused_with_those_there_are(
    ops_core: ScriptedOpsCore,
) -> None:
    agent = agent_with(summarising(), ops_core)
    assert answered(await send(agent, forwarded("translate"))) == (
        404,
        {
            "detail": "No handler for task 'translate'; there are handlers for: summarise.",
            "code": "unknown_task",
        },
    )
    status, answer = answered(await send(agent, forwarded(None)))
    assert (status, answer["detail"].partition(";")[0]) == (404, "The task has no name")


@pytest.mark.parametrize("name", ["step one", None])
async def test_the_capability_chooses_where_the_name_does_not(
    name: str | None, ops_core: ScriptedOpsCore
) -> None:
    agent = agent_with(summarising(inline=True), ops_core)
    header = (b"x-opscore-capability", b"summarise")
    assert (await send(agent, forwarded(name, text="ink"), header)).status == 200


async def test_what_the_body_leaves_out_may_stand_in_headers(ops_core: ScriptedOpsCore) -> None:
    tasks = TaskRouter()
    seen: list[TaskContext] = []

    @tasks.task("zusammenfaßen", inline=True)
    async def summarise(task: TaskContext) -> None:
        seen.append(task)

    headers = [
        (b"x-opscore-task-id", b"t-2.1"),
        (b"x-opscore-session-id", b"s-2"),
        (b"x-opscore-task-name", "zusammenfaßen".encode()),
    ]
    assert (await send(agent_with(tasks, ops_core), b"{}", *headers)).status == 200
    assert (seen[0].task_id, seen[0].session_id) == ("t-2.1", "s-2")


async def test_a_router_takes_only_posts(ops_core: ScriptedOpsCore) -> None:
    transport = httpx.ASGITransport(summarising())
    async with httpx.AsyncClient(transport=transport, base_url="http://agent") as client:
        answer = await client.put("/")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["code"] == "method_not_allowed"
    with pytest.raises(ConfigurationError):
        await summarising()({"type": "lifespan"}, None, None)  # type: ignore[arg-type]


async def test_without_the_middleware_tasks_are_done_all_the_same() -> None:
    transport = httpx.ASGITransport(summarising(inline=True))
    async with httpx.AsyncClient(transport=transport, base_url="http://agent") as client:
        answer = await client.post("/", content=forwarded(text="ink is wet"))
    assert answer.json() == {"text": "ink is", "words": 2}


# --- handlers ------------------------------------------------------------------------------------


def _plain(text: str) -> str:
    return text


async def _many(*texts: str) -> None:
    raise NotImplementedError


async def _strange(text: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821 - that is it
    raise NotImplementedError


class Opaque:
    """What no JSON says."""


async def _opaque() -> Opaque:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (_plain, "must be an `async def`"),
        (_many, "takes *texts"),
        (_strange, "annotated with 'Nowhere'"),
        (functools.partial(_strange, text="ink"), "must be an `async def`"),
        (_opaque, "which has no form in JSON"),
    ],
)
async def test_what_cannot_be_a_handler_is_refused_at_once(handler: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        TaskRouter().task("summarise")(handler)
    assert said in refused.value.message


async def test_a_context_may_be_left_out_by_those_who_call_the_handler(
    ops_core: ScriptedOpsCore,
) -> None:
    tasks = TaskRouter()

    @tasks.task("count", inline=True)
    async def count(text: str, task: TaskContext | None = None) -> str | None:
        return None if task is None else task.task_id

    assert answered(await send(agent_with(tasks, ops_core), forwarded("count", text=""))) == (
        200,
        "t-1.1",
    )
    assert await count("") is None


@pytest.mark.parametrize("path", ["/task", "/mounted/"])
async def test_an_app_routes_to_it_or_mounts_it(path: str, ops_core: ScriptedOpsCore) -> None:
    tasks = summarising(inline=True)
    app = FastAPI()
    app.router.routes.append(tasks.route("/task"))
    app.mount("/mounted", tasks)
    transport = httpx.ASGITransport(watched(app, ops_core))
    async with httpx.AsyncClient(transport=transport, base_url="http://agent") as client:
        answer = await client.post(path, content=forwarded(text="ink is wet"))
    assert answer.json() == {"text": "ink is", "words": 2}


async def test_a_name_has_one_handler() -> None:
    tasks = summarising()
    assert tasks.names == ["summarise"]
    with pytest.raises(ConfigurationError) as refused:
        tasks.task("summarise")(_many)
    assert "has a handler already" in refused.value.message


# --- failures ------------------------------------------------------------------------------------


def failing(error: BaseException, *, inline: bool = False, answer: Any = None) -> TaskRouter:
    tasks = TaskRouter()

    @tasks.task("summarise", inline=inline)
    async def summarise() -> int:
        await anyio.lowlevel.checkpoint()
        if answer is not None:
            return answer  # type: ignore[no-any-return]
        raise error

    return tasks


@pytest.mark.parametrize("inline", [True, False])
async def test_a_handler_that_raises_fails_the_task_and_the_agent(
    inline: bool, ops_core: ScriptedOpsCore
) -> None:
    raised = ValueError("no ink")
    agent = agent_with(failing(raised, inline=inline), ops_core)
    with pytest.raises(ValueError) as seen:
        await send(agent, forwarded())
    assert seen.value is raised
    (_, failed) = await reported(ops_core, "active", "error")
    assert failed["details"]["opscore_task_state"] == "failed"
    error = {"type": "ValueError", "message": "no ink", "where": "task summarise"}
    assert failed["details"]["error"] == error


async def test_a_result_that_is_not_what_was_promised_is_a_failure(
    ops_core: ScriptedOpsCore,
) -> None:
    agent = agent_with(failing(ValueError(), answer="many"), ops_core)
    with pytest.raises(ValueError):
        await send(agent, forwarded())
    (_, failed) = await reported(ops_core, "active", "error")
    assert failed["details"]["error"]["type"] == "ValidationError"


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize(("status", "state"), [(404, "idle"), (502, "error")])
async def test_a_handler_says_by_a_status_how_it_failed(
    status: int, state: str, inline: bool, ops_core: ScriptedOpsCore
) -> None:
    agent = agent_with(failing(HTTPException(status, "no such page"), inline=inline), ops_core)
    exchange = await send(agent, forwarded())
    assert exchange.status == (status if inline else 202)
    (_, end) = await reported(ops_core, "active", state)
    assert end["details"]["opscore_task_state"] == "failed"
    assert end["details"]["opscore_task_status"] == status
    if not inline:
        assert end["details"]["error"]["message"] == "no such page"


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("status", [200, 204, 307])
async def test_what_is_raised_is_a_failure_whatever_its_status(
    status: int, inline: bool, ops_core: ScriptedOpsCore
) -> None:
    raised = HTTPException(status, "well done?", headers={"Location": "/elsewhere"})
    agent = agent_with(failing(raised, inline=inline), ops_core)
    exchange = await send(agent, forwarded())
    assert exchange.status == (500 if inline else 202)
    if inline:
        assert answered(exchange)[1] == {"detail": "well done?", "code": "task_failed"}
    (_, end) = await reported(ops_core, "active", "error")
    assert end["details"]["opscore_task_state"] == "failed"
    assert end["details"]["opscore_task_status"] == 500


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize(("status", "state"), [(429, "idle"), (503, "error")])
async def test_a_handler_without_room_says_for_how_long(
    status: int, state: str, inline: bool, ops_core: ScriptedOpsCore
) -> None:
    full = HTTPException(status, "no room", headers={"Retry-After": "90"})
    agent = agent_with(failing(full, inline=inline), ops_core)
    exchange = await send(agent, forwarded())
    assert ((b"retry-after", b"90") in exchange.headers_sent) is inline
    (_, end) = await reported(ops_core, "active", state)
    assert end["details"]["opscore_task_status"] == status
    assert end["details"]["opscore_task_retry_after"] == 90


async def test_a_refusal_whose_detail_is_no_json_is_told_as_text(ops_core: ScriptedOpsCore) -> None:
    refusal = HTTPException(404, {"page": Opaque})  # type: ignore[arg-type]
    exchange = await send(agent_with(failing(refusal, inline=True), ops_core), forwarded())
    status, answer = answered(exchange)
    assert (status, answer["detail"]) == (404, {"page": str(Opaque)})
    await reported(ops_core, "active", "idle")


async def test_a_failure_that_is_not_the_agents_is_redacted_too(ops_core: ScriptedOpsCore) -> None:
    agent = agent_with(
        failing(HTTPException(404, "no Jane Doe")), ops_core, redact=lambda details: {"error": {}}
    )
    await send(agent, forwarded())
    (_, end) = await reported(ops_core, "active", "idle")
    assert end["details"]["error"] == {}


# --- results -------------------------------------------------------------------------------------


async def test_a_result_of_more_than_64_kib_is_told_as_dropped(
    ops_core: ScriptedOpsCore, caplog: pytest.LogCaptureFixture
) -> None:
    agent = agent_with(summarising(), ops_core)
    await send(agent, forwarded(text="x" * 70_000))
    (_, end) = await reported(ops_core, "active", "idle")
    assert end["details"]["opscore_task_result_dropped"] is True
    assert "opscore_task_result" not in end["details"]
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told.startswith("task summarise came to a result of 70")


async def test_results_are_not_reported_where_that_is_not_wanted(ops_core: ScriptedOpsCore) -> None:
    agent = agent_with(summarising(), ops_core, report_results=False)
    await send(agent, forwarded(text="ink"))
    (_, end) = await reported(ops_core, "active", "idle")
    assert end["details"] == {**TASK, "opscore_task_state": "completed"}


# --- attempts that come again --------------------------------------------------------------------


@pytest.mark.parametrize("inline", [True, False])
async def test_an_attempt_that_comes_again_is_answered_with_the_first_ones_result(
    inline: bool, ops_core: ScriptedOpsCore
) -> None:
    tasks, done = TaskRouter(), 0

    @tasks.task("count", inline=inline)
    async def count() -> int:
        nonlocal done
        done += 1
        return done

    agent = agent_with(tasks, ops_core)
    for task_id in ("t-1.1", "t-1.1", "t-1.2", "t-1.1"):
        exchange = await send(agent, forwarded("count", task_id))
    assert answered(exchange) == (200, 1)
    assert done == 2
    assert (await send(agent, forwarded("count", None))).status == (200 if inline else 202)
    assert done == 3


@pytest.mark.parametrize("inline", [True, False])
async def test_an_attempt_that_comes_again_while_it_is_done_is_not_done_twice(
    inline: bool, ops_core: ScriptedOpsCore
) -> None:
    tasks, done = TaskRouter(), 0
    began, go_on = anyio.Event(), anyio.Event()
    statuses: list[int] = []

    @tasks.task("count", inline=inline)
    async def count() -> int:
        nonlocal done
        done += 1
        began.set()
        await go_on.wait()
        return done

    agent = agent_with(tasks, ops_core)

    async def again() -> None:
        statuses.append((await send(agent, forwarded("count"))).status)

    async with anyio.create_task_group() as group:
        group.start_soon(again)
        await began.wait()
        group.start_soon(again)
        await anyio.wait_all_tasks_blocked()
        go_on.set()
    assert done == 1
    assert statuses == [200, 200] if inline else [202, 202]


@pytest.mark.parametrize("inline", [True, False])
async def test_an_attempt_that_failed_and_comes_again_is_not_done_again(
    inline: bool, ops_core: ScriptedOpsCore
) -> None:
    agent = agent_with(failing(ValueError("no ink"), inline=inline), ops_core)
    with pytest.raises(ValueError):
        await send(agent, forwarded())
    status, answer = answered(await send(agent, forwarded()))
    assert (status, answer["code"]) == (500, "attempt_failed")


async def test_an_attempt_that_was_put_off_and_comes_again_is_put_off_again(
    ops_core: ScriptedOpsCore,
) -> None:
    full = HTTPException(429, "no room", headers={"Retry-After": "90"})
    agent = agent_with(failing(full), ops_core)
    await send(agent, forwarded())
    again = await send(agent, forwarded())
    assert again.status == 429  # anything else below 500 would fail the task for good
    assert (b"retry-after", b"90") in again.headers_sent


async def test_an_attempt_that_was_cut_off_may_come_again(ops_core: ScriptedOpsCore) -> None:
    tasks, done = TaskRouter(), 0

    @tasks.task("count")
    async def count() -> int:
        nonlocal done
        done += 1
        if done == 1:
            await anyio.sleep_forever()
        return done

    agent = agent_with(tasks, ops_core)
    with anyio.move_on_after(0.05):
        await send(agent, forwarded("count"))
    await send(agent, forwarded("count"))
    reports = await reported(ops_core, "active", "idle", "active", "idle")
    ends = [r["details"].get("opscore_task_result") for r in reports]
    assert ends == [None, None, None, 2]


# --- what Ops-Core says to it --------------------------------------------------------------------


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_task_that_is_cancelled_at_ops_core_stops_and_its_request_does_not(
    ops_core: ScriptedOpsCore,
) -> None:
    tasks, stopped = TaskRouter(), False
    began = asyncio.Event()

    @tasks.task("wait")
    async def wait() -> None:
        nonlocal stopped
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped = True
            raise

    agent = agent_with(tasks, ops_core)
    serving = asyncio.create_task(send(agent, forwarded("wait")))
    await began.wait()
    agent._runtime.cancellations.cancel(["t-1.1"])
    assert (await serving).status == 202
    assert stopped
    reports = await reported(ops_core, "active", "idle")
    assert "opscore_task_state" not in reports[1]["details"]
