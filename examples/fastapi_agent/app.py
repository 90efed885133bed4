"""A small agent that summarises text, and reports its life to Ops-Core with one line.

    uvicorn examples.fastapi_agent.app:app

Nothing but the `add_middleware` line below knows of Ops-Core: the routes are plain FastAPI. With
the other line it takes tasks of workflows as well, which `tasks.py` has.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, NoReturn

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator, BaseModel, Field

from examples.fastapi_agent.sample import SAMPLE
from examples.fastapi_agent.summarise import Sentence, choose, paragraphs, split
from examples.fastapi_agent.tasks import tasks
from opscore_middleware import OpsCoreMiddleware

app = FastAPI(
    title="summariser",
    version="1.0.0",
    summary="Picks the sentences that carry most of what a text is about.",
)
app.add_middleware(OpsCoreMiddleware)
app.router.routes.append(tasks.route("/tasks"))


def _has_words(text: str) -> str:
    if not any(char.isalpha() for char in text):
        raise ValueError("there is not a single word in it; send the text to summarise")
    return text


class Document(BaseModel):
    """What to summarise, and how short."""

    text: Annotated[str, AfterValidator(_has_words)] = Field(
        default_factory=lambda: SAMPLE,
        max_length=1_000_000,
        description="The text; blank lines part paragraphs. The opening of On the Origin of "
        "Species where it is left out.",
    )
    sentences: int = Field(default=3, ge=1, le=50, description="How many to keep at most.")


class LongDocument(Document):
    """What to digest, and how long to take over it."""

    seconds: float = Field(
        default=3, ge=0, le=300, description="How long the reading takes, in seconds."
    )


class Chosen(BaseModel):
    """A sentence that was chosen; `position` is where it stands in the text, from 0."""

    position: int
    text: str


class Summary(BaseModel):
    """The chosen sentences in the order of the text, and how much shorter that is."""

    summary: str
    sentences: list[Chosen]
    kept: int
    of: int


class Progress(BaseModel):
    """How far a digest is: paragraphs read, of how many."""

    paragraphs: int
    of: int


class Failure(BaseModel):
    """How to fail."""

    message: str = Field(
        default="the summariser lost its place", min_length=1, max_length=200, examples=["no ink"]
    )


class JsonLines(StreamingResponse):
    """A JSON object a line, each sent as soon as it is known."""

    media_type = "application/x-ndjson"


class EventStream(StreamingResponse):
    """Server-Sent Events."""

    media_type = "text/event-stream"


class Card(BaseModel):
    """Who this agent is and what it can do."""

    name: str
    version: str
    description: str
    capabilities: list[str]


@app.get("/")
async def card() -> Card:
    """Tell who this agent is. A read like this is not work, so Ops-Core never hears of it."""
    return Card(
        name=app.title,
        version=app.version,
        description=app.summary or "",
        capabilities=["summarise"],
    )


@app.post("/summarise")
def summarise(document: Document) -> Summary:
    """Summarise a text at once."""
    return _summary(document)


@app.post("/summarise/slow", response_class=JsonLines)
async def digest(document: LongDocument) -> JsonLines:
    """Read a long document, say how far it is with each paragraph, and end with the summary.

    Each line is a `Progress`, the last one a `Summary`. The reading takes `seconds`, as it would
    with a slow model behind it.
    """
    return JsonLines(_digest(document))


@app.post("/summarise/stream", response_class=EventStream)
async def stream(document: Document) -> EventStream:
    """Stream the sentences as they are chosen, the most telling first, then `done`."""
    return EventStream(_events(document))


@app.post("/fail", status_code=500, response_description="Always", response_model=None)
async def fail(failure: Failure) -> NoReturn:
    """Fail with the given message, as an agent with a bug would."""
    raise RuntimeError(failure.message)


def _summary(document: Document) -> Summary:
    chosen = sorted(choose(document.text, document.sentences), key=lambda s: s.position)
    return Summary(
        summary=" ".join(sentence.text for sentence in chosen),
        sentences=[_chosen(sentence) for sentence in chosen],
        kept=len(chosen),
        of=len(split(document.text)),
    )


def _chosen(sentence: Sentence) -> Chosen:
    return Chosen(position=sentence.position, text=sentence.text)


async def _digest(document: LongDocument) -> AsyncIterator[str]:
    total = len(paragraphs(document.text))
    for done in range(1, total + 1):
        await asyncio.sleep(document.seconds / total)
        yield Progress(paragraphs=done, of=total).model_dump_json() + "\n"
    summary = await asyncio.to_thread(_summary, document)
    yield summary.model_dump_json() + "\n"


def _events(document: Document) -> Iterator[str]:
    for sentence in choose(document.text, document.sentences):
        yield f"event: sentence\ndata: {_chosen(sentence).model_dump_json()}\n\n"
    yield "event: done\ndata: {}\n\n"
