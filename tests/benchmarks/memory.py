"""What the middleware adds to a process that has httpx and pydantic already: resident memory.

With compiled code beside the modules, as an installed package has it: compiling them would leave
memory behind that no agent sees. A run that does not count sees to it.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

from opscore_middleware.testing import run_opscore
from tests.support.processes import clean_environment

RUNS = 5

SCRIPT = """
import asyncio, gc, os, sys, threading
import httpx, pydantic, starlette.applications
from pydantic_core import from_json

class Model(pydantic.BaseModel):
    name: str

def rss():
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

async def live(agent, requests):
    held, started = asyncio.Event(), asyncio.Event()
    coming = [{"type": "lifespan.startup"}]
    async def receive():
        if coming:
            return coming.pop()
        await held.wait()
        return {"type": "lifespan.shutdown"}
    async def send(message):
        started.set()
    life = asyncio.create_task(agent({"type": "lifespan"}, receive, send))
    await started.wait()
    for _ in range(requests):
        await agent({"type": "http", "method": "POST", "path": "/", "headers": []}, receive, send)
        await asyncio.sleep(0.001)
    await asyncio.sleep(1)
    used = rss()
    held.set()
    await life
    return used

url = sys.argv[1]
# A thread, a connection and a loop are what any reporter needs: part of the ground we stand on.
with httpx.Client() as client:
    client.get(url + "/health")
thread = threading.Thread(target=lambda: None)
thread.start()
thread.join()
ground = asyncio.run(live(app, 300))
from opscore_middleware import OpsCoreMiddleware
imported = rss()
started = asyncio.run(live(OpsCoreMiddleware(app, agent_name="bench"), 300))
print(imported - ground, started - ground)
"""


def added(url: str, environ: dict[str, str]) -> tuple[float, float]:
    """Return what importing it adds, and what it adds once it reports, in MiB."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, url],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    imported, started = map(int, done.stdout.split())
    return imported / 2**20, started / 2**20


def main() -> None:
    with run_opscore() as opscore:
        environ = clean_environment(**opscore.environ)
        environ.pop("PYTHONDONTWRITEBYTECODE", None)
        added(opscore.url, environ)
        imports, whole = zip(*(added(opscore.url, environ) for _ in range(RUNS)), strict=True)
    print(f"MiB of resident memory beyond httpx, pydantic and starlette, median of {RUNS} runs")
    print(f"  imported                      {statistics.median(imports):6.2f}")
    print(f"  started and reporting         {statistics.median(whole):6.2f}")


if __name__ == "__main__":
    main()
