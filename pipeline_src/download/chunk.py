"""Fetch the raw clips of one chunk."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline_src.config.data import DownloadConfig, RateLimitConfig
from pipeline_src.datasets.chunk_plan import planned_clips, read_plan_chunk
from pipeline_src.datasets.clip_lists import ClipRow, restore_secrets
from pipeline_src.datasets.presence import refuse_absent_root
from pipeline_src.download.fetch import Fetcher
from pipeline_src.download.journal import DownloadJournal
from pipeline_src.download.retry_policy import RetryPolicy
from pipeline_src.download.secrets import read_secrets
from pipeline_src.download.source_choices import ClipSources, source_choices
from pipeline_src.download.sources import BEFORE_THAT, Fetched, FetchFailure, Outcome
from pipeline_src.manifest.chunks import ChunkId, ChunkManifest, Clip, clip_key, write_chunk
from pipeline_src.manifest.input_hash import hash_inputs
from pipeline_src.manifest.ledger import TRANSIENT_REASONS
from pipeline_src.manifest.rows import FetchRow
from pipeline_src.system.atomic import json_sha256
from pipeline_src.system.progress import ProgressLine
from pipeline_src.system.url_secrets import hide_secrets


class Result(NamedTuple):
    """A clip by the source that was tried last, and the outcome."""

    clip: ClipRow
    outcome: Outcome


def download_chunk(
    *,
    chunk_csv: Path,
    id: ChunkId,
    sources: ClipSources,
    raw_folder: Path,
    limits_folder: Path,
    manifest_path: Path,
    ledger_path: Path,
    config: DownloadConfig,
    rate_limits: RateLimitConfig,
    ffmpeg: str,
    version: int,
) -> None:
    """Fetch every clip of a chunk; write the download manifest and ledger.

    A clip that cannot be fetched is a row of the ledger, not an error.

    Args:
        raw_folder: where archive members and bodies are kept; survives a killed job.
        limits_folder: shared by all jobs that download.
        ffmpeg: path of the binary that merges what yt-dlp brings.
    Raises:
        StageError: the root of local files is no folder or empty, before or afterwards.
    """
    listed = restore_secrets(read_plan_chunk(chunk_csv, id.split), Path(sources.clip_list))
    if not sources.mirror:
        refuse_absent_root(sources.root, [source_choices(clip, sources)[0] for clip in listed])
    raw_folder.mkdir(parents=True, exist_ok=True)
    secrets = read_secrets()
    settings = json_sha256([version, config.recipe_values()])
    with DownloadJournal(raw_folder, settings) as log:
        retries = RetryPolicy(limits_folder, rate_limits, config.max_attempts)
        fetcher = Fetcher(sources.root, log, config, retries, secrets, ffmpeg)
        results = _fetch_all(
            [source_choices(clip, sources) for clip in listed], fetcher, f"download {id}"
        )
        rows = [_ledger_row(results[clip.clip_id], log) for clip in listed]
    if not sources.mirror and any(row.status != "ok" for row in rows):  # it may have gone meanwhile
        refuse_absent_root(sources.root, [source_choices(clip, sources)[0] for clip in listed])
    found = [
        _manifest_clip(clip, outcome, raw_folder, manifest_path.parent)
        for clip, outcome in (results[clip.clip_id] for clip in listed)
        if isinstance(outcome, Fetched)
    ]
    manifest = ChunkManifest(
        stage="download",
        id=id,
        version=version,
        num_in=len(listed),
        tar=None,
        settings={},
        clips=found,
        dropped=[{"clip_id": r.clip_id, "reason": r.reason} for r in rows if r.status != "ok"],
        input_hash=hash_inputs([planned_clips(chunk_csv)], version, download=config),
    )
    write_chunk(manifest_path, ledger_path, manifest, rows)


def _fetch_all(
    choices: Sequence[tuple[ClipRow, ...]], fetcher: Fetcher, label: str
) -> dict[str, Result]:
    """Ask each clip's first source, then the next one after a permanent failure."""
    with ProgressLine(label, len(choices)) as progress:
        results: dict[str, Result] = {}
        pending = {choice[0].clip_id: choice for choice in choices}
        while pending:
            first = [choice[0] for choice in pending.values()]
            mirrored = {clip_id for clip_id, choice in pending.items() if len(choice) > 1}
            for clip_id, outcome in fetcher.fetch_all(first, mirrored):
                clip, *others = pending[clip_id]
                outcome = _with_earlier_detail(outcome, results.get(clip_id))
                results[clip_id] = Result(clip, outcome)
                is_final = isinstance(outcome, Fetched) or outcome.reason in TRANSIENT_REASONS
                if is_final or not others:
                    progress.update()
            pending = {
                clip_id: choice[1:]
                for clip_id, choice in pending.items()
                if len(choice) > 1 and _is_absent(results[clip_id].outcome)
            }
    return results


def _is_absent(outcome: Outcome) -> bool:
    """Return whether a source has failed permanently."""
    return isinstance(outcome, FetchFailure) and outcome.reason not in TRANSIENT_REASONS


def _with_earlier_detail(outcome: Outcome, earlier: Result | None) -> Outcome:
    before = earlier.outcome if earlier else None
    if isinstance(outcome, Fetched) or not isinstance(before, FetchFailure):
        return outcome
    return outcome._replace(detail=f"{outcome.detail}{BEFORE_THAT}{before.detail}")


def _ledger_row(result: Result, log: DownloadJournal) -> FetchRow:
    clip, outcome = result
    record = log.record(clip.source)
    has_failed = isinstance(outcome, FetchFailure)
    return FetchRow(
        clip.clip_id,
        "failed" if has_failed else "ok",
        outcome.reason if has_failed else "",
        outcome.attempts,
        detail=outcome.detail if has_failed else "",
        source=hide_secrets(clip.source),
        bytes=0 if has_failed else outcome.bytes,
        sha256="" if has_failed else outcome.sha256,
        seconds=record.seconds if record else 0.0,
        finished=record.finished if record else "",
        tool=record.tool if record else "",
    )


def _manifest_clip(clip: ClipRow, fetched: Fetched, raw_folder: Path, folder: Path) -> Clip:
    """Make a manifest row; raw paths are relative to the manifest, so results can be moved."""
    is_ours = fetched.path.parent == raw_folder
    path = os.path.relpath(fetched.path, folder) if is_ours else str(fetched.path.absolute())
    return {
        "clip_id": clip.clip_id,
        "key": clip_key(clip.clip_id),
        "labels": list(clip.labels),
        "source": hide_secrets(clip.source),
        "start_seconds": clip.start_seconds,
        "end_seconds": clip.end_seconds,
        "path": path,
        "bytes": fetched.bytes,
        "sha256": fetched.sha256,
    }
