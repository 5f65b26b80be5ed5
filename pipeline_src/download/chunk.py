"""Fetch the raw clips of one chunk."""

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter

from pipeline_src.config.data import DownloadConfig
from pipeline_src.download.fetched import FetchedLog
from pipeline_src.download.sources import (
    Fetched,
    Lost,
    Outcome,
    fetch_http,
    fetch_local,
    fetch_members,
    raw_extension,
    source_kind,
    split_member,
)
from pipeline_src.ledger import LedgerRow, describe_losses
from pipeline_src.manifest.chunks import ChunkId, ChunkManifest, Clip, clip_key, write_chunk
from pipeline_src.manifest.clip_lists import ClipRow
from pipeline_src.manifest.origin import chunk_origin
from pipeline_src.manifest.plan import read_plan_chunk
from pipeline_src.manifest.progress import Progress

LOGGER = logging.getLogger(__name__)


def download_chunk(
    *,
    chunk_csv: Path,
    dataset_name: str,
    split: str,
    chunk: str,
    root: Path,
    clip_file: str,
    raw_folder: Path,
    manifest_path: Path,
    ledger_path: Path,
    config: DownloadConfig,
    version: int,
) -> None:
    """Fetch every clip of a chunk; write the download manifest and ledger.

    A clip that cannot be had is a row of the ledger, not an error.

    Args:
        root: folder that local paths and archives start from.
        clip_file: name of a ready-cut clip below it, with {clip_id}; empty = there are none.
        raw_folder: where archive members and http(s) bodies are kept; survives a killed job.
    """
    listed = read_plan_chunk(chunk_csv, split)
    clips = [_ready_cut(clip, root, clip_file) for clip in listed] if clip_file else listed
    raw_folder.mkdir(parents=True, exist_ok=True)
    with FetchedLog(raw_folder) as log:
        outcomes = _fetch_all(clips, root, log, config)
    rows = [_ledger_row(clip, outcomes[clip.clip_id]) for clip in clips]
    manifest = ChunkManifest(
        stage="download",
        id=ChunkId(dataset_name, split, chunk),
        version=version,
        num_in=len(clips),
        tar=None,
        settings={},
        clips=[
            _manifest_clip(clip, fetched, raw_folder, manifest_path.parent)
            for clip in clips
            if isinstance(fetched := outcomes[clip.clip_id], Fetched)
        ],
        lost=[{"clip_id": r.clip_id, "reason": r.reason} for r in rows if r.status != "ok"],
        origin=chunk_origin([chunk_csv], version, download=config),
    )
    write_chunk(manifest_path, ledger_path, manifest, rows)
    LOGGER.info("download %s/%s/%s: %s", dataset_name, split, chunk, describe_losses(rows))


def _ready_cut(clip: ClipRow, root: Path, clip_file: str) -> ClipRow:
    """The clip as a whole local file where there is one; the name cannot lead out of ``root``."""
    name = clip_file.replace("{clip_id}", clip.clip_id)
    if {"/", "\\"} & set(clip.clip_id) or not (root / name).is_file():
        return clip
    return clip._replace(source=name, start_seconds=None, end_seconds=None)


def _fetch_all(
    clips: Sequence[ClipRow], root: Path, log: FetchedLog, config: DownloadConfig
) -> dict[str, Outcome]:
    by_kind: dict[str, list[ClipRow]] = {"local": [], "member": [], "http": [], "unsupported": []}
    for clip in clips:
        by_kind[source_kind(clip.source)].append(clip)
    outcomes: dict[str, Outcome] = {}
    progress = Progress("download", len(clips))
    streams = (
        _unsupported(by_kind["unsupported"]),
        _local(by_kind["local"], root, config),
        _members(by_kind["member"], root, log, config),
        _http(by_kind["http"], log, config),
    )
    for stream in streams:
        for clip_id, outcome in stream:
            outcomes[clip_id] = outcome
            progress.update()
    return outcomes


def _unsupported(clips: Sequence[ClipRow]) -> Iterator[tuple[str, Outcome]]:
    for clip in clips:
        detail = f"{clip.source}: only local files, archive.tar::member and http(s) can be fetched"
        yield clip.clip_id, Lost("unsupported", detail)


def _local(
    clips: Sequence[ClipRow], root: Path, config: DownloadConfig
) -> Iterator[tuple[str, Outcome]]:
    for clip in clips:
        yield clip.clip_id, fetch_local(root / clip.source, config.max_bytes)


def _members(
    clips: Sequence[ClipRow], root: Path, log: FetchedLog, config: DownloadConfig
) -> Iterator[tuple[str, Outcome]]:
    """Read each archive once; several clips may be cut from one member, which is stored once."""
    wanted: dict[str, dict[str, list[ClipRow]]] = {}
    for clip in clips:
        archive, member = split_member(clip.source)
        wanted.setdefault(archive, {}).setdefault(member, []).append(clip)
    for archive, members in wanted.items():
        targets = {}
        for name, sharing in members.items():
            target = _raw_path(log.folder, sharing[0])
            known = log.find(sharing[0].source, target)
            if known is None:
                targets[name] = target
            else:
                yield from ((clip.clip_id, known) for clip in sharing)
        if not targets:
            continue
        for name, outcome in fetch_members(root / archive, targets, config.max_bytes):
            if isinstance(outcome, Fetched):
                log.add(members[name][0].source, outcome)
            yield from ((clip.clip_id, outcome) for clip in members[name])


def _http(
    clips: Sequence[ClipRow], log: FetchedLog, config: DownloadConfig
) -> Iterator[tuple[str, Outcome]]:
    if not clips:
        return
    with requests.Session() as session, ThreadPoolExecutor(config.num_connections) as pool:
        adapter = HTTPAdapter(pool_maxsize=config.num_connections)
        session.mount("http://", adapter)
        session.mount("https://", adapter)

        def fetch(clip: ClipRow) -> tuple[str, Outcome]:
            target = _raw_path(log.folder, clip)
            if known := log.find(clip.source, target):
                return clip.clip_id, known
            outcome = fetch_http(session, clip.source, target, config)
            if isinstance(outcome, Fetched):
                log.add(clip.source, outcome)
            return clip.clip_id, outcome

        yield from pool.map(fetch, clips)


def _raw_path(raw_folder: Path, clip: ClipRow) -> Path:
    return raw_folder / (clip_key(clip.clip_id) + raw_extension(clip.source))


def _ledger_row(clip: ClipRow, outcome: Outcome) -> LedgerRow:
    if isinstance(outcome, Lost):
        return LedgerRow(
            clip.clip_id, "failed", outcome.reason, outcome.attempts, detail=outcome.detail
        )
    return LedgerRow(clip.clip_id, "ok", attempts=outcome.attempts)


def _manifest_clip(clip: ClipRow, fetched: Fetched, raw_folder: Path, folder: Path) -> Clip:
    """A manifest row; raw files are named relative to the manifest, so results can be moved."""
    is_ours = fetched.path.parent == raw_folder
    path = os.path.relpath(fetched.path, folder) if is_ours else str(fetched.path.absolute())
    return {
        "clip_id": clip.clip_id,
        "key": clip_key(clip.clip_id),
        "labels": list(clip.labels),
        "source": clip.source,
        "start_seconds": clip.start_seconds,
        "end_seconds": clip.end_seconds,
        "path": path,
        "bytes": fetched.bytes,
        "sha256": fetched.sha256,
    }
