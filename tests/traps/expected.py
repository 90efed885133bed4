"""One table of what Ops-Core is told in each scenario, whatever the agent runs under."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from tests.traps.servers import SERVERS

__all__ = ["CLIENTS", "DIFFERENT", "EXPECTED", "expected", "runners"]

CLIENTS: Final[dict[str, tuple[Literal["asyncio", "trio"], bool]]] = {
    "TestClient on asyncio": ("asyncio", True),
    "TestClient on trio": ("trio", True),
    "TestClient on asyncio without lifespan": ("asyncio", False),
    "TestClient on trio without lifespan": ("trio", False),
}
"""Starlette's own test client: its event loop library, and whether it is used with `with`."""

EXPECTED: Final[dict[str, list[str]]] = {
    "start": ["initializing", "idle"],
    "POST": ["active", "idle"],
    "POST that raises": ["active", "error", "idle"],
    "HTTPException(503)": ["active", "error", "idle"],
    "status 503": ["active", "error", "idle"],
    "streaming": ["active", "idle"],
    "streaming that raises": ["active", "error", "idle"],
    "health probes": [],
    "listener of events": [],
    "client gone in mid-stream": ["active", "idle"],
    "background task": ["active", "(answered)", "idle"],
    "background task that raises": ["active", "error", "idle"],
    "websocket with two messages": ["active", "idle", "active", "idle"],
    "POST at the end": ["active", "idle"],
    "stop": ["draining", "finished"],
    "SIGTERM": ["draining", "finished"],
    "SIGTERM with a stream open": ["draining", "(stream goes on)", "finished"],
    "two SIGINTs": ["active", "draining", "finished"],
    "rolling restart": ["(agent idle)"],
    "startup failure": ["initializing", "error"],
}
"""Scenario to trace; parentheses hold what else was seen meanwhile."""


class Different(NamedTuple):
    """What a server makes of a scenario instead, and why that cannot be helped."""

    trace: list[str] | None
    """None where the scenario cannot be played."""
    why: str


_UNTOLD = (
    "without a lifespan the app is told neither of its start nor of its end, and the signals of "
    "such a process are left alone; heartbeats that stay away show its end"
)
_SPAWNED = (
    "hypercorn's parent process tells its workers of the end by a shared flag, not by a signal; "
    "the lifespan hears of it after --graceful-timeout has cut what was open"
)
_RESET = (
    "uvicorn, told twice, ends without the lifespan and raises SIGINT again; gunicorn's worker has "
    "given that signal its default back, which ends the process within the call"
)
_WHOLE = "TestClient reads each answer to its end, so it cannot leave before"
_STOPS = "servers stop on a signal"
_ONE = "TestClient calls the app within the test's own process; there is no other to signal"
_HELD = "TestClient gives the answer once the app call, background tasks included, has returned"
_CALL = "without `with`, TestClient runs no lifespan"

DIFFERENT: Final[dict[tuple[str, str], Different]] = {
    ("uvicorn without lifespan", "start"): Different(["idle"], _UNTOLD),
    ("uvicorn without lifespan", "startup failure"): Different(["idle"], _UNTOLD),
    ("uvicorn without lifespan", "SIGTERM"): Different([], _UNTOLD),
    ("uvicorn without lifespan", "SIGTERM with a stream open"): Different(
        ["(stream goes on)"], _UNTOLD
    ),
    ("uvicorn without lifespan", "two SIGINTs"): Different(
        ["active", "idle", "finished"], "only the interpreter's exit tells of the end"
    ),
    **{
        (server, scenario): Different(trace, _SPAWNED)
        for server in ("hypercorn asyncio", "hypercorn trio")
        for scenario, trace in {
            "SIGTERM with a stream open": ["(stream cut)", "draining", "finished"],
            "two SIGINTs": ["active", "idle", "draining", "finished"],
        }.items()
    },
    ("granian", "two SIGINTs"): Different(
        ["active", "draining", "(goes on)"],
        "granian waits for open requests without end, however often it is told",
    ),
    ("gunicorn", "two SIGINTs"): Different(["active", "draining"], _RESET),
    ("gunicorn preload", "two SIGINTs"): Different(["active", "draining"], _RESET),
    **{
        (client, scenario): Different(None, why)
        for client in CLIENTS
        for scenario, why in {
            "listener of events": _WHOLE,
            "client gone in mid-stream": _WHOLE,
            "SIGTERM": _ONE,
            "SIGTERM with a stream open": _ONE,
            "two SIGINTs": _ONE,
            "rolling restart": _ONE,
        }.items()
    },
    **{(server, "stop"): Different(None, _STOPS) for server in SERVERS},
    **{
        (client, "background task"): Different(["active", "(not answered)", "idle"], _HELD)
        for client in CLIENTS
    },
    **{
        (client, scenario): Different(trace, _CALL)
        for client, (_, lifespan) in CLIENTS.items()
        if not lifespan
        for scenario, trace in {"start": ["idle"], "stop": [], "startup failure": None}.items()
    },
}


def expected(runner: str, scenario: str) -> list[str] | None:
    """Return what is to be seen of a scenario, or None where it cannot be played."""
    different = DIFFERENT.get((runner, scenario))
    return EXPECTED[scenario] if different is None else different.trace


def runners(scenario: str) -> list[str]:
    """Return the servers and clients under which a scenario can be played."""
    return [runner for runner in (*SERVERS, *CLIENTS) if expected(runner, scenario) is not None]
