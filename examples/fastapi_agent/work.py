"""What the demo asks the agent to do; each returns in a few words what came of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import httpx

__all__ = ["Work"]


class Work:
    """Requests to the example agent.

    Args:
        agent: a client of the agent, with its address.
        progress: called with a few words while something takes its time.
    """

    def __init__(self, agent: httpx.AsyncClient, progress: Callable[[str], None]) -> None:
        self._agent = agent
        self._progress = progress

    async def quick(self) -> str:
        """Have a text summarised at once."""
        answer = (await self._agent.post("/summarise", json={})).raise_for_status().json()
        return f"{answer['kept']} of {answer['of']} sentences"

    async def slow(self, seconds: float = 2) -> str:
        """Have it read slowly, and follow how far it is."""
        lines = 0
        async with self._agent.stream("POST", "/summarise/slow", json={"seconds": seconds}) as got:
            async for line in got.raise_for_status().aiter_lines():
                lines += 1
                progress = json.loads(line)
                if "paragraphs" in progress:
                    self._progress(f"read {progress['paragraphs']} of {progress['of']} paragraphs")
        return f"{lines - 1} lines of progress, then the summary"

    async def overlapping(self) -> str:
        """Begin a second reading while the first goes on."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self.slow(1.5))
            await asyncio.sleep(0.5)
            both.create_task(self.slow(1.5))
        return "two summaries, one stretch of work"

    async def streaming(self) -> str:
        """Take sentences as they are chosen."""
        events = 0
        body = {"sentences": 5}
        async with self._agent.stream("POST", "/summarise/stream", json=body) as got:
            async for line in got.raise_for_status().aiter_lines():
                events += line == "event: sentence"
        return f"{events} sentences, an event each"

    async def failing(self) -> str:
        """Have it fail."""
        answer = await self._agent.post("/fail", json={"message": "lost its place"})
        return f"answered {answer.status_code}"
