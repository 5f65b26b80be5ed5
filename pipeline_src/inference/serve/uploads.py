"""What a browser sends to be searched by: bounded in bytes and time, looked at, and gone."""

import asyncio
import shutil
import tempfile
from base64 import b64encode
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_urlsafe
from typing import Any, NamedTuple

from aiohttp import web
from numpy.typing import NDArray

from pipeline_src.config.data import DownloadConfig
from pipeline_src.errors import MediaError
from pipeline_src.inference.inputs import Item
from pipeline_src.inference.model import Model
from pipeline_src.inference.search.preview import preview_picture, preview_sound
from pipeline_src.inference.stream import Options, decoded_parts

MAX_KEPT = 64  # vectors of questions; files are not kept
MAX_WAITING = 8
BLOCK_BYTES = 1 << 16


class UploadedQuery(NamedTuple):
    """What is left of an upload: vectors (D,) by modality, previews, or why there are none."""

    vectors: dict[str, NDArray | None]
    picture: bytes = b""
    sound: bytes = b""
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True)
class UploadLimits:
    """Bounds of an upload: its bytes, the seconds to send it, and to decode it."""

    max_bytes: int = 64 << 20
    receive_seconds: float = 60.0
    decode_seconds: float = 120.0


@dataclass
class Uploads:
    """Receives files one after the other and keeps the vectors of the last ones.

    Args:
        model: that made the index. modalities: of the index.
    """

    model: Model
    modalities: tuple[str, ...]
    limits: UploadLimits
    _kept: "OrderedDict[str, UploadedQuery]" = field(default_factory=OrderedDict)
    _waiting: int = 0

    def __post_init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="serve-"))
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="upload")

    def close(self) -> None:
        """End the thread and remove every file."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def get(self, token: str) -> UploadedQuery:
        """Return an upload's vectors.

        Raises:
            LookupError: they are no longer kept.
        """
        if token not in self._kept:
            raise LookupError("this file is no longer known; choose it again")
        self._kept.move_to_end(token)
        return self._kept[token]

    async def receive(self, request: web.Request, name: str) -> tuple[str, UploadedQuery]:
        """Look at the body of a request; return the token of its vectors, and these.

        Raises:
            HTTPException: it is too large, takes too long, or too many wait.
        """
        if self._waiting >= MAX_WAITING:
            raise web.HTTPServiceUnavailable(reason="too many files at once; try again")
        self._waiting += 1
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        try:
            await self._write(request, folder / "upload.bin")
        except BaseException:
            self._forget(folder)
            raise
        # The thread removes the folder, also where nobody waits for it any more.
        looked = asyncio.get_running_loop().run_in_executor(self._pool, self._look, folder, name)
        looked.add_done_callback(lambda _: self._forget(folder))
        try:
            query = await asyncio.wait_for(asyncio.shield(looked), self.limits.decode_seconds)
        except TimeoutError:
            raise web.HTTPServiceUnavailable(reason="decoding it takes too long") from None
        return self._keep(query), query

    def _forget(self, folder: Path) -> None:
        self._waiting -= 1
        shutil.rmtree(folder, ignore_errors=True)

    async def _write(self, request: web.Request, path: Path) -> None:
        limit = self.limits.max_bytes
        too_large = web.HTTPRequestEntityTooLarge(
            max_size=limit, actual_size=limit + 1, reason=f"larger than {limit >> 20} MiB"
        )
        if (request.content_length or 0) > limit:
            raise too_large
        size = 0
        try:
            async with asyncio.timeout(self.limits.receive_seconds):
                with path.open("wb") as stream:
                    async for block in request.content.iter_chunked(BLOCK_BYTES):
                        size += len(block)
                        if size > limit:
                            raise too_large
                        stream.write(block)
        except TimeoutError:
            raise web.HTTPRequestTimeout(reason="sending it took too long") from None

    def _look(self, folder: Path, name: str) -> UploadedQuery:
        try:
            return self._embed(Item(name, folder / "upload.bin"))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _embed(self, item: Item) -> UploadedQuery:
        download = DownloadConfig(max_bytes=self.limits.max_bytes)
        options = Options(self.modalities, window_seconds=None, num_workers=1, download=download)
        model = self.model
        parts = decoded_parts([item], options, model.preparation, model.format, model.clip_seconds)
        (decoded,) = list(parts)
        seen = decoded[1]
        if isinstance(seen, MediaError):
            # Where the file lay for a moment is nobody's business.
            detail = seen.detail.replace(str(item.source), item.name)
            return UploadedQuery({}, reason=seen.reason, detail=detail)
        (made,) = model.embed_decoded([decoded])
        vectors = {name: made.compared(name) for name in self.modalities}
        return UploadedQuery(vectors, preview_picture(seen), preview_sound(seen))

    def _keep(self, query: UploadedQuery) -> str:
        token = token_urlsafe()
        if not query.reason:
            self._kept[token] = query
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return token


def refusal(name: str, query: UploadedQuery) -> dict[str, Any]:
    """Return why an upload is refused, for a reader (``error``) and for a program."""
    detail = f" ({query.detail})" if query.detail else ""
    error = f"{name} was refused: {query.reason}{detail}"
    return {"error": error, "reason": query.reason, "detail": query.detail}


def query_answer(token: str, query: UploadedQuery) -> dict[str, Any]:
    """Return what the page is told of an upload that was not refused."""
    previews = {"picture": query.picture, "sound": query.sound}
    return {
        "query": token,
        "has": [name for name, vector in query.vectors.items() if vector is not None],
        **{
            name: f"data:image/jpeg;base64,{b64encode(data).decode()}" if data else ""
            for name, data in previews.items()
        },
    }
