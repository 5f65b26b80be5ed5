"""Routes of the page: only rows of the index are ever answered with, never a path."""

import asyncio
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

import numpy as np
from aiohttp import web

from pipeline_src.errors import ConfigError
from pipeline_src.inference.model import Model
from pipeline_src.inference.search.query import (
    AGAINST,
    BY,
    Against,
    By,
    Question,
    find,
    public_row,
    row_vectors,
)
from pipeline_src.inference.search.store import ClipIndex, Row
from pipeline_src.inference.serve.guard import make_guard
from pipeline_src.inference.serve.media import media_kind, media_response
from pipeline_src.inference.serve.uploads import UploadLimits, Uploads, query_answer, refusal

STATIC = Path(__file__).parent / "static"
PAGE = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js"}
MAX_TOP, MAX_LISTED, MAX_MAPPED = 200, 200, 20_000
MAX_NAME = 200
SHOWN = ("name", "num_clips", "num_refused", "reasons", "modalities", "labels", "splits")


def make_app(
    index: ClipIndex, model: Model, *, host: str = "127.0.0.1", limits: UploadLimits | None = None
) -> web.Application:
    """Return the server of an index.

    Args:
        host: it is bound to, which requests may name.
        limits: of uploads.
    """
    app = web.Application(middlewares=[make_guard(host)], client_max_size=1 << 16)
    site = Site(index, Uploads(model, tuple(index.vectors), limits or UploadLimits()))
    for path, name in PAGE.items():
        app.router.add_get(path, _static(name))
    app.router.add_get("/api/index", site.about)
    app.router.add_get("/api/map", site.map)
    app.router.add_get("/api/clips", site.clips)
    app.router.add_get("/api/clip/{row:[0-9]{1,12}}", site.clip)
    app.router.add_get("/api/search", site.search)
    app.router.add_post("/api/query", site.query)
    app.router.add_get("/preview/{row:[0-9]{1,12}}/{kind:audio|video}.jpg", site.preview)
    app.router.add_get("/media/{row:[0-9]{1,12}}", site.media)
    app.cleanup_ctx.append(site.until_stopped)
    return app


def _static(name: str) -> Callable[[web.Request], Any]:
    async def answer(_: web.Request) -> web.FileResponse:
        return web.FileResponse(STATIC / name)

    return answer


class Site:
    """Answers requests about one index."""

    def __init__(self, index: ClipIndex, uploads: Uploads) -> None:
        self._index = index
        self._uploads = uploads

    async def until_stopped(self, _: web.Application) -> AsyncIterator[None]:
        """Remove what uploads have left when the server stops."""
        yield
        await asyncio.to_thread(self._uploads.close)

    async def about(self, _: web.Request) -> web.Response:
        """Say what the index holds."""
        limit = self._uploads.limits.max_bytes
        about = {key: self._index.about[key] for key in SHOWN}
        return web.json_response({**about, "max_upload_bytes": limit})

    async def map(self, _: web.Request) -> web.Response:
        """Give the place, the first label and the split of every clip, of very many a sample."""
        columns = self._index.columns
        rows = np.flatnonzero(columns["counts"] & ~columns["refused"])
        if len(rows) > MAX_MAPPED:
            rows = np.sort(np.random.default_rng(0).choice(rows, MAX_MAPPED, replace=False))
        labels = np.full(self._index.num_rows, -1)
        labels[columns["label_rows"][::-1]] = columns["label_codes"][::-1]
        places = columns["places"][rows].astype(float).round(4)
        answer = {
            "rows": rows.tolist(),
            "x": places[:, 0].tolist(),
            "y": places[:, 1].tolist(),
            "labels": labels[rows].tolist(),
            "splits": columns["splits"][rows].tolist(),
        }
        return web.json_response(answer)

    async def clip(self, request: web.Request) -> web.Response:
        """Say what one row is."""
        return web.json_response(_shown(self._row(request)))

    async def clips(self, request: web.Request) -> web.Response:
        """List clips of a label and split whose name holds a text, or those that were refused."""
        return web.json_response(await asyncio.to_thread(self._listed, dict(request.query)))

    def _listed(self, asked: dict[str, str]) -> dict[str, Any]:
        """List rows from number ``first`` on, and the next one that fits; None = there is none."""
        columns = self._index.columns
        if asked.get("refused"):
            allowed = columns["counts"] & columns["refused"]
        else:
            allowed = self._index.allowed(asked.get("label", ""), asked.get("split", ""))
        text = asked.get("text", "").lower()
        found: list[Row] = []
        numbers = np.flatnonzero(allowed)
        first = _number(asked, "first", 0, 0, 10**12)
        for number in numbers[np.searchsorted(numbers, first) :].tolist():
            row = self._index.row(number)
            if text not in row["clip"].lower():
                continue
            if len(found) == MAX_LISTED:
                return {"clips": found, "next": number}
            found.append(_shown(row))
        return {"clips": found, "next": None}

    async def search(self, request: web.Request) -> web.Response:
        """Find the nearest clips of a row or of an upload."""
        asked = dict(request.query)
        if "row" in asked:
            number = _number(asked, "row", 0, 0, self._index.num_rows - 1)
            wanted = row_vectors(self._index, number)
        else:
            number, wanted = -1, self._uploads.get(asked.get("query", "")).vectors
        question = _question(asked)._replace(without=number)
        found = await asyncio.to_thread(find, self._index, wanted, question)
        return web.json_response({"clips": [_shown(row) for row in found]})

    async def query(self, request: web.Request) -> web.Response:
        """Look at an uploaded file."""
        name = Path(request.query.get("name", "")).name[:MAX_NAME] or "recording"
        token, query = await self._uploads.receive(request, name)
        if query.reason:
            return web.json_response(refusal(name, query), status=HTTPStatus.UNPROCESSABLE_ENTITY)
        return web.json_response(query_answer(token, query))

    async def preview(self, request: web.Request) -> web.Response:
        """Give a row's picture or spectrogram.

        Raises:
            LookupError: it has none.
        """
        data = self._index.preview(self._row(request), request.match_info["kind"])
        if not data:
            raise LookupError("it has none")
        return web.Response(body=data, content_type="image/jpeg")

    async def media(self, request: web.Request) -> web.StreamResponse:
        """Give a row's recording."""
        return await asyncio.to_thread(media_response, self._row(request))

    def _row(self, request: web.Request) -> Row:
        return self._index.row(int(request.match_info["row"]))


def _shown(row: Row) -> Row:
    """Return a row as the page sees it: without paths but the clip's name."""
    shown = public_row(row)
    del shown["path"]
    return {**shown, "media": media_kind(row)}


def _question(asked: dict[str, str]) -> Question:
    by, against = asked.get("by", "both"), asked.get("against", "other")
    if by not in BY or against not in AGAINST:
        known = f"{', '.join(BY)}; {', '.join(AGAINST)}"
        raise ConfigError(f"by = {by}, against = {against}; allowed: {known}")
    top = _number(asked, "top", 24, 1, MAX_TOP)
    return Question(
        cast(By, by), cast(Against, against), top, asked.get("label", ""), asked.get("split", "")
    )


def _number(asked: dict[str, str], key: str, default: int, low: int, high: int) -> int:
    text = asked.get(key, str(default))
    if not (text.isascii() and text.isdecimal()) or not low <= int(text) <= high:
        raise ConfigError(f"{key} = {text[:20]}; allowed: {low} to {high}")
    return int(text)
