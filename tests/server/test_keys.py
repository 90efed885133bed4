"""Keys with a scope: what each opens, and how they come and go while the server runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx2 import Response
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from opscore_middleware.core.clock import SECOND, from_micros
from opscore_middleware.core.keys import Key, Scope, digest, parse_keys, toml_entry
from opscore_middleware.core.runs.tasks import attempt_id
from opscore_middleware.errors import ConfigurationError
from opscore_middleware.server import Settings, create_app
from opscore_middleware.server.keys import KeyFile
from tests.server.conftest import KEY, NOW, Connect, report_of
from tests.support.clock import MovedClock
from tests.support.processes import OpsCoreProcess, running_opscore
from tests.support.reporters import Reporters
from tests.support.streams import watching
from tests.support.waiting import TIMEOUT, wait_until

TOKENS = {"reader": "read", "workers": "agent:worker-*", "boss": "admin"}


class Keyed:
    """A server with a file of keys, asked with one of them."""

    def __init__(self, client: TestClient, path: Path) -> None:
        self.client = client
        self.path = path

    def __call__(self, key: str | None, method: str, path: str, body: Any = None) -> Response:
        headers = {} if key is None else {"Authorization": f"Bearer {token_of(key)}"}
        return self.client.request(method, f"/v1/opscore{path}", json=body, headers=headers)

    def add(self, name: str, scope: str, expires: int | None = None) -> None:
        key = Key(name, digest(token_of(name).encode()), Scope.parse(scope), expires)
        self.path.write_text(f"{self.path.read_text()}\n{toml_entry(key)}")

    def opens(self, key: str) -> bool:
        return self(key, "GET", "/agents").status_code == 200


def token_of(name: str) -> str:
    return KEY if name == "OPSCORE_API_KEY" else f"token-of-{name}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.toml"
    path.write_text(
        "\n".join(
            toml_entry(Key(name, digest(token_of(name).encode()), Scope.parse(scope)))
            for name, scope in TOKENS.items()
        )
    )
    return path


@pytest.fixture
def ask(connect: Connect, file: Path) -> Keyed:
    asks = Keyed(connect(api_key=KEY, api_keys_file=file, dispatch=False), file)
    for name in ("worker-1", "worker-2", "planner"):
        endpoint = "http://127.0.0.1:9/task"
        body = {"agentName": name, "agentId": name, "contactEndpoint": endpoint}
        assert asks("OPSCORE_API_KEY", "POST", "/agents", body).status_code == 201
    return asks


def beat() -> dict[str, Any]:
    return {"instanceId": "i", "state": "idle", "sequence": 1, "intervalSeconds": 10}


WRITES = [
    ("POST", "/agents", {"agentName": "worker-9"}),
    ("POST", "/agent/worker-1/state", report_of("worker-1")),
    ("POST", "/agent/worker-1/states", {"reports": [report_of("worker-1")]}),
    ("POST", "/agent/worker-1/heartbeat", beat()),
    ("POST", "/sessions", {"agentId": "worker-1"}),
    ("DELETE", "/agents/worker-1", None),
]
READS = [
    "/agents",
    "/agents?name=worker-1",
    "/agents/worker-1",
    "/agents/worker-1/history",
    "/agent/worker-1/state",
]


def given_out(ask: Keyed, name: str) -> str:
    """Give a task to an agent, and return the attempt's id."""
    report = report_of(name)
    assert ask("OPSCORE_API_KEY", "POST", f"/agent/{name}/state", report).status_code == 202
    definition = {"id": "wf", "name": "W", "tasks": [{"taskId": "t", "name": "T", "agentId": name}]}
    start = {"workflowDefinition": definition}
    answer = ask("OPSCORE_API_KEY", "POST", f"/agent/{name}/workflow", start)
    assert answer.status_code == 202
    assert ask.client.portal is not None
    (claim,) = ask.client.portal.call(ask.client.app.state.engine.claim, 1)  # type: ignore[attr-defined]
    return attempt_id(claim.task)


def test_an_agents_key_ends_the_tasks_of_its_agents_alone(ask: Keyed) -> None:
    for name, status in (("worker-1", 200), ("planner", 403)):
        attempt = given_out(ask, name)
        for path, body in (("progress", {"progress": 0.5}), ("result", {"result": 1})):
            answer = ask("workers", "POST", f"/tasks/{attempt}/{path}", body)
            assert answer.status_code == status, answer.text
        state = ask("reader", "GET", f"/tasks/{attempt}").json()["state"]
        assert state == ("completed" if status == 200 else "dispatched")


def test_what_steers_workflows_needs_an_admin_key(ask: Keyed) -> None:
    attempt = given_out(ask, "worker-1")
    task = ask("reader", "GET", f"/tasks/{attempt}").json()
    steering = [
        ("POST", "/workflows", {}),
        ("POST", "/agent/worker-1/workflow", {}),
        ("POST", f"/tasks/{task['taskId']}/cancel", None),
        ("POST", f"/tasks/{task['taskId']}/retry", None),
        ("POST", "/tasks/dead/replay", None),
        *(("POST", f"/sessions/{task['sessionId']}/{verb}", None) for verb in ("cancel", "retry")),
    ]
    for method, path, body in steering:
        for key in ("reader", "workers"):
            assert ask(key, method, path, body).status_code == 403, (key, path)
    assert ask("workers", "GET", "/tasks").status_code == 403
    assert ask("boss", "POST", f"/tasks/{task['taskId']}/cancel").status_code == 200


@pytest.mark.parametrize("key", ["OPSCORE_API_KEY", "boss"])
def test_an_admin_key_opens_everything(ask: Keyed, key: str) -> None:
    for path in [*READS, "/sessions"]:
        assert ask(key, "GET", path).status_code == 200
    for method, path, body in WRITES:
        assert ask(key, method, path, body).is_success


def test_a_reading_key_reads_and_changes_nothing(ask: Keyed) -> None:
    for path in [*READS, "/sessions"]:
        assert ask("reader", "GET", path).status_code == 200
    for method, path, body in WRITES:
        answer = ask("reader", method, path, body)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert answer.json()["scope"] == "read"
        assert "admin" in answer.json()["needed"]
    assert ask("boss", "GET", "/agents/worker-1/history").json()["items"] == []


def test_an_agents_key_does_what_its_agents_do(ask: Keyed) -> None:
    for path in READS:
        assert ask("workers", "GET", path).status_code == 200
    for method, path, body in WRITES[:4]:
        assert ask("workers", method, path, body).is_success


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/agents/planner", None),
        ("GET", "/agents/planner/history", None),
        ("GET", "/agent/planner/state", None),
        ("POST", "/agent/planner/state", report_of("planner")),
        ("POST", "/agent/planner/states", {"reports": [report_of("planner")]}),
        ("POST", "/agent/planner/heartbeat", beat()),
        ("POST", "/agents", {"agentName": "planner"}),
        ("POST", "/agents", {"agentName": "worker-1", "agentId": "planner"}),
        ("POST", "/agents", {"agentName": "planner", "agentId": "worker-1"}),
        ("DELETE", "/agents/worker-1", None),
        ("GET", "/sessions", None),
        ("POST", "/sessions", {"agentId": "worker-1"}),
        ("POST", "/nowhere", None),
    ],
)
def test_an_agents_key_does_nothing_else(ask: Keyed, method: str, path: str, body: Any) -> None:
    before = ask("boss", "GET", "/agents").json()
    answer = ask("workers", method, path, body)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert answer.json()["scope"] == "agent:worker-*"
    assert "'workers'" in answer.json()["detail"]
    assert ask("boss", "GET", "/agents").json() == before


def test_an_agents_key_sees_its_agents_alone_page_by_page(ask: Keyed) -> None:
    for number in range(5):
        ask("boss", "POST", "/agents", {"agentName": f"other-{number}"})
        ask("boss", "POST", "/agents", {"agentName": f"zz-{number}"})
    seen, path = [], "/agents?limit=1"
    while True:
        page = ask("workers", "GET", path).json()
        seen += [agent["agentName"] for agent in page["items"]]
        if page["nextCursor"] is None:
            break
        path = f"/agents?limit=1&cursor={page['nextCursor']}"
    assert seen == ["worker-1", "worker-2"]
    assert ask("workers", "GET", "/agents?name=planner").json()["items"] == []


def test_whom_nobody_knows_an_agents_key_is_told_no_names(ask: Keyed) -> None:
    for method, path, body in (
        ("GET", "/agents/plan", None),
        ("POST", "/agent/plan/state", report_of("plan")),
    ):
        answer = ask("workers", method, path, body)
        assert (answer.status_code, answer.json()["code"]) == (404, "agent_not_found")
        assert "planner" not in answer.text


def test_an_agents_key_registers_an_id_of_its_own_choice(ask: Keyed) -> None:
    body = {"agentName": "worker-7", "agentId": "seven"}
    assert ask("workers", "POST", "/agents", body).status_code == 201
    assert ask("workers", "POST", "/agent/seven/state", report_of("seven")).status_code == 202


def test_a_wrong_key_and_none_stay_outside(ask: Keyed) -> None:
    assert ask("nobody", "GET", "/agents").status_code == 401
    assert ask(None, "GET", "/agents").status_code == 401


def test_a_file_of_keys_locks_a_server_without_a_key_of_its_own(
    connect: Connect, file: Path
) -> None:
    ask = Keyed(connect(api_keys_file=file), file)
    assert ask(None, "GET", "/agents").status_code == 401
    assert ask.opens("reader")
    Settings.resolve(host="0.0.0.0", api_keys_file=file).require_safe_address()


def test_a_key_opens_until_it_expires(connect: Connect, file: Path) -> None:
    clock = MovedClock(NOW)
    file.write_text("")
    Keyed(connect(), file).add("brief", "read", expires=NOW + 60 * SECOND)
    ask = Keyed(connect(api_keys_file=file, clock=clock), file)
    clock.move(59)
    assert ask.opens("brief")
    clock.move(1)
    answer = ask("brief", "GET", "/agents")
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    end = from_micros(NOW + 60 * SECOND).isoformat()
    assert f"'brief' expired at {end}" in answer.json()["detail"]


def test_both_keys_open_while_one_takes_the_place_of_the_other(ask: Keyed) -> None:
    ask.add("reader-2", "read")
    wait_until(lambda: ask.opens("reader-2"))
    assert ask.opens("reader")
    kept = ask.path.read_text().split("\n\n")
    ask.path.write_text("\n\n".join(entry for entry in kept if '"reader"' not in entry))
    wait_until(lambda: not ask.opens("reader"))
    assert ask.opens("reader-2")


class Keys:
    """A file of keys whose entries come and go."""

    def __init__(self, path: Path, **scopes: str) -> None:
        self._path = path
        self.write(**scopes)

    def write(self, expires: int | None = None, **scopes: str) -> None:
        """Leave these keys in it and no others."""
        entries = (
            Key(name, digest(token_of(name).encode()), Scope.parse(scope), expires)
            for name, scope in scopes.items()
        )
        self._path.write_text("\n".join(map(toml_entry, entries)))


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "keys.toml", reader="read", workers="agent:worker-*")


@pytest.fixture
def opscore(tmp_path: Path, keys: Keys) -> Iterator[OpsCoreProcess]:
    """Return a running server that knows these keys, and one of its own."""
    file = str(tmp_path / "keys.toml")
    with running_opscore(tmp_path, key=KEY, OPSCORE_API_KEYS_FILE=file) as process:
        yield process


def carrying(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token_of(key)}"}


@pytest.mark.parametrize("left", [{}, {"reader": "agent:*"}, {"expires": 1, "reader": "read"}])
def test_a_stream_ends_once_its_key_opens_it_no_more(
    opscore: OpsCoreProcess, keys: Keys, left: dict[str, Any]
) -> None:
    agents = Reporters(opscore)
    agent_id = agents.register()
    with (
        watching(opscore.url, carrying("OPSCORE_API_KEY")) as stays,
        watching(opscore.url, carrying("reader")) as stream,
    ):
        keys.write(**left)
        assert stream.read_to_end().event == "bye"
        agents.report(agent_id, "active")
        assert [event["state"] for event in stays.read_events(1)] == ["active"]
    agents.http.close()


def test_a_stream_goes_on_while_another_key_is_taken_away(
    opscore: OpsCoreProcess, keys: Keys
) -> None:
    agents = Reporters(opscore)
    agent_id = agents.register()
    with (
        watching(opscore.url, carrying("reader")) as stream,
        ThreadPoolExecutor(1) as thread,
    ):
        poll = thread.submit(asked, opscore, "workers", agents.register("worker-1"))
        keys.write(reader="read")
        assert poll.result().status_code == 401
        agents.report(agent_id, "active")
        assert [event["state"] for event in stream.read_events(1)] == ["active"]
    agents.http.close()


@pytest.mark.parametrize(
    ("left", "status"), [({}, 401), ({"workers": "agent:other-*"}, 403), ({"workers": "read"}, 200)]
)
def test_a_question_that_waits_is_answered_by_what_its_key_opens_now(
    opscore: OpsCoreProcess, keys: Keys, left: dict[str, str], status: int
) -> None:
    agents = Reporters(opscore)
    agent_id = agents.register("worker-1")
    agents.http.close()
    with ThreadPoolExecutor(1) as thread:
        poll = thread.submit(asked, opscore, "workers", agent_id)
        wait_until(lambda: is_watched(opscore))
        keys.write(**left)
        assert poll.result().status_code == status


def asked(opscore: OpsCoreProcess, key: str, agent_id: str) -> httpx.Response:
    """Wait for an agent's next event for longer than a test may take."""
    url = f"{opscore.url}/v1/opscore/agent/{agent_id}/state?wait=60s"
    return httpx.get(url, headers=carrying(key), timeout=TIMEOUT)


def is_watched(opscore: OpsCoreProcess) -> bool:
    told = httpx.get(f"{opscore.url}/metrics", headers=opscore.headers()).text
    return "opscore_watchers 1" in told


def test_a_broken_file_keeps_the_old_keys_and_is_told_of_once(
    ask: Keyed, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "opscore_middleware")
    good = ask.path.read_text()
    ask.path.write_text(good + "\n[[keys]\n")

    def events() -> list[str]:
        told = ("loop_failed", "loop_recovered", "keys_reloaded")
        return [record.message for record in caplog.records if record.message in told]

    wait_until(lambda: events() == ["loop_failed"])
    assert ask.opens("reader")
    ask.path.unlink()
    ask.path.write_text(good)
    wait_until(lambda: events() == ["loop_failed", "keys_reloaded", "loop_recovered"])
    assert ask.opens("reader")
    assert str(ask.path) in str(caplog.records[0].__dict__.get("detail", ""))


def test_no_key_and_no_digest_is_shown_anywhere(
    ask: Keyed, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for key in (*TOKENS, "nobody"):
        for method, path, body in WRITES:
            answer = ask(key, method, path, body)
            assert token_of(key) not in answer.text
    keys = KeyFile(ask.path)
    shown = f"{caplog.text} {keys!r} {keys.keys!r}"
    for key in TOKENS:
        assert token_of(key) not in shown
        assert digest(token_of(key).encode()).hex() not in shown
        assert repr(digest(token_of(key).encode())) not in shown


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("keys = 7", "keys"),
        ("[[keys]", "not TOML"),
        ('[[keys]]\nname = "a"\nscope = "read"', "keys.0.sha256"),
        (f'[[keys]]\nname = "a"\nscope = "read"\nsha256 = "{"x" * 64}"', "keys.0.sha256"),
        (f'[[keys]]\nname = "a"\nscope = "write"\nsha256 = "{"0" * 64}"', "'write' is no scope"),
        (f'[[keys]]\nname = "a"\nscope = "agent:"\nsha256 = "{"0" * 64}"', "agent:NAME"),
        (
            f'[[keys]]\nname="a"\nscope="read"\nsha256="{"0" * 64}"\nexpires=2027-01-01T00:00:00',
            "keys.0.expires",
        ),
        (f'[[keys]]\nname = "a"\nscope = "read"\nsha256 = "{"0" * 64}"\nkey = 1', "keys.0.key"),
        (f'[[keys]]\nname = "a"\nscope = "read"\nsha256 = "{KEY}"', "keys.0.sha256"),
    ],
)
def test_a_file_that_is_none_is_refused_with_the_place_and_the_rule(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        create_app(Settings.resolve(api_keys_file=path, database_url="sqlite:///:memory:"))
    assert said in caught.value.message
    assert f"OPSCORE_API_KEYS_FILE={str(path)!r}" in caught.value.message
    assert KEY not in caught.value.message


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        create_app(Settings.resolve(api_keys_file=tmp_path / "none.toml"))


@given(
    name=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=200),
    names=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=50),
    expires=st.none() | st.datetimes(timezones=st.just(UTC), min_value=datetime(1970, 1, 2)),
)
def test_whatever_is_written_is_read_back(name: str, names: str, expires: datetime | None) -> None:
    end = (
        None
        if expires is None
        else (expires - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    )
    key = Key(name, digest(b"token"), Scope.parse(f"agent:{names}"), end)
    assert parse_keys(toml_entry(key) + "\n" + toml_entry(key)) == (key, key)


@pytest.mark.parametrize(
    ("pattern", "opened", "closed"),
    [
        ("worker [v2]", "worker [v2]", "worker v"),
        ("worker [!a]*", "worker [!a]-1", "worker b"),
        ("w?-*", "wx-", "wxy-"),
    ],
)
def test_a_pattern_has_stars_and_question_marks_and_nothing_else(
    pattern: str, opened: str, closed: str
) -> None:
    scope = Scope.parse(f"agent:{pattern}")
    assert scope.sees(opened)
    assert not scope.sees(closed)


def test_a_file_that_is_replaced_with_one_as_old_and_as_long_is_noticed(file: Path) -> None:
    keys = KeyFile(file)
    before = file.stat()
    other = file.with_name("other.toml")
    other.write_text(file.read_text().replace('"reader"', '"raeder"'))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(file)
    assert keys.refresh()
    assert {key.name for key in keys.keys} == {"raeder", "workers", "boss"}
    assert not keys.refresh()


def test_many_reports_ask_for_the_name_of_their_agent_once(
    ask: Keyed, monkeypatch: pytest.MonkeyPatch
) -> None:
    opscore = ask.client.app.state.opscore  # type: ignore[attr-defined] # a FastAPI app
    asked = []
    name_of = opscore.name_of

    async def counted(agent_id: str) -> str | None:
        asked.append(agent_id)
        return str(await name_of(agent_id))

    monkeypatch.setattr(opscore, "name_of", counted)
    for _ in range(20):
        answer = ask("workers", "POST", "/agent/worker-1/state", report_of("worker-1"))
        assert answer.status_code == 202
    assert asked == ["worker-1"]
