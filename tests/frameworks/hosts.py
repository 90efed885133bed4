"""The same agent on each web framework: what it answers is the same, how it is written is not."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from itertools import count
from typing import Any, Final

import django
import falcon.asgi
import litestar
import litestar.response
import quart
import sanic
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from django.urls import path
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

__all__ = ["HOSTS"]

EVENTS: Final = "text/event-stream"
RPC_ERROR: Final = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32603, "message": "no ink"}}


async def lines(ending: str) -> AsyncIterator[bytes]:
    """Write three lines, and end well, by an exception or by an event that tells of a failure."""
    for number in range(3):
        yield b"data: %d\n\n" % number
    if ending == "torn":
        raise ValueError("no ink")
    if ending == "told":
        yield b'event: error\ndata: {"message": "no ink"}\n\n'


def on_starlette() -> Any:
    async def job(request: Request) -> JSONResponse:
        return JSONResponse(await request.json())

    async def fail(request: Request) -> JSONResponse:
        raise ValueError("no ink")

    async def rpc(request: Request) -> JSONResponse:
        return JSONResponse(RPC_ERROR)

    async def stream(request: Request) -> StreamingResponse:
        return StreamingResponse(lines(request.path_params["ending"]), media_type=EVENTS)

    paths = {"/job": job, "/fail": fail, "/rpc": rpc, "/stream/{ending}": stream}
    return Starlette(routes=[Route(path, at, methods=["POST"]) for path, at in paths.items()])


def on_fastapi() -> Any:
    app = FastAPI()

    @app.post("/job")
    async def job(data: dict[str, Any]) -> dict[str, Any]:
        return data

    @app.post("/fail")
    async def fail() -> None:
        raise ValueError("no ink")

    @app.post("/rpc")
    async def rpc() -> dict[str, Any]:
        return RPC_ERROR

    @app.post("/stream/{ending}")
    async def stream(ending: str) -> StreamingResponse:
        return StreamingResponse(lines(ending), media_type=EVENTS)

    return app


async def django_job(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"body": request.body.decode()})


async def django_fail(request: HttpRequest) -> JsonResponse:
    raise ValueError("no ink")


async def django_rpc(request: HttpRequest) -> JsonResponse:
    return JsonResponse(RPC_ERROR)


async def django_stream(request: HttpRequest, ending: str) -> StreamingHttpResponse:
    return StreamingHttpResponse(lines(ending), content_type=EVENTS)


urlpatterns = [
    path("job", django_job),
    path("fail", django_fail),
    path("rpc", django_rpc),
    path("stream/<ending>", django_stream),
]


def on_django() -> Any:
    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["*"],
            LOGGING_CONFIG=None,
            ROOT_URLCONF=sys.modules[__name__],
            SECRET_KEY="x",
        )
        django.setup()
    return get_asgi_application()


def on_quart() -> Any:
    app = quart.Quart("painter")

    @app.post("/job")
    async def job() -> Any:
        return await quart.request.get_json()

    @app.post("/fail")
    async def fail() -> Any:
        raise ValueError("no ink")

    @app.post("/rpc")
    async def rpc() -> Any:
        return RPC_ERROR

    @app.post("/stream/<ending>")
    async def stream(ending: str) -> Any:
        return quart.Response(lines(ending), content_type=EVENTS)

    return app


def on_litestar() -> Any:
    @litestar.post("/job")
    async def job(data: dict[str, Any]) -> dict[str, Any]:
        return data

    @litestar.post("/fail")
    async def fail() -> None:
        raise ValueError("no ink")

    @litestar.post("/rpc", status_code=200)
    async def rpc() -> dict[str, Any]:
        return RPC_ERROR

    @litestar.post("/stream/{ending:str}")
    async def stream(ending: str) -> litestar.response.Stream:
        return litestar.response.Stream(lines(ending), media_type=EVENTS)

    return litestar.Litestar([job, fail, rpc, stream])


class Job:
    async def on_post(self, request: Any, response: Any) -> None:
        response.media = await request.get_media()


class Fail:
    async def on_post(self, request: Any, response: Any) -> None:
        raise ValueError("no ink")


class Rpc:
    async def on_post(self, request: Any, response: Any) -> None:
        response.media = RPC_ERROR


class Stream:
    async def on_post(self, request: Any, response: Any, ending: str) -> None:
        response.content_type = EVENTS
        response.stream = lines(ending)


def on_falcon() -> Any:
    app = falcon.asgi.App()
    for at, resource in {"/job": Job, "/fail": Fail, "/rpc": Rpc}.items():
        app.add_route(at, resource())
    app.add_route("/stream/{ending}", Stream())
    return app


NUMBERS: Final = count()


def on_sanic() -> Any:
    app: Any = sanic.Sanic(f"painter-{next(NUMBERS)}", configure_logging=False)  # names are global
    app.config.TOUCHUP = False  # which rewrites Sanic's own methods, once per process

    @app.post("/job")
    async def job(request: Any) -> Any:
        return sanic.json(request.json)

    @app.post("/fail")
    async def fail(request: Any) -> Any:
        raise ValueError("no ink")

    @app.post("/rpc")
    async def rpc(request: Any) -> Any:
        return sanic.json(RPC_ERROR)

    @app.post("/stream/<ending:str>")
    async def stream(request: Any, ending: str) -> None:
        response = await request.respond(content_type=EVENTS)
        async for line in lines(ending):
            await response.send(line)
        await response.eof()

    return app


HOSTS: Final[dict[str, Callable[[], Any]]] = {
    "Starlette": on_starlette,
    "FastAPI": on_fastapi,
    "Django": on_django,
    "Sanic": on_sanic,
    "Quart": on_quart,
    "Litestar": on_litestar,
    "Falcon": on_falcon,
}
