"""Are these shards whole?

Reads every byte once: sizes, sha256, the CRC-32 and tar headers of every sample, counts against
index and manifests. The members of some clips, or of all, are decoded. Every defect is one line
that names file, clip and next step, and the exit code is then 1.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from pipeline_src.errors import ManifestError
from pipeline_src.manifest.chunks import ChunkManifest
from pipeline_src.manifest.schema import read_json
from pipeline_src.shards.check import ShardTask, check_shard
from pipeline_src.shards.files import INDEX_FILE, shard_files
from pipeline_src.shards.shard_set import (
    chunk_manifests,
    chunk_samples,
    excluded_ids,
    read_index,
    shards_base,
)
from pipeline_src.system.progress import ProgressLine

DECODED_CLIPS = 200


def find_indexes(paths: Sequence[Path]) -> list[Path]:
    """Return the index files named, and those in the folders named.

    Raises:
        ManifestError: a folder holds none.
    """
    found: list[Path] = []
    for path in paths:
        is_named = path.is_file() or path.suffix == Path(INDEX_FILE).suffix
        below = [path] if is_named and not path.is_dir() else list(_packed_below(path))
        if not below:
            what = f"no {INDEX_FILE} of shards in it" if path.is_dir() else "no such file or folder"
            raise ManifestError(f"{path}: {what}; name a folder of packed shards")
        found += below
    return found


def _packed_below(folder: Path) -> Iterator[Path]:
    """Yield the indexes of packed shards; those of searches are called alike."""
    for path in sorted(folder.rglob(INDEX_FILE)):
        try:
            index = read_json(path, "index")
            is_other = isinstance(index, dict) and "widths" in index
        except ManifestError:  # a damaged one is to be named
            is_other = False
        if not is_other:
            yield path


def list_tasks(index_path: Path, num_decoded: int) -> tuple[list[ShardTask], list[str]]:
    """Return one task per shard of a split, and the defects found before a shard is read.

    Args:
        num_decoded: clips to decode, evenly spread over the list; -1 = all.
    Raises:
        ManifestError: the index is damaged, or its shards lie elsewhere.
    """
    index = read_index(index_path)
    manifests = chunk_manifests(index_path, index)
    base = shards_base(index_path, index)
    if not isinstance(base, Path):
        raise ManifestError(
            f"{index_path}: its shards are at {base}; run this command where they lie"
        )
    samples = [s for chunk in manifests.values() for s in chunk_samples(base, chunk)]
    num = len(samples) if num_decoded < 0 else min(num_decoded, len(samples))
    chosen = {samples[k * len(samples) // num].clip_id for k in range(num)}
    tasks: list[ShardTask] = []
    position = 0
    for path, chunk in manifests.items():
        for shard in shard_files(chunk):
            held = tuple(samples[position : position + shard.num_samples])
            position += shard.num_samples
            decoded = frozenset(s.clip_id for s in held if s.clip_id in chosen)
            tasks.append(ShardTask(base / shard.file, path, shard, held, decoded, index))
    return tasks, list(_check_index(index_path, index, manifests, tasks))


def _check_index(
    index_path: Path,
    index: dict[str, Any],
    manifests: dict[Path, ChunkManifest],
    tasks: Sequence[ShardTask],
) -> Iterator[str]:
    """Check counts, names and hashes of the index against the manifests beside it."""

    def defect(what: str) -> str:
        return f"{index_path}: {what}; delete it and run again"

    listed = [{k: shard[k] for k in shard if k != "manifest"} for shard in index["shards"]]
    if listed != [task.shard._asdict() for task in tasks]:
        yield defect("lists other shards than the manifests beside it")
    samples = [sample for task in tasks for sample in task.samples]
    for name in ("clip_id", "key"):
        counts = Counter(getattr(sample, name) for sample in samples)
        repeated = [value for value, count in counts.items() if count > 1]
        if repeated:
            yield defect(f"{name} {repeated[0]!r} stands there more than once")
    hidden = excluded_ids(index)
    clip_ids = sorted(s.clip_id for s in samples if s.clip_id not in hidden)
    if len(clip_ids) != index["num_clips"]:
        yield defect(f"says {index['num_clips']} clips, its shards hold {len(clip_ids)}")
    elif hashlib.sha256("\n".join(clip_ids).encode()).hexdigest() != index["clip_ids_sha256"]:
        yield defect("its clip_ids_sha256 is that of other clips")
    num_in = sum(chunk.num_in for chunk in manifests.values())
    num_known = index["num_clips"] + sum(index["reasons"].values())
    if not num_in == index["num_clips_in_list"] == num_known:
        yield defect(
            f"{index['num_clips_in_list']} clips in the list, {num_in} in the manifests, "
            f"{num_known} packed or lost"
        )
    known = {task.path for task in tasks}
    for path in sorted(set(index_path.parent.glob("*.tar")) - known):
        yield f"{path}: no manifest lists it, but programs that read *.tar will; delete it"


def verify(paths: Sequence[Path], *, num_decoded: int, num_workers: int) -> Iterator[str]:
    """Yield every defect of the indexes and of their shards, in the order in which they are found.

    Raises:
        ManifestError: there is nothing to check.
    """
    tasks: list[ShardTask] = []
    for index_path in find_indexes(paths):
        try:
            found, defects = list_tasks(index_path, num_decoded)
        except ManifestError as error:
            yield str(error)
            continue
        except KeyError as error:
            yield f"{index_path}: no {error} in it; delete it and run again"
            continue
        tasks += found
        yield from defects
    progress = ProgressLine("verify", sum(len(task.samples) for task in tasks))
    with progress, ProcessPoolExecutor(num_workers, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(check_shard, task): task for task in tasks}
        for future in as_completed(running):
            yield from future.result()
            progress.update(len(running[future].samples))
    logging.info("%d shards, %d clips checked", len(tasks), progress.num_done)
