"""`opscore serve` as a process: how it starts, how it refuses to, how it ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.support import commands
from tests.support.processes import (
    OpsCoreProcess,
    clean_environment,
    opscore_command,
    running_opscore,
)
from tests.support.waiting import TIMEOUT, wait_until


def failed_start(tmp_path: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `opscore serve` where it cannot start, and return what it said."""
    return subprocess.run(
        [*opscore_command(), "serve", *arguments],
        cwd=tmp_path,
        env=clean_environment(**env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_it_serves_and_says_where(tmp_path: Path) -> None:
    with running_opscore(tmp_path, key="open-sesame") as opscore:
        health = httpx.get(f"{opscore.url}/health")
        assert health.status_code == 200
        assert health.json()["status"] == "ok"
        assert health.json()["store"] == "sqlite"
        assert health.json()["uptimeSeconds"] >= 0
        assert "server" not in health.headers
        assert httpx.get(f"{opscore.url}/v1/opscore/agents").status_code == 401
    assert [event["event"] for event in opscore.events()] == [
        *("started", "listening", "request_refused", "stopped")
    ]
    assert "open-sesame" not in opscore.log()
    assert opscore.log().count("\n") == 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    process = OpsCoreProcess(tmp_path, api_key=None, port=0, env={})
    process.start()
    assert process.send(number) == 0
    assert process.events()[-1]["event"] == "stopped"
    assert "Traceback" not in process.log()


def test_it_refuses_other_machines_without_a_key(tmp_path: Path) -> None:
    done = failed_start(tmp_path, "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 2
    assert "set OPSCORE_API_KEY" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = failed_start(tmp_path, "--port", str(port))
    assert done.returncode != 0
    assert f"127.0.0.1:{port}" in done.stderr
    assert done.stderr.count("\n") == 1


def test_of_two_that_start_together_on_one_port_one_says_that_it_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    both = [
        subprocess.Popen(
            [
                *(*opscore_command(), "serve", "--port", str(port)),
                *("--database", f"sqlite:///{tmp_path}/{name}.db"),
            ],
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    try:
        wait_until(lambda: any(process.poll() for process in both), message="one to give up")
        (loser,) = (process for process in both if process.poll() is not None)
        assert loser.stderr is not None
        said = [line for line in loser.stderr.read().splitlines() if not line.startswith("{")]
        assert len(said) == 1
        assert f"127.0.0.1:{port}" in said[0]
        assert httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
    finally:
        for process in both:
            process.terminate()
            process.communicate(timeout=20)


@pytest.mark.parametrize(
    ("variable", "value", "code"),
    [
        ("OPSCORE_PORT", "abc", 2),
        ("OPSCORE_MAX_BODY_BYTES", "much", 2),
        ("OPSCORE_EXTRA_STATES", "a b", 2),
        ("LOG_LEVEL", "LOUD", 2),
        ("OPSCORE_DATABASE_URL", "mysql://u:hidden@h/d", 2),
    ],
)
def test_a_bad_setting_is_one_clear_line(variable: str, value: str, code: int) -> None:
    done = commands.opscore("serve", **{"OPSCORE_PORT": "0"} | {variable: value})
    assert done.returncode == code
    assert variable in done.stderr
    assert "hidden" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_database_that_cannot_be_opened_is_said_without_a_traceback(tmp_path: Path) -> None:
    done = failed_start(tmp_path, "--port", "0", "--database", "sqlite:///nowhere/opscore.db")
    assert done.returncode in {1, 2}
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bad_key_is_not_repeated() -> None:
    done = commands.opscore("serve", OPSCORE_API_KEY="schlüssel")
    assert done.returncode == 2
    assert "OPSCORE_API_KEY" in done.stderr
    assert "schl" not in done.stderr


def test_what_it_knew_is_there_after_a_restart(tmp_path: Path) -> None:
    with running_opscore(tmp_path) as opscore:
        body = {"agentName": "summarizer"}
        created = httpx.post(f"{opscore.url}/v1/opscore/agents", json=body)
        assert created.status_code == 201
        opscore.restart()
        again = httpx.post(f"{opscore.url}/v1/opscore/agents", json=body)
        assert again.status_code == 200
        assert again.json()["agentId"] == created.json()["agentId"]


def test_a_request_that_never_ends_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with running_opscore(tmp_path) as opscore:
        host, port = opscore.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as slow:
            slow.sendall(
                b"POST /v1/opscore/agents HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"
            )
            assert opscore.stop() == 0


def test_an_oversized_body_is_answered_while_it_is_still_being_sent(tmp_path: Path) -> None:
    with running_opscore(tmp_path) as opscore:
        host, port = opscore.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as talker:
            talker.sendall(
                b"POST /v1/opscore/agent/a/state HTTP/1.1\r\nHost: x\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n"
            )
            chunk = b"x" * 65536
            for _ in range(20):
                talker.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            assert talker.recv(4096).startswith(b"HTTP/1.1 413 ")
        answer = httpx.post(f"{opscore.url}/v1/opscore/agents", content=b"x" * 5_000_000)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_debug_tells_of_each_report_and_info_does_not(tmp_path: Path) -> None:
    with running_opscore(tmp_path, LOG_LEVEL="debug") as opscore:
        created = httpx.post(f"{opscore.url}/v1/opscore/agents", json={"agentName": "a"})
        agent_id = created.json()["agentId"]
        report = {"agentId": agent_id, "timestamp": "2026-09-21T14:13:20Z", "state": "idle"}
        url = f"{opscore.url}/v1/opscore/agent/{agent_id}/state"
        assert httpx.post(url, json=report).status_code == 202
        accepted = wait_until(
            lambda: [e for e in opscore.events() if e["event"] == "report_accepted"]
        )
    assert accepted[0]["agent_id"] == agent_id
    assert accepted[0]["level"] == "debug"
    for line in opscore.log().splitlines():
        assert {"event", "level", "logger", "timestamp"} <= set(json.loads(line))


@pytest.mark.parametrize(
    "before", ["", "POST /health HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"]
)
@pytest.mark.parametrize("piece", ["a" * 4096, "X: a\r\n" * 512, "\r\n" * 2048])
def test_who_never_comes_to_the_end_of_a_head_is_cut_off(
    tmp_path: Path, before: str, piece: str
) -> None:
    with running_opscore(tmp_path) as opscore:
        host, _, port = opscore.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=TIMEOUT) as endless:
            endless.sendall((before or "GET /health HTTP/1.1\r\nX: ").encode())
            with pytest.raises(ConnectionError):
                endless.sendall((piece * 5_000).encode())
        assert httpx.get(f"{opscore.url}/health", headers={"X": "a" * 60_000}).status_code == 200
