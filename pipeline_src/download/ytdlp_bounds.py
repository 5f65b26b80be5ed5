"""yt-dlp kept within bounds: what it asks for, reads, runs and merges. Imported only where it is.

It reads whole pages and redirects into memory, lets single reads time out but no transfer, gives
playlists that it cannot read to ffmpeg with every protocol on, and merges with every container on:
a DASH manifest in place of a sound track names a local file, and ffmpeg reads it.

A process of its own could be bounded as a whole, but starting one for every clip is slow.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from yt_dlp import YoutubeDL
from yt_dlp.downloader.external import FFmpegFD
from yt_dlp.networking._requests import RequestsRH
from yt_dlp.networking.exceptions import HTTPError, NoSupportingHandlers
from yt_dlp.postprocessor.ffmpeg import FFmpegMergerPP, FFmpegPostProcessor

from pipeline_src.download.store import BLOCK_BYTES
from pipeline_src.errors import MediaError
from pipeline_src.system.connections import Watch, watch_session

# Of one page, manifest or playlist; a watch page has 2 MB, a playlist of ten hours 4 MB.
MAX_PAGE_BYTES = 16 << 20

Merge = Callable[[list[Path], list[dict[str, Any]], Path], None]


def _refuse_ffmpeg(*_: Any, **__: Any) -> bool:
    raise MediaError("unsupported", "a stream that only ffmpeg could fetch: live or protected")


# HlsFD falls back to it without asking whether it may.
FFmpegFD.real_download = _refuse_ffmpeg


class WatchedRH(RequestsRH):
    """Requests under the watch of their attempt, from any thread."""

    watch: Watch
    is_first = True

    def _create_instance(self, *arguments: Any, **options: Any) -> Any:
        session = super()._create_instance(*arguments, **options)  # pyright: ignore
        return watch_session(session)

    def _send(self, request: Any) -> Any:
        check = self.watch.check_url if self.is_first else self.watch.check_link
        self.is_first = False
        check(request.url)
        with self.watch.here():
            return super()._send(request)


class Downloader(YoutubeDL):
    """One page's fetch.

    Args:
        max_bytes: of all that is read. merge: makes one file of several.
    """

    def __init__(self, options: dict[str, Any], watch: Watch, max_bytes: int, merge: Merge) -> None:
        self._watch = watch
        self._left = max_bytes
        self._merge = merge
        super().__init__(cast(Any, options))

    @functools.cached_property
    def _request_director(self) -> Any:
        director = self.build_request_director([WatchedRH])  # pyright: ignore
        for handler in director.handlers.values():
            cast(WatchedRH, handler).watch = self._watch
        return director

    def urlopen(self, req: Any) -> Any:
        """Open an address; the bytes read of the answer are counted.

        Raises:
            MediaError: the time is over, or more is read than allowed.
        """
        self._watch.check_time("the page")
        try:
            return self._bounded(super().urlopen(req))
        except HTTPError as error:
            self._bounded(error.response)
            raise
        except NoSupportingHandlers as error:  # what was raised below counts as a defect there
            for one in error.unexpected_errors:
                if isinstance(one, MediaError):
                    raise one from error
            raise

    def _bounded(self, reply: Any) -> Any:
        read = reply.read

        def read_bounded(amount: int | None = None) -> bytes:
            if amount is not None:
                return self._count(read(amount))
            blocks, size = [], 0
            while block := self._count(read(BLOCK_BYTES)):
                blocks.append(block)
                size += len(block)
                if size > MAX_PAGE_BYTES:
                    raise MediaError("unsupported", f"a page of more than {MAX_PAGE_BYTES} bytes")
            return b"".join(blocks)

        reply.read = read_bounded
        return reply

    def _count(self, block: bytes) -> bytes:
        self._watch.check_time("the page")
        self._left -= len(block)
        if self._left < 0:
            raise MediaError("unsupported", "more bytes than download.max_bytes allows")
        return block

    def run_pp(self, pp: Any, infodict: Any) -> Any:
        """Run a step after the download: none of ffmpeg's, only our own merge."""
        if not isinstance(pp, FFmpegPostProcessor):
            return super().run_pp(pp, infodict)
        if not isinstance(pp, FFmpegMergerPP):
            _refuse_ffmpeg()
        parts = [Path(name) for name in infodict["__files_to_merge"]]
        self._merge(parts, infodict["requested_formats"], Path(infodict["filepath"]))
        for part in parts:
            part.unlink()
        return infodict
