"""Clips of video sites through yt-dlp, the optional extra ``pages``; nothing else knows it.

yt-dlp is told where to write and runs no program on what it fetched; ffmpeg merges, as we call it.
Whatever it raises about a page is a reason of the ledger's closed list.
"""

import functools
import importlib.util
import io
import re
import shutil
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipeline_src.config.data import DownloadConfig
from pipeline_src.datasets.sources import source_kind
from pipeline_src.download.bodies import HEAD_BYTES, PageError, check_head, names_recording
from pipeline_src.download.hosts import RateLimitedError
from pipeline_src.download.secrets import Secrets
from pipeline_src.download.sources import YOUTUBE_PREFIX, Fetched
from pipeline_src.download.statuses import status_error
from pipeline_src.download.store import check_size, take_over
from pipeline_src.errors import MediaError, StageError, describe_disk_full, is_disk_full
from pipeline_src.manifest.ledger import TRANSIENT_REASONS
from pipeline_src.system.connections import Watch
from pipeline_src.transcode.ffmpeg import call_ffmpeg
from pipeline_src.transcode.formats import INPUT_OPTIONS

WATCH_URL = "https://www.youtube.com/watch?v="
NOT_INSTALLED = "needs yt-dlp, which is not installed: pip install 'yt-dlp[default]'"
UNFINISHED = (".part", ".ytdl", ".temp")
# What sites say, in the words of yt-dlp 2026.8; the first that fits counts.
REASON_OF_WORDS = (
    ("bot_check", r"not a bot|captcha|unusual traffic"),
    ("rate_limited", r"rate.limited|too many requests|try again later"),
    ("age_restricted", r"confirm your age|age.restricted|inappropriate for some users"),
    ("private", r"private video|members.only|join this channel|sign in|log in|registered users"),
    ("removed", r"removed|terminated|copyright|deleted"),
    ("unsupported", r"format is not available"),
    ("geo_blocked", r"in your country|geo.?restrict|from your location"),
    (
        "unavailable",
        r"unavailable|not available|no longer|not exist|premieres|live event|incomplete youtube id",
    ),
    ("timeout", r"timed? ?out"),
    ("truncated", r"more expected|incomplete"),
    ("network", r"got error|connection|failed to resolve|network is unreachable"),
)
# The page's address and id, which name the clip and say nothing of it.
NAMES = re.compile(r"^(error: )?\[[^\]]+\] \S+: |https?://\S+")
STATUS_WORDS = re.compile(r"http error (\d{3})")


@functools.cache
def tool_name() -> str:
    """Return ``yt-dlp <version>``; empty where it is not installed."""
    if importlib.util.find_spec("yt_dlp") is None:
        return ""
    from yt_dlp.version import __version__

    return f"yt-dlp {__version__}"


@functools.cache
def _site_extractors() -> tuple[Any, ...]:
    from yt_dlp.extractor import gen_extractor_classes

    return tuple(one for one in gen_extractor_classes() if one.ie_key() != "Generic")


def needs_ytdlp(source: str) -> bool:
    """Return whether a source is a page of a site that yt-dlp knows by its address."""
    if source_kind(source) == "youtube":
        return True
    if names_recording(source) or not tool_name():
        return False
    return any(extractor.suitable(source) for extractor in _site_extractors())


def fetch_page(
    source: str, target: Path, config: DownloadConfig, secrets: Secrets, ffmpeg: str
) -> Fetched:
    """Fetch the recording of a page into ``target``'s part; an interrupted one is continued.

    Args:
        source: ``youtube:<id>`` or an http(s) URL. ffmpeg: path of the binary.
    Raises:
        RateLimitedError: 429 or a bot check. MediaError: everything else, with the reason.
    """
    if not tool_name():
        raise MediaError("unsupported", f"{source}: {NOT_INSTALLED}")
    folder = target.with_name(f".{target.name}.page")
    folder.mkdir(exist_ok=True)
    is_kept = False
    try:
        _run(source, folder, config, secrets, ffmpeg)
        body = _only_file(folder, source)
        check_size(body.stat().st_size, config.max_bytes)
        with body.open("rb") as stream:
            check_head(stream.read(HEAD_BYTES), "", f"{source}: what the page links")
        return take_over(body, target)
    except PageError as error:  # it leads no further
        raise MediaError("unsupported", error.detail) from error
    except MediaError as error:
        is_kept = error.reason in TRANSIENT_REASONS
        raise
    finally:
        if not is_kept:
            shutil.rmtree(folder, ignore_errors=True)


def _run(source: str, folder: Path, config: DownloadConfig, secrets: Secrets, ffmpeg: str) -> None:
    from pipeline_src.download.ytdlp_bounds import MAX_PAGE_BYTES, Downloader

    url = source
    if source_kind(source) == "youtube":
        url = WATCH_URL + quote(source.removeprefix(YOUTUBE_PREFIX), safe="")

    def look(progress: Mapping[str, Any]) -> None:
        size = max(progress.get("total_bytes") or 0, progress.get("downloaded_bytes") or 0)
        if size > config.max_bytes:
            check_size(size, config.max_bytes)

    options = _options(folder, config, secrets, ffmpeg) | {"progress_hooks": [look]}
    merge = functools.partial(_merge, config=config)
    # Sound and picture may have max_bytes each.
    max_bytes = 2 * config.max_bytes + 4 * MAX_PAGE_BYTES
    with Watch(config.max_transfer_seconds, config.addresses) as watch:
        try:
            with Downloader(options, watch, max_bytes, merge) as downloader:
                downloader.extract_info(url)
        except Exception as error:  # extractors raise anything on a page that they do not expect
            watch.check_time(source)
            raise as_media_error(error, source) from error
        watch.check_time(source)


def _merge(
    parts: list[Path], formats: list[dict[str, Any]], output: Path, *, config: DownloadConfig
) -> None:
    """Make one Matroska file of the streams that ``formats`` say each part was fetched for.

    Raises:
        MediaError: a part is no recording, or names other files: those are not read.
    """
    inputs: list[str] = []
    maps: list[str] = []
    for number, (part, form) in enumerate(zip(parts, formats, strict=True)):
        with part.open("rb") as stream:
            check_head(stream.read(HEAD_BYTES), "", "a stream to merge")
        bounds = (item for key, value in INPUT_OPTIONS.items() for item in (f"-{key}", value))
        inputs += [*bounds, "-i", f"file:{part}"]
        for kind, codec in (("a", "acodec"), ("v", "vcodec")):
            if form.get(codec) != "none":
                maps += ["-map", f"{number}:{kind}:0?"]
    limits = ["-fs", str(2 * config.max_bytes), "-f", "matroska"]
    command = ["-nostdin", "-y", "-loglevel", "error", *inputs, *maps, "-c", "copy", *limits]
    call_ffmpeg(
        [*command, f"file:{output}"],
        timeout_seconds=config.max_transfer_seconds,
        folder=output.parent,
    )


def _options(folder: Path, config: DownloadConfig, secrets: Secrets, ffmpeg: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        "format": config.ytdlp_format,
        "merge_output_format": "mkv",
        "playlist_items": "1",
        **config.ytdlp_options,
        **secrets.ytdlp_options,
        "outtmpl": {"default": f"{folder}".replace("%", "%%") + "/body.%(format_id)s.%(ext)s"},
        "noplaylist": True,
        "max_filesize": config.max_bytes,
        "socket_timeout": config.timeout_seconds,
        "retries": 0,
        "extractor_retries": 0,
        "fragment_retries": 0,
        "skip_unavailable_fragments": False,
        # ffmpeg could fetch a part alone, but cuts at key frames; transcoding cuts exactly.
        "external_downloader": {"default": "native"},
        "ffmpeg_location": ffmpeg,
        "fixup": "never",
        "cachedir": False,
        "updatetime": False,
        "color": "no_color",
        "quiet": True,
        "no_warnings": True,
        "noprogress": True,
        "logger": _Silent(),
    }
    if secrets.proxy:
        options["proxy"] = secrets.proxy
    if secrets.cookie_text:  # a copy: yt-dlp writes its cookies back
        options["cookiefile"] = io.StringIO(secrets.cookie_text)
    return options


class _Silent:
    """yt-dlp's messages come back as exceptions; its log may hold what must not be written."""

    def debug(self, message: str) -> None:
        """Drop the message."""

    info = warning = error = debug


def _only_file(folder: Path, source: str) -> Path:
    files = [path for path in folder.iterdir() if path.suffix not in UNFINISHED]
    if len(files) != 1 or files[0].is_symlink() or not files[0].is_file():
        raise MediaError("unsupported", f"{source}: the page gives {len(files)} files, not one")
    return files[0]


def as_media_error(error: Exception, source: str) -> MediaError:
    """Map the exceptions that yt-dlp chained, and their words, to a reason of the ledger.

    Raises:
        StageError: the disk is full, which says nothing of the clip.
    """
    from yt_dlp.networking.exceptions import HTTPError
    from yt_dlp.utils import GeoRestrictedError

    detail = f"{source}: {error}"
    is_youtube = source_kind(source) == "youtube"
    for one in _chain(error):
        if isinstance(one, MediaError):
            return one
        if is_disk_full(one):
            raise StageError(describe_disk_full(one, "the raw folder")) from error
        if isinstance(one, HTTPError):
            after = one.response.headers.get("Retry-After", "")
            return _of_status(one.status, detail, is_youtube, after)
        if isinstance(one, GeoRestrictedError):
            return MediaError("geo_blocked", detail)
    words = NAMES.sub("", str(error).lower())
    if match := STATUS_WORDS.search(words):  # a download's own errors come without a chain
        return _of_status(int(match[1]), detail, is_youtube)
    for reason, pattern in REASON_OF_WORDS:
        if re.search(pattern, words):
            is_slow = reason in ("bot_check", "rate_limited")
            return RateLimitedError(reason, detail) if is_slow else MediaError(reason, detail)
    return MediaError("unsupported", detail)


def _of_status(status: int, detail: str, is_youtube: bool, retry_after: str = "") -> MediaError:
    if is_youtube and status == HTTPStatus.FORBIDDEN:
        return MediaError("network", detail)  # an expired or throttled address
    return status_error(status, detail, retry_after)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions that yt-dlp wrapped into one another, the outermost first."""
    seen: list[BaseException] = [error]
    for one in seen:
        yield one
        wrapped = [*(getattr(one, "exc_info", None) or ())[1:2], getattr(one, "cause", None)]
        for inner in (*wrapped, one.__cause__, one.__context__):
            if isinstance(inner, BaseException) and all(inner is not other for other in seen):
                seen.append(inner)
