"""What AgentKit sends behind its answers: each once, never again, and nobody is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

__all__ = ["Delivery", "Sent"]


@dataclass(frozen=True, slots=True)
class Sent:
    """A request that AgentKit made, and what came back: a status, or the error in its place."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    status: int | None
    error: str | None

    def json(self) -> Any:
        """Return the body, parsed."""
        return json.loads(self.body)


class Delivery:
    """Sends in the background of the running loop, and forgets what it is told to drop."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None) -> None:
        self._transport = transport
        self._http: httpx.AsyncClient | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, send: Callable[..., Coroutine[Any, Any, None]], *what: Any) -> None:
        """Begin `send(*what)`; returns at once, since a caller in process waits for this."""
        task = asyncio.get_running_loop().create_task(send(*what))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, timeout: float
    ) -> Sent:
        """Post once. Whatever goes wrong is in the result."""
        headers = {"Content-Type": "application/json", **headers}
        if self._http is None:
            # The environment's proxies have no business between the parts of a test.
            self._http = httpx.AsyncClient(transport=self._transport, trust_env=False)
        try:
            answer = await self._http.post(url, content=body, headers=headers, timeout=timeout)
        except Exception as error:  # an agent reached in process may raise anything
            return Sent(url, headers, body, None, f"{type(error).__name__}: {error}")
        return Sent(url, headers, body, answer.status_code, None)

    def drop(self) -> None:
        """Forget what is still to be sent; from any thread."""
        for task in tuple(self._tasks):
            loop = task.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)

    async def close(self) -> None:
        """Forget what is still to be sent and let go of every connection."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()
