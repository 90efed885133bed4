"""The interactive docs, with every asset served from here: operators are often offline."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

__all__ = ["add_docs"]


def add_docs(app: FastAPI) -> None:
    """Serve Swagger UI at /docs and what it loads below it."""
    router = APIRouter(include_in_schema=False)
    router.add_api_route("/docs", _page, methods=["GET"], response_class=HTMLResponse)
    app.include_router(router)
    # fastapi-offline ships the files; its own factory would make another app than ours.
    app.mount("/docs/assets", StaticFiles(packages=[("fastapi_offline", "static")]))


async def _page(request: Request) -> HTMLResponse:
    root = request.scope.get("root_path", "").rstrip("/")
    assets = f"{root}/docs/assets"
    return get_swagger_ui_html(
        openapi_url=f"{root}/openapi.json",
        title="Ops-Core",
        swagger_js_url=f"{assets}/swagger-ui-bundle.js",
        swagger_css_url=f"{assets}/swagger-ui.css",
        swagger_favicon_url=f"{assets}/favicon.png",
    )
