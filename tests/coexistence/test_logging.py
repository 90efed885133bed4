"""The app's logging is its own: neither changed by us nor told any secret."""

from __future__ import annotations

import json

import pytest

from tests.agent.support import KEY
from tests.agent.test_process import AGENT, Sink, run

# As the author of an app has set it up: levels, handlers, filters, and loggers switched off.
SCRIPT = """
import io, json, logging, logging.config
import httpx, httpcore, asyncio, concurrent.futures
said = io.StringIO()
logging.config.dictConfig({
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(name)s %(message)s"}},
    "handlers": {"kept": {"class": "logging.StreamHandler", "stream": said, "formatter": "plain"}},
    "root": {"level": "DEBUG", "handlers": ["kept"]},
    "loggers": {"app": {"level": "ERROR", "propagate": False}},
})

logging.getLogger("quiet").disabled = True

def setup():
    loggers = {"": logging.root, **logging.root.manager.loggerDict}
    return {
        name: [one.level, one.disabled, one.propagate, list(map(repr, one.handlers)),
               list(map(repr, one.filters))]
        for name, one in loggers.items()
        if isinstance(one, logging.Logger)
    }

before = setup()
factory, made_by = logging.getLogRecordFactory(), logging.getLoggerClass()
"""
AFTER = """
agent = OpsCoreMiddleware(app, api_url=sys.argv[1], api_key=KEY, agent_name="scripted")
live()
after = setup()
assert (factory, made_by) == (logging.getLogRecordFactory(), logging.getLoggerClass())
print(json.dumps({
    "changed": {n: after.get(n) for n in before if before[n] != after.get(n)},
    "added": {n: after[n] for n in after.keys() - before.keys()},
    "said": said.getvalue(),
}))
"""


@pytest.mark.trap("40")
@pytest.mark.parametrize("away", [False, True], ids=["there", "away"])
def test_the_apps_logging_is_as_it_was_and_no_line_of_it_holds_the_key(
    away: bool, sink: Sink
) -> None:
    url = "http://127.0.0.1:9" if away else sink.url  # nobody listens on the discard port
    out = json.loads(run(SCRIPT + AGENT + f"KEY = {KEY!r}\n" + AFTER, url))
    assert out["changed"] == {}
    for name, setup in out["added"].items():  # a logger of its own, set up as any new one
        assert setup == [0, False, True, [], []], name
    assert "opscore_middleware" in out["added"]
    assert "opscore_middleware" in out["said"]  # the app listens to everything
    assert "httpcore" not in out["said"]
    assert KEY not in out["said"]
    assert "Bearer" not in out["said"]
