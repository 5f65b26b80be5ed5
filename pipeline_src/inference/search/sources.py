"""What an index is built from: files of folders, or packed clips of a data set.

Shape legend: F frames, H W image side, T log-mel frames, M mel bins.
"""

import os
import threading
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from pipeline_src.catalog import paths
from pipeline_src.errors import ConfigError, MediaError, SampleError
from pipeline_src.evaluate.common import check_fits, open_split
from pipeline_src.inference.decode import DecodedInput, InputWindow, Opened
from pipeline_src.inference.inputs import Item, folder_files
from pipeline_src.inference.locate import locate
from pipeline_src.inference.model import Model
from pipeline_src.inference.stream import Options, decoded_parts
from pipeline_src.loader.dataset import ClipDataset
from pipeline_src.loader.sampler import Draw
from pipeline_src.manifest.chunks import read_chunk
from pipeline_src.shards.files import INDEX_FILE
from pipeline_src.shards.samples import Sample
from pipeline_src.shards.shard_set import ShardSet, dropped_clips
from pipeline_src.system.cores import num_cores
from pipeline_src.system.progress import ProgressLine
from pipeline_src.transcode.transcode import map_in_order

AHEAD = 8  # clips of each thread


@dataclass(frozen=True)
class SourceClip:
    """One clip to index.

    Args:
        clip: its name, unique in the index.
        stamp: changes with its bytes.
        path: of its file, as far as there is one; ``span`` is the part of it, (0, 0) = all.
        reason: why it was refused when its data set was made.
        sample: of packed clips: shard, key, offset, size, CRC-32. place: number in ``shards``.
    """

    clip: str
    stamp: tuple[int, ...]
    labels: tuple[str, ...] = ()
    dataset: str = ""
    split: str = ""
    path: str = ""
    span: tuple[float, float] = (0.0, 0.0)
    reason: str = ""
    sample: tuple[Any, ...] = ()
    shards: ShardSet | None = None
    place: int = 0

    def row(self) -> dict[str, Any]:
        """Return what a row of the index says of it."""
        return {
            "clip": self.clip,
            "path": self.path,
            "labels": list(self.labels),
            "dataset": self.dataset,
            "split": self.split,
            "stamp": list(self.stamp),
            "sample": list(self.sample),
        }


def list_source_clips(sources: Sequence[Path], model: Model) -> list[SourceClip]:
    """List every clip of the sources: of files the label is the folder that they lie in.

    Args:
        sources: folders of recordings and pictures, files, results of a data set (with
            shards/<split>/index.json) or one such index.json.
    Raises:
        ConfigError: there is nothing in them. CheckpointError: the shards are not for the model.
    """
    found: dict[str, SourceClip] = {}
    for source in sources:
        indexes = [source] if source.name == INDEX_FILE else packed_splits(source)
        clips = [clip for path in indexes for clip in _packed_clips(path, model)]
        for clip in clips or _file_clips(source):
            found.setdefault(clip.clip, clip)
    if not found:
        listed = ", ".join(map(str, sources))
        raise ConfigError(f"{listed}: no recordings, pictures or packed clips; name their folder")
    return list(found.values())


def packed_splits(folder: Path) -> list[Path]:
    """List index.json of every split of a data set's results."""
    packed = paths.glob_within(paths.PACKED_INDEX, "dataset")
    return sorted(folder.glob(packed)) or sorted(folder.glob(f"*/{INDEX_FILE}"))


def _file_clips(source: Path) -> Iterator[SourceClip]:
    if not source.exists():
        raise ConfigError(f"{source}: does not exist; name a folder of recordings")
    for path in folder_files(source) if source.is_dir() else [source]:
        try:
            status = path.stat()
            stamp = (status.st_size, status.st_mtime_ns)
        except OSError:  # a link to nothing, or gone by now: reading it says so in its row
            stamp = ()
        above = path.parent.relative_to(source).parts if source.is_dir() else ()
        yield SourceClip(
            clip=str(path),
            stamp=stamp,
            labels=above[-1:],
            path=os.path.abspath(path),  # noqa: PTH100 - links stay links
        )


def _packed_clips(index_path: Path, model: Model) -> Iterator[SourceClip]:
    """Yield clips of a split, and behind them those of its list that were refused on the way."""
    split = open_split(index_path, {})
    check_fits(locate(model.folder), split, model.spec.model)
    dataset, name = split.index["dataset"], split.index["split"]
    raw = _raw_files(index_path, name)
    for place, sample in enumerate(split.shards.samples):
        path, span = raw.get(sample.clip_id, ("", (0.0, 0.0)))
        yield SourceClip(
            clip=f"{dataset}/{name}/{sample.clip_id}",
            stamp=(sample.crc32, sample.size_bytes),
            labels=tuple(split.shards.class_names[label] for label in sample.labels),
            dataset=dataset,
            split=name,
            path=path,
            span=span,
            sample=_sample_values(sample),
            shards=split.shards,
            place=place,
        )
    for clip_id, reason in dropped_clips(index_path).items():
        path, span = raw.get(clip_id, ("", (0.0, 0.0)))
        yield SourceClip(
            clip=f"{dataset}/{name}/{clip_id}",
            stamp=(),
            dataset=dataset,
            split=name,
            path=path,
            span=span,
            reason=reason,
        )


def _sample_values(sample: Sample) -> tuple[Any, ...]:
    """Return what finds a sample of a local shard again; nothing for one at a URL."""
    if not isinstance(sample.shard, Path):
        return ()
    return (os.path.abspath(sample.shard), *sample[1:4], sample.crc32)  # noqa: PTH100 - links stay


def _raw_files(index_path: Path, split: str) -> dict[str, tuple[str, tuple[float, float]]]:
    """Map clips to the files that they were packed from, and which part each is, as far as kept."""
    found = {}
    manifests = paths.of_stage(paths.MANIFEST, "download").replace("{split}", split)
    folder = index_path.parents[2]
    for manifest in sorted(folder.glob(paths.glob_within(manifests, "dataset"))):
        for clip in read_chunk(manifest, "download").clips:
            path = manifest.parent / clip["path"]
            if clip["path"] and path.is_file():
                span = (clip["start_seconds"] or 0.0, clip["end_seconds"] or 0.0)
                found[clip["clip_id"]] = (os.path.abspath(path), span)  # noqa: PTH100
    return found


Decoded = tuple[SourceClip, InputWindow, DecodedInput | MediaError]


def decode_sources(
    clips: Sequence[SourceClip], model: Model, options: Options
) -> Generator[Decoded]:
    """Yield every part of every clip, in order, with what the network is shown of it."""
    packed = [clip for clip in clips if clip.shards]
    with ProgressLine(options.progress, len(clips), unit="clips") as progress:
        for clip in clips:
            if clip.reason:
                problem = MediaError(clip.reason, "refused when the data set was made")
                yield clip, InputWindow(Opened(0, clip.clip, problem=problem), 0), problem
                progress.update()
        for decoded in chain(
            _decode_packed(packed, model, options), _decode_files(clips, model, options)
        ):
            yield decoded
            if decoded[1].is_last:
                progress.update()


def _decode_files(clips: Sequence[SourceClip], model: Model, options: Options) -> Iterator[Decoded]:
    files = [clip for clip in clips if not clip.shards and not clip.reason]
    if not files:
        return
    items = [Item(clip.clip, Path(clip.path)) for clip in files]
    quiet = replace(options, progress="")
    parts = decoded_parts(items, quiet, model.preparation, model.format, model.clip_seconds)
    with closing(parts) as decoded:
        for part, seen in decoded:
            yield files[part.opened.number], part, seen


def _decode_packed(
    clips: Sequence[SourceClip], model: Model, options: Options
) -> Iterator[Decoded]:
    reader = PackedReader(model, options.modalities)
    num_workers = options.num_workers or num_cores()
    with ThreadPoolExecutor(num_workers) as pool:
        for clip, seen in zip(
            clips, map_in_order(pool, reader.read, clips, AHEAD * num_workers), strict=True
        ):
            yield clip, InputWindow(Opened(0, clip.clip), 0), seen


class PackedReader:
    """Packed clips as a network is shown them in evaluation; several threads may read."""

    def __init__(self, model: Model, modalities: Collection[str]) -> None:
        self._model = model
        self._modalities = modalities
        self._local = threading.local()  # a dataset's memory is its thread's

    def read(self, clip: SourceClip) -> DecodedInput | MediaError:
        """Decode one clip; one that is damaged is refused like a file."""
        assert clip.shards is not None
        dataset = self._dataset(clip.shards)
        shapes = dataset.layout().items()
        arrays = {name: np.empty((1, *shape), kind) for name, (shape, kind) in shapes}
        try:
            dataset.fill(arrays, [Draw(clip.place, 0)])
        except SampleError as error:
            return MediaError("corrupt", str(error))
        logmel = arrays["logmel"][0] if "audio" in self._modalities else None
        frames = arrays["frames"][0] if self._shows(arrays) else None
        return DecodedInput(*clip.span, logmel, frames)

    def _shows(self, arrays: Mapping[str, Any]) -> bool:
        return "frames" in arrays and "video" in self._modalities

    def _dataset(self, shards: ShardSet) -> ClipDataset:
        known: dict[int, ClipDataset] = self._local.__dict__.setdefault("datasets", {})
        if id(shards) not in known:
            known[id(shards)] = ClipDataset(shards, self._model.format)
        return known[id(shards)]
