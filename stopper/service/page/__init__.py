"""The status page at `/`: one file, no build step, nothing loaded from elsewhere."""

from __future__ import annotations

import secrets
from importlib.resources import files

from fastapi import FastAPI
from starlette.responses import HTMLResponse

from stopper.service.runtime import Runtime


def attach(app: FastAPI, runtime: Runtime) -> None:
    """Serve the page; it is empty until `GET /v1/status`, which wants a key, fills it."""
    del runtime
    page = _page()

    @app.get("/", include_in_schema=False)
    async def show() -> HTMLResponse:
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
            "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        )
        headers = {
            "Content-Security-Policy": policy,
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        return HTMLResponse(page.replace("{{nonce}}", nonce), headers=headers)


def _page() -> str:
    folder = files(__name__)
    page = (folder / "page.html").read_text(encoding="utf-8")
    for name in ("css", "js"):
        text = (folder / f"page.{name}").read_text(encoding="utf-8")
        page = page.replace("{{" + name + "}}", text)
    return page
