"""The web server's protocol, with a limit to what a client may send before its request begins."""

from __future__ import annotations

import asyncio
from typing import Final, Literal

__all__ = ["http_protocol"]

_MOST: Final = 64 * 1024
"""How many bytes of a head or a trailer may come, as with uvicorn's other protocol."""


def http_protocol() -> type[asyncio.Protocol] | Literal["auto"]:
    """Return what reads HTTP: httptools where it is installed, else what uvicorn chooses."""
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError:
        return "auto"

    class BoundedHeads(HttpToolsProtocol):
        """Cuts off a head that does not end: the parser would keep all of it in memory."""

        _size = 0
        _goes_on = False

        def data_received(self, data: bytes) -> None:
            self._goes_on = False
            super().data_received(data)
            self._size = 0 if self._goes_on else self._size + len(data)
            if self._size > _MOST and not self.transport.is_closing():
                self.send_400_response("The head of the request is too large.")

        def on_headers_complete(self) -> None:
            self._goes_on = True
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self._goes_on = True
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._goes_on = True
            super().on_message_complete()

    return BoundedHeads
