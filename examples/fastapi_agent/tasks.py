"""What the agent does when Ops-Core hands it a task of a workflow, such as `digest.yaml`."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final, NoReturn

from pydantic import BaseModel, Field

from examples.fastapi_agent.sample import SAMPLE
from examples.fastapi_agent.summarise import choose, paragraphs
from opscore_middleware import TaskContext, TaskRouter

__all__ = ["tasks"]

READING: Final = 0.5
"""How long a summary takes, in seconds, as it would with a model behind it."""
_STEPS: Final = 5

tasks = TaskRouter()


class Parts(BaseModel):
    """The parts of a text."""

    parts: list[str]


class Line(BaseModel):
    """What a part says in short."""

    summary: str


class Kept(BaseModel):
    """What was kept, and how long it is."""

    text: str
    lines: int


@tasks.task("part", inline=True)
async def part(text: str = SAMPLE) -> Parts:
    """Part a text into its paragraphs."""
    return Parts(parts=paragraphs(text))


@tasks.task("summarise")
async def summarise(
    text: str, task: TaskContext, sentences: Annotated[int, Field(ge=1, le=50)] = 1
) -> Line:
    """Summarise a text, and tell how far that is."""
    for step in range(1, _STEPS + 1):
        await asyncio.sleep(READING / _STEPS)
        await task.progress(step / _STEPS, f"read {step} of {_STEPS} times")
    chosen = sorted(choose(text, sentences), key=lambda sentence: sentence.position)
    return Line(summary=" ".join(sentence.text for sentence in chosen))


@tasks.task("print")
async def print_lines(lines: list[str]) -> NoReturn:
    """Print a digest: always in vain, to show what a workflow does then."""
    raise ConnectionError(f"the printer does not answer, so {len(lines)} lines wait")


@tasks.task("keep", inline=True)
async def keep(lines: list[str]) -> Kept:
    """Keep a digest in place of printing it."""
    return Kept(text="\n".join(lines), lines=len(lines))
