"""Something else happens at a chosen place in the middle of our code."""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable, Container
from types import FrameType
from typing import Any, Final, Self

__all__ = ["AFTER", "Interruption"]

OURS: Final = tuple(f"agent/{name}.py" for name in ("outbox", "request", "shared", "tracker"))
AFTER: Final = {
    *("RESUME", "CALL", "CALL_FUNCTION_EX", "JUMP_BACKWARD", "GET_ITER"),
    *("BUILD_TUPLE", "BUILD_LIST", "BUILD_MAP", "DICT_UPDATE", "LIST_EXTEND", "LIST_TO_TUPLE"),
}
"""After these, CPython may collect: where it allocates, and, from 3.12 on, where it breaks."""
ANY: Final = frozenset({*dis.opname, "a call of ours"})


class Interruption:
    """Calls `meanwhile` once, at the nth of some places in what this thread runs of our code.

    Args:
        meanwhile: what happens there.
        at: how many places to pass by.
        after: the instructions after which it may happen; all of them unless given.
    """

    def __init__(self, meanwhile: Callable[[], None], at: int, after: Container[str] = ANY) -> None:
        self._meanwhile = meanwhile
        self._left = at
        self._after = after
        self._before: dict[FrameType, str] = {}
        self.done = False

    def __enter__(self) -> Self:
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _enter(self, frame: FrameType, _event: str, _value: object) -> Any:
        if not frame.f_code.co_filename.endswith(OURS):
            return None
        frame.f_trace_opcodes = True
        return self._step

    def _step(self, frame: FrameType, event: str, _value: object) -> Any:
        if event == "opcode":
            before = self._before.get(frame)
            self._before[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            if before in self._after and not self.done:
                self.done = self._left == 0
                self._left -= 1
                if self.done:
                    sys.settrace(None)
                    self._meanwhile()
                    return None
        elif event == "return" and frame.f_back in self._before:
            self._before[frame.f_back] = "a call of ours"
        return self._step
