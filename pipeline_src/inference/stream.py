"""Inputs to decoded parts, in order, on all cores; few are in memory at a time."""

import logging
import math
import tempfile
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from pipeline_src.config.data import DownloadConfig
from pipeline_src.errors import ConfigError, MediaError
from pipeline_src.inference.decode import DecodedInput, InputWindow, MediaDecoder, Opened
from pipeline_src.inference.fetch import UrlFetcher
from pipeline_src.inference.inputs import Item
from pipeline_src.inference.windows import WindowSeconds
from pipeline_src.loader.clip_format import ClipFormat
from pipeline_src.modalities import MODALITIES
from pipeline_src.runs.preparation import Preparation
from pipeline_src.system.cores import num_cores
from pipeline_src.system.progress import ProgressLine
from pipeline_src.transcode.memory import MemoryBudget
from pipeline_src.transcode.transcode import map_in_order

logger = logging.getLogger(__name__)
# Of one process of ffmpeg, whose start is most of a short clip's time.
PARTS_TOGETHER, SECONDS_TOGETHER = 8, 60.0
AHEAD = 2  # groups of each thread
DOWNLOAD = DownloadConfig()


@dataclass(frozen=True)
class Options:
    """How inputs are read.

    Args:
        modalities: to look for: ("audio",), ("video",) or both; an input gives what it has.
        window_seconds: see ``cut_windows``.
        batch_size: parts that the network is given at a time.
        num_workers: threads that decode; 0 = the cores of this process.
        progress: label of a line that says how far it is; empty = none.
        download: bounds of files and URLs.
    """

    modalities: Sequence[str] = MODALITIES
    window_seconds: WindowSeconds = "auto"
    batch_size: int = 32
    num_workers: int = 0
    progress: str = ""
    download: DownloadConfig = field(default_factory=lambda: DOWNLOAD)

    def __post_init__(self) -> None:
        if not self.modalities or set(self.modalities) - set(MODALITIES):
            raise ConfigError(f"modalities = {self.modalities}; allowed: audio, video or both")
        seconds = self.window_seconds
        if not (seconds is None or seconds == "auto" or _is_length(seconds)):
            raise ConfigError(
                f"window_seconds = {seconds!r}; allowed: seconds, more than 0, 'auto' or None"
            )
        for name, least in (("batch_size", 1), ("num_workers", 0)):
            value = getattr(self, name)
            if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
                raise ConfigError(f"{name} = {value!r}; allowed: a whole number, at least {least}")


def _is_length(value: Any) -> bool:
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    return is_number and 0 < float(value) < math.inf


def decoded_parts(
    items: Sequence[Item],
    options: Options,
    preparation: Preparation,
    clip_format: ClipFormat,
    model_seconds: float,
) -> Generator[tuple[InputWindow, DecodedInput | MediaError]]:
    """Yield every part of every input, in order, with what a network is shown of it or why not."""
    num_workers = options.num_workers or num_cores()
    with (
        tempfile.TemporaryDirectory(prefix="inference-") as name,
        ThreadPoolExecutor(num_workers) as openers,  # they wait for hosts, too
        ThreadPoolExecutor(num_workers) as decoders,
        closing(UrlFetcher(options.download, Path(name) / "hosts")) as fetcher,
    ):
        decoder = MediaDecoder(
            preparation,
            clip_format,
            frozenset(options.modalities),
            options.window_seconds,
            model_seconds,
            Path(name),
            fetcher,
            MemoryBudget(num_workers),
            options.download.max_bytes,
        )
        opened = map_in_order(
            openers,
            lambda pair: decoder.open(*pair),
            enumerate(items),
            num_ahead=PARTS_TOGETHER * AHEAD * num_workers,
        )
        results = map_in_order(
            decoders,
            lambda parts: list(zip(parts, decoder.decode(parts), strict=True)),
            _group(opened, decoder),
            num_ahead=AHEAD * num_workers,
        )
        yield from _counted(results, decoder, options.progress, len(items))


def _counted(
    results: Iterable[list[tuple[InputWindow, DecodedInput | MediaError]]],
    decoder: MediaDecoder,
    label: str,
    total: int,
) -> Iterator[tuple[InputWindow, DecodedInput | MediaError]]:
    progress = ProgressLine(label, total, unit="files") if label else None
    try:
        for group in results:
            for part, seen in group:
                if part.is_last:
                    decoder.forget(part.opened)
                    if progress:
                        progress.update()
                yield part, seen
    finally:
        if progress:
            progress.close()


def _group(inputs: Iterable[Opened], decoder: MediaDecoder) -> Iterator[list[InputWindow]]:
    """Yield parts in order, cut into groups whose media are made alike."""
    group: list[InputWindow] = []
    kind: bool | None = None
    for opened in inputs:
        has_frames = decoder.media_of(opened).has_frames
        for window in range(len(opened.windows)):
            part = InputWindow(opened, window)
            if group and (kind != has_frames or _is_full(group, part)):
                yield group
                group = []
            group.append(part)
            kind = has_frames
    if group:
        yield group


def _is_full(group: Collection[InputWindow], another: InputWindow) -> bool:
    seconds = sum(part.seconds for part in group) + another.seconds
    return len(group) >= PARTS_TOGETHER or seconds > SECONDS_TOGETHER
