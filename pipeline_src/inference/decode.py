"""Files to what a network wants to see, by the media code of the workflow and its guards.

Shape legend: T log-mel frames, M mel bins, F video frames, H W image side.
"""

import os
import re
import shutil
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline_src.config.data import MediaConfig
from pipeline_src.download.bodies import is_picture
from pipeline_src.download.local import is_file
from pipeline_src.errors import MediaError, as_clip_error
from pipeline_src.inference.fetch import UrlFetcher
from pipeline_src.inference.inputs import ClipArrays, Item, wav_bytes
from pipeline_src.inference.stills import frame_jpegs, read_still
from pipeline_src.inference.windows import Window, WindowSeconds, cut_windows
from pipeline_src.loader.clip_format import ClipFormat, StoredFrames
from pipeline_src.loader.decode import decode_frame
from pipeline_src.logmel.chunk import read_waveform
from pipeline_src.logmel.fbank import log_mel, num_window_samples
from pipeline_src.manifest.chunks import Clip
from pipeline_src.manifest.stage import Made
from pipeline_src.runs.preparation import Preparation
from pipeline_src.transcode.clips import PreparedClip, prepare_clip
from pipeline_src.transcode.memory import MemoryBudget
from pipeline_src.transcode.probe import probe_file, stream_kinds
from pipeline_src.transcode.silence import add_silence
from pipeline_src.transcode.transcode import decode_clips

HEAD_BYTES = 64
ABSENT = ("no_audio", "no_video", "too_short")  # reasons why one modality has nothing in a part


@dataclass(frozen=True)
class Opened:
    """An input whose bytes are at hand, and what of it is looked at.

    Args:
        number: of the input. path: of its recording; None for pictures alone.
        modalities: what it gives.
        jpegs: pictures in place of the recording's own.
        windows: stretches of it; [None] = all of it as one clip.
        problem: why nothing can be had. is_silenced: its sound is silence that was put there.
    """

    number: int
    name: str
    path: Path | None = None
    modalities: frozenset[str] = frozenset()
    jpegs: tuple[bytes, ...] = ()
    windows: tuple[Window | None, ...] = (None,)
    problem: MediaError | None = None
    is_silenced: bool = False


@dataclass(frozen=True)
class InputWindow:
    """One stretch of an input: number ``window`` of ``len(opened.windows)``."""

    opened: Opened
    window: int

    @property
    def is_last(self) -> bool:
        """Whether nothing of the input comes after it."""
        return self.window == len(self.opened.windows) - 1

    @property
    def seconds(self) -> float:
        """How long it is, as far as it was cut; 0 for a whole file."""
        span = self.opened.windows[self.window]
        return span[1] - span[0] if span else 0.0


@dataclass(frozen=True)
class DecodedInput:
    """What a network is shown of one part.

    Args:
        logmel_TM: float16, cut or padded, or its segments (G, T, M); None without sound.
        frames_FHW3: uint8; None without pictures.
        flags: what is odd about it, as in the ledger.
    """

    start_seconds: float
    end_seconds: float
    logmel_TM: NDArray | None
    frames_FHW3: NDArray | None
    flags: tuple[str, ...] = ()


@dataclass
class MediaDecoder:
    """Opens inputs and decodes their parts; its methods may run in several threads.

    Args:
        wanted: modalities to look for; an input gives those of them that it has.
        folder: for temporary files.
    """

    preparation: Preparation
    format: ClipFormat
    wanted: Collection[str]
    window_seconds: WindowSeconds
    model_seconds: float
    folder: Path
    fetcher: UrlFetcher
    memory: MemoryBudget
    max_bytes: int
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self, number: int, item: Item) -> Opened:
        """Have an input's bytes at hand and see what it holds."""
        try:
            return self._open(number, item)
        except Exception as error:
            problem = self._by_name(as_clip_error(error, item.name), number, item.name)
            return Opened(number, item.name, problem=problem)

    def _open(self, number: int, item: Item) -> Opened:
        if isinstance(item.source, ClipArrays):
            return self._open_arrays(number, item.name, item.source)
        path = self._local_file(number, item.source)
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
        if is_picture(head):
            self._check_wanted(frozenset({"video"}))
            jpeg = read_still(path, self.preparation.media)
            return Opened(number, item.name, None, frozenset({"video"}), (jpeg,))
        return self._open_recording(number, item.name, path)

    def _open_recording(self, number: int, name: str, path: Path) -> Opened:
        media = self.preparation.media
        found = stream_kinds(path, media.max_pixels)
        kinds = self._check_wanted(frozenset(found)) if found else frozenset({"audio"})
        is_silenced = "video" in kinds and "audio" not in found
        if is_silenced:
            path = self._with_silence(number, path)
        length = probe_file(path, max_pixels=media.max_pixels, needs_video="video" in kinds).length
        windows = cut_windows(
            length.begin_seconds, length.end_seconds, self.window_seconds, self.model_seconds
        )
        windows_or_whole = tuple(windows or [None])
        return Opened(number, name, path, kinds, (), windows_or_whole, is_silenced=is_silenced)

    def _open_arrays(self, number: int, name: str, arrays: ClipArrays) -> Opened:
        has = {"audio": arrays.sound is not None, "video": arrays.frames is not None}
        kinds = self._check_wanted(frozenset(kind for kind in has if has[kind]))
        jpegs: tuple[bytes, ...] = ()
        if arrays.frames is not None and "video" in kinds:
            jpegs = tuple(frame_jpegs(arrays.frames, self.preparation.media))
        if arrays.sound is None or "audio" not in kinds:
            return Opened(number, name, None, kinds, jpegs)
        rate = arrays.sample_rate_hz or self.preparation.media.sample_rate_hz
        path = self._file(number) / "sound.wav"
        path.write_bytes(wav_bytes(arrays.sound, rate))
        heard = self._open_recording(number, name, path)
        if jpegs:  # the frames belong to all of the sound
            return replace(heard, modalities=kinds, jpegs=jpegs, windows=(None,))
        return heard

    def _by_name(self, problem: MediaError, number: int, name: str) -> MediaError:
        """Call the temporary files of an input by its name."""
        ours = re.compile(re.escape(f"{self.folder / str(number)}{os.sep}") + r"[\w.]+")
        return MediaError(problem.reason, ours.sub(lambda _: name, problem.detail))

    def _check_wanted(self, found: frozenset[str]) -> frozenset[str]:
        kinds = found & frozenset(self.wanted)
        if kinds:
            return kinds
        missing = min(self.wanted)
        raise MediaError(f"no_{missing}", f"only {' and '.join(sorted(found))}, wanted: {missing}")

    def _local_file(self, number: int, source: "Path | str | bytes") -> Path:
        if isinstance(source, Path):
            if not is_file(source):
                raise MediaError("unavailable", f"{source} is not a file")
            path = source
        else:
            path = self._file(number) / "input.bin"
            if isinstance(source, str):
                self.fetcher.fetch(source, path)
            else:
                path.write_bytes(source)
        size = path.stat().st_size
        if not size:
            raise MediaError("corrupt", "is empty")
        if size > self.max_bytes:
            raise MediaError("unsupported", f"{size} bytes; download.max_bytes is {self.max_bytes}")
        return path

    def _with_silence(self, number: int, path: Path) -> Path:
        target = self._file(number) / "silent.mkv"
        media = self.preparation.media
        limits = {"timeout_seconds": media.timeout_seconds, "max_bytes": self.max_bytes}
        if not target.exists():
            try:
                add_silence(path, target, **limits)
            except BaseException:
                target.unlink(missing_ok=True)
                raise
        return target

    def _file(self, number: int) -> Path:
        """Return the folder of an input's temporary files."""
        folder = self.folder / str(number)
        folder.mkdir(exist_ok=True)
        return folder

    def forget(self, opened: Opened) -> None:
        """Remove the temporary files of an input."""
        shutil.rmtree(self.folder / str(opened.number), ignore_errors=True)

    def media_of(self, opened: Opened) -> MediaConfig:
        """Return how a recording is transcoded: with frames where they are its own."""
        media = self.preparation.media
        is_seen = "video" in opened.modalities and not opened.jpegs
        return media if is_seen else media.without_frames()

    def decode(self, parts: Sequence[InputWindow]) -> list[DecodedInput | MediaError]:
        """Decode parts whose media are made alike, in one process of ffmpeg."""
        results: list[DecodedInput | MediaError | None] = [
            self._without_ffmpeg(part) for part in parts
        ]
        media = self.media_of(parts[0].opened)
        usable: list[tuple[Clip, PreparedClip]] = []
        places: list[int] = []
        for place, part in enumerate(parts):
            if results[place] is not None:
                continue
            clip = _clip(part)
            prepared = prepare_clip(clip, self.folder, media, self.memory.total_bytes)
            if isinstance(prepared, MediaError):
                results[place] = prepared
            else:
                usable.append((clip, prepared))
                places.append(place)
        decoded = decode_clips(usable, self.folder, media, self.memory) if usable else []
        for place, result in zip(places, decoded, strict=True):
            results[place] = self._see(parts[place].opened, result)
        for place, (part, result) in enumerate(zip(parts, results, strict=True)):
            if isinstance(result, MediaError):
                results[place] = self._decode_rest(part, result)
        return [result for result in results if result is not None]

    def _decode_rest(self, part: InputWindow, problem: MediaError) -> DecodedInput | MediaError:
        """Decode what a part has where its sound or its pictures end before it does."""
        opened, refused = part.opened, self._by_name(problem, part.opened.number, part.opened.name)
        is_whole = opened.windows == (None,)
        missing = "video" if problem.reason == "no_video" else "audio"
        rest = opened.modalities - {missing}
        if problem.reason not in ABSENT or not rest or opened.jpegs or opened.path is None:
            return refused
        if is_whole and missing in opened.modalities:
            return refused  # as it is where a network is trained
        if missing == "video":
            (seen,) = self.decode([replace(part, opened=replace(opened, modalities=rest))])
            return seen
        return refused if opened.is_silenced else self._decode_silenced(part, rest)

    def _decode_silenced(
        self, part: InputWindow, modalities: frozenset[str]
    ) -> DecodedInput | MediaError:
        """Decode the pictures of a part whose sound ends before it does."""
        opened = part.opened
        assert opened.path is not None
        try:
            with self._lock:  # another window of it may ask at the same time
                path = self._with_silence(opened.number, opened.path)
        except Exception as error:
            problem = as_clip_error(error, opened.name)
            return self._by_name(problem, opened.number, opened.name)
        # Both files' times count from their first picture or sound, which silence begins with.
        silenced = replace(opened, path=path, modalities=modalities, is_silenced=True)
        (seen,) = self.decode([replace(part, opened=silenced)])
        return seen

    def _without_ffmpeg(self, part: InputWindow) -> DecodedInput | MediaError | None:
        """Return what needs no decoding of a recording: a refusal, or pictures alone."""
        if part.opened.problem:
            return part.opened.problem
        if part.opened.path is not None:
            return None
        return DecodedInput(0.0, 0.0, None, self._frames(part.opened.jpegs, ())[0])

    def _see(self, opened: Opened, result: Made | MediaError) -> DecodedInput | MediaError:
        if isinstance(result, MediaError):
            return result
        entry = result.entry
        members = {name.partition(".")[2]: content for name, content in result.members}
        try:
            frames, logmel, segments = None, None, self.format.choose_segments(None, (), None)
            if "video" in opened.modalities:
                own = [members[name] for name in sorted(members) if name != "flac"]
                moments = () if opened.jpegs else entry["frame_seconds"]
                frames, segments = self._frames(opened.jpegs or own, moments)
            if "audio" in opened.modalities:
                logmel = self._logmel(members["flac"], segments)
        except Exception as error:
            return as_clip_error(error, opened.name)
        span = entry["start_seconds"], entry["end_seconds"]
        return DecodedInput(*span, logmel, frames, self._flags(entry, opened))

    def _flags(self, entry: Clip, opened: Opened) -> tuple[str, ...]:
        is_heard = "audio" in opened.modalities
        return tuple(flag for flag in entry["flags"] if is_heard or flag != "silent_audio")

    def _logmel(self, flac: bytes, segments: Sequence[tuple[int, int]]) -> NDArray:
        """Make a log-mel (T, M) or (G, T, M) float16 as packing stores and the loader cuts it."""
        audio, rate = self.preparation.audio, self.preparation.media.sample_rate_hz
        waveform = torch.from_numpy(read_waveform(flac, num_window_samples(audio, rate)))
        stored = log_mel(waveform, audio, rate).numpy().astype(np.float16)
        place = np.empty(self.format.logmel_shape(audio.num_mel_bins), np.float16)
        self.format.fit_logmel(place, stored, None, segments)
        return place

    def _frames(
        self, jpegs: Sequence[bytes], seconds: Sequence[float]
    ) -> tuple[NDArray, list[tuple[int, int]]]:
        """Return frames (F, H, W, 3) uint8 as the loader sees them, and their segments of sound."""
        rate = self.format.fps or 1.0
        moments = list(seconds) or [number / rate for number in range(len(jpegs))]
        stored = StoredFrames(len(jpegs), lambda: moments)
        chosen = self.format.choose_frames(stored, None)
        size = self.format.img_size
        images = [decode_frame(memoryview(bytearray(jpegs[k])), size) for k in chosen]
        segments = self.format.choose_segments(stored, chosen, None)
        return torch.stack(images).permute(0, 2, 3, 1).numpy(), segments


def _clip(part: InputWindow) -> Clip:
    """Return a part as the manifest of a download would list it."""
    opened = part.opened
    span = opened.windows[part.window] or (None, None)
    return {
        "clip_id": opened.name,
        "key": str(opened.number),
        "labels": [],
        "source": opened.name,
        "sha256": "",
        "path": str(opened.path.absolute()) if opened.path else "",
        "start_seconds": span[0],
        "end_seconds": span[1],
    }
