"""Whether a client has left before it was answered."""

from __future__ import annotations

from typing import Final

import anyio
import anyio.lowlevel
from starlette.types import Receive

__all__ = ["client_has_left"]

MOMENT: Final = 0.005
"""Seconds for which a server is asked whether the client has left, once the app is through."""


async def client_has_left(receive: Receive) -> bool:
    """Ask the server, now that the app asks no more; a client that stays costs a moment.

    Raises nothing: the app's own exception is on its way.
    """
    try:
        with anyio.move_on_after(MOMENT, shield=True):
            while (await receive())["type"] != "http.disconnect":
                # Middleware that has read the body may repeat it for ever, without a pause.
                await anyio.lowlevel.checkpoint()
            return True
    except Exception:
        return False
    except BaseException:
        return True  # cancelled: whoever asked for this request has no more use for it
    return False
