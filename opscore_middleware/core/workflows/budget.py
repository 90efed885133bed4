"""What expressions may take: so many steps, and so many characters, for a task and at one time.

A few words can ask for more than any machine has: `[@, @]` thirty times over is a thousand million
values, and a list asked of for each of its items is its square. So everything is counted while it
grows.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["MAX_SIZE", "MAX_STEPS", "TOGETHER", "Allowance", "Budget"]

MAX_STEPS: Final = 2_000_000
"""How many steps the expressions of one task may take, those for all of its items together."""

MAX_SIZE: Final = 32 * 1024 * 1024
"""How many characters of JSON a value may come to, and the parameters of one task."""

TOGETHER: Final = 2
"""How many times what one task may take all may that begin together."""

_ESCAPED: Final = 6  # characters of JSON for one that is not of ASCII
# What it takes to look at a list or an object, in steps; what is in it is looked at faster than
# steps are taken, by so many times two.
_LOOKED_AT: Final = 2
_WALKED: Final = 1


class Allowance:
    """What is left for the expressions of all tasks that begin together, one after the other."""

    __slots__ = ("_last", "_room", "_steps")

    def __init__(self) -> None:
        self._steps = TOGETHER * MAX_STEPS
        self._room = TOGETHER * MAX_SIZE
        self._last: tuple[Budget, int] | None = None

    def budget(self) -> Budget:
        """Return what the next task may take; the one before it takes no more from then on."""
        if self._last is not None:
            last, had = self._last
            self._steps -= had - max(last.steps, 0)
            self._room = last.room
        budget = Budget(steps=min(MAX_STEPS, self._steps), room=self._room)
        self._last = (budget, budget.steps)
        return budget


class Budget:
    """What is left for the expressions of one task. All of it raises `ValueError` at the end.

    `room` is what the parameters that they fill may still come to, those of all items together.
    `text` is what texts that are made may still come to; whoever begins an expression sets it anew.
    `kept` is what was found once for all items, by what found it.
    """

    __slots__ = ("_weights", "kept", "room", "steps", "text")

    def __init__(self, *, steps: int = MAX_STEPS, room: int = TOGETHER * MAX_SIZE) -> None:
        self.steps = steps
        self.room = room
        self.text = MAX_SIZE
        self.kept: dict[int, Any] = {}
        # With the values themselves, so that none of them goes and leaves its id to another.
        self._weights: dict[int, tuple[Any, int]] = {}

    def spend(self, steps: int) -> None:
        """Take so many steps."""
        self.steps -= steps
        if self.steps < 0:
            raise ValueError(
                f"the expressions of one task may take {MAX_STEPS:,} steps, those for all of its "
                "items together, and those of all tasks that begin at one time "
                f"{TOGETHER * MAX_STEPS:,}; have a task before it choose what is needed"
            )

    def write(self, size: int) -> None:
        """Make a text that comes to so many characters."""
        self.text -= size
        if self.text < 0:
            raise _too_large()

    def weigh(self, value: Any) -> int:
        """Return about how many characters of JSON a value comes to, at least.

        What stands in it in several places counts in each, and is looked at once where it was
        weighed before.
        """
        if not isinstance(value, list | dict):
            return _size(value)
        known = self._weights.get(id(value))
        if known is not None:
            return known[1]
        size = 0
        todo: list[Any] = [value]
        while todo:
            one = todo.pop()
            known = self._weights.get(id(one))
            if known is not None:
                size += known[1]
            else:
                self.spend(_LOOKED_AT + (len(one) >> _WALKED))
                size += 2 + len(one)
                if isinstance(one, dict):
                    size += sum(map(_size, one))
                    one = one.values()
                for part in one:
                    if isinstance(part, list | dict):
                        todo.append(part)
                    else:
                        size += _size(part)
            if size > MAX_SIZE:
                raise _too_large()
        self._weights[id(value)] = (value, size)
        return size


def _size(value: Any) -> int:
    if isinstance(value, str):
        return 2 + (len(value) if value.isascii() else _ESCAPED * len(value))
    if isinstance(value, int):
        return 1 + value.bit_length() // 4
    return 4


def _too_large() -> ValueError:
    return ValueError(
        f"it comes to more than {MAX_SIZE:,} characters; give the task what it needs alone, or a "
        "reference to it"
    )
