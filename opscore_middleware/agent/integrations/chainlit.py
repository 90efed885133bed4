"""Apps on Chainlit: what they do about a message is the work, not the sockets that bring it."""

from __future__ import annotations

import functools
import sys
from typing import Any, Final

from opscore_middleware.agent.integrations.protocol import OpenUnit
from opscore_middleware.agent.integrations.wrapping import require_version

__all__ = ["Chainlit"]

_HANDLERS: Final = ("on_message", "on_window_message", "on_audio_end")


class Chainlit:
    """Opens a unit for each message, written or spoken, that the app's own function is given.

    It fails with what the function raises, which Chainlit shows the user and keeps to itself.
    """

    name = "chainlit"
    module = "chainlit.config"

    def attach(self, open_unit: OpenUnit) -> None:
        """Register the functions again that the app has registered, each with units around it."""
        require_version("chainlit", 2)
        code: Any = sys.modules[self.module].config.code
        register: Any = sys.modules["chainlit.utils"].wrap_user_function
        for name in _HANDLERS:
            handler = getattr(code, name, None)
            if handler is not None:
                setattr(code, name, register(_counted(handler.__wrapped__, name, open_unit)))


def _counted(function: Any, name: str, open_unit: OpenUnit) -> Any:
    @functools.wraps(function)
    async def counted(*args: Any, **more: Any) -> Any:
        with open_unit(name):
            return await function(*args, **more)

    return counted
