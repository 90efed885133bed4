"""The graph that the tests of LangGraph's server have it serve, which loads it by its path."""

from __future__ import annotations

from typing import TypedDict

from langgraph.graph import END, START, StateGraph

from tests.frameworks.easel import EASEL


class Picture(TypedDict, total=False):
    what: str


def paint(picture: Picture) -> Picture:
    return {"what": EASEL.paint(picture["what"])}


builder = StateGraph(Picture)
builder.add_node("paint", paint)
builder.add_edge(START, "paint")
builder.add_edge("paint", END)
graph = builder.compile()
