"""Clips of one or several shard sets as batches of tensors.

Shape legend: B clips, S audio samples, T log-mel frames, M mel bins, F video frames, H W image
side, C classes.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from pipeline_src.errors import ManifestError, MediaError, SampleError, shown
from pipeline_src.loader.clip_format import ClipFormat, StoredFrames
from pipeline_src.loader.decode import decode_frame
from pipeline_src.loader.mixup import Mix, Mixup, mix_frames
from pipeline_src.loader.replacement import MAX_REPLACEMENTS, Replacements
from pipeline_src.loader.sampler import Draw
from pipeline_src.shards.files import remedy
from pipeline_src.shards.members import load_array
from pipeline_src.shards.reader import Members, ShardReader
from pipeline_src.shards.samples import Sample
from pipeline_src.shards.shard_set import ShardSet

IMAGE_MEAN = (0.485, 0.456, 0.406)  # ImageNet statistics: CAV-MAE, AVSiam, MAViL
IMAGE_STD = (0.229, 0.224, 0.225)
STORED_LOGMEL = np.float16
NO_WAVEFORM = np.zeros(0, np.float32)
DECODE_FAILURES = "decode_failures"


class _Clip(NamedTuple):
    """One decoded clip, or a mixture of two; its frames are where they were asked for.

    ``number`` is its index in the shard set; ``waveform_S`` is empty unless it was asked for,
    ``segments`` of the log-mel where it is shown whole.
    """

    number: int
    logmel_TM: NDArray
    targets_C: NDArray
    waveform_S: NDArray
    segments: Sequence[tuple[int, int]] = ()


class ClipDataset(Dataset[dict[str, Tensor]]):
    """Random access to decoded clips by ``Draw``; a clip that cannot be decoded is an error.

    Each item: ``logmel`` (T, M), of several segments (G, T, M), float16 as stored, float32 with
    mixup; ``frames`` (F, 3, H, W) uint8 unless the clips are sound alone, ``targets`` (C,) float32,
    ``index`` () int64. ``to_device`` normalises the first two. A list of draws gives a batch of
    them, decoded into its own memory: there is nothing to collate.

    Args:
        replaces: a clip that cannot be decoded is replaced, see ``replacement.py``;
            ``decode_failures`` (MAX_REPLACEMENTS,) int64 holds the indices of such clips, then -1.
    """

    def __init__(
        self,
        shards: ShardSet,
        clip_format: ClipFormat,
        mixup: Mixup | None = None,
        *,
        replaces: bool = False,
    ) -> None:
        self.shards = shards
        self.format = clip_format
        self.mixup = mixup
        self.replaces = replaces
        self._reader = ShardReader(shards.remote, reuses_memory=True)

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, draw: Draw) -> dict[str, Tensor]:
        """Return what ``__getitems__`` does of one clip, without the axis B.

        "logmel" (T, M) or (G, T, M), "targets" (C,), "index" 0-d, "frames" (F, 3, H, W) if any.
        """
        return {name: value[0] for name, value in self.__getitems__([draw]).items()}

    def __getitems__(self, draws: Sequence[Draw]) -> dict[str, Tensor]:
        """Return a batch: "logmel" (B, T, M), "targets" (B, C), "index" (B,), "frames" if any.

        Frames are (B, F, 3, H, W); with segments of sound the log-mel is (B, G, T, M).
        """
        shapes = self.layout().items()
        arrays = {name: np.empty((len(draws), *shape), kind) for name, (shape, kind) in shapes}
        self.fill(arrays, draws)
        return as_tensors(arrays)

    def layout(self) -> dict[str, tuple[tuple[int, ...], type[np.generic]]]:
        """Return the shape and type of an item in memory; of its frames as decoding gives them."""
        wanted = self.format
        layout: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
            "logmel": (
                wanted.logmel_shape(self.shards.num_mel_bins),
                np.float32 if self.mixup else STORED_LOGMEL,
            ),
            "targets": ((len(self.shards.class_names),), np.float32),
            "index": ((), np.int64),
        }
        if "video" in self.shards.modalities:
            frames = (wanted.num_frames, wanted.img_size, wanted.img_size, 3)
            layout["frames"] = (frames, np.uint8)
        if self.replaces:
            layout[DECODE_FAILURES] = ((MAX_REPLACEMENTS,), np.int64)
        return layout

    def fill(self, batch: Mapping[str, NDArray], draws: Sequence[Draw]) -> None:
        """Write the clips of ``draws`` into the rows of arrays as ``layout`` says."""
        self._reader.prefetch([self.shards.samples[draw.index] for draw in draws])
        for row, draw in enumerate(draws):
            self._fill_row({name: array[row, ...] for name, array in batch.items()}, draw)

    def _fill_row(self, places: Mapping[str, NDArray], draw: Draw) -> None:
        seed, position = self.format.seed, draw.position
        rng = np.random.default_rng((seed, position))
        limit = MAX_REPLACEMENTS if self.replaces else 0
        others = Replacements(len(self), seed=seed, position=position, limit=limit)
        mix = self.mixup.draw(len(self), seed=seed, position=position) if self.mixup else None
        frames = places.get("frames")
        clip = self._decode(draw.index, rng, frames, others, needs_waveform=mix is not None)
        if self.mixup and mix:
            clip = self._mix(self.mixup, clip, mix, frames, others)
        places["index"][...] = clip.number
        places["targets"][...] = clip.targets_C
        self.format.fit_logmel(places["logmel"], clip.logmel_TM, rng, clip.segments)
        if self.replaces:
            places[DECODE_FAILURES][...] = others.padded()

    def _decode(
        self,
        index: int,
        rng: np.random.Generator,
        frames_FHW3: NDArray | None,
        others: Replacements,
        *,
        needs_waveform: bool,
    ) -> _Clip:
        """Decode a clip, or the first of its replacements that can be."""
        while True:
            try:
                return self._decode_one(index, rng, frames_FHW3, needs_waveform)
            except SampleError as error:
                index = others.next_index(index, error)

    def _decode_one(
        self,
        index: int,
        rng: np.random.Generator,
        frames_FHW3: NDArray | None,
        needs_waveform: bool,
    ) -> _Clip:
        sample = self.shards.samples[index]
        members = self._reader.read(sample)
        if needs_waveform and "flac" not in members:
            raise ManifestError(
                f"{sample.shard}: clip {shown(sample.clip_id)} has no waveform, which "
                "finetune.mixup needs; set shards.waveform: true and run again"
            )
        targets = np.zeros(len(self.shards.class_names), np.float32)
        targets[list(sample.labels)] = 1
        try:
            stored, chosen = None, ()
            if frames_FHW3 is not None:
                names = sorted(name for name in members if name.startswith("frame_"))
                stored = StoredFrames(len(names), partial(_frame_seconds, members))
                chosen = self._choose_frames(sample, stored, rng)
                for place, k in zip(frames_FHW3, chosen, strict=True):
                    image = decode_frame(members[names[k]], self.format.img_size)
                    place[...] = image.permute(1, 2, 0).numpy()
            segments = self.format.choose_segments(stored, chosen, rng)
            logmel = load_array(members["logmel.npy"])
            num_bins = self.shards.num_mel_bins
            if not len(logmel) or logmel.shape[1:] != (num_bins,) or logmel.dtype != STORED_LOGMEL:
                raise ValueError(f"log-mel of shape {logmel.shape}, {logmel.dtype}")
            waveform = _load_waveform(members["flac"]) if needs_waveform else NO_WAVEFORM
        except (MediaError, RuntimeError, ValueError, LookupError) as error:
            what = f"has no member {error}" if isinstance(error, KeyError) else error
            raise SampleError(
                f"{sample.shard}: clip {shown(sample.clip_id)} cannot be decoded: {what}; "
                f"{remedy(sample.shard)}"
            ) from error
        return _Clip(index, logmel, targets, waveform, segments)

    def _choose_frames(
        self, sample: Sample, stored: StoredFrames, rng: np.random.Generator
    ) -> Sequence[int]:
        try:
            return self.format.choose_frames(stored, rng)
        except ManifestError as error:
            raise ManifestError(f"{sample.shard}: sample {sample.key!r}: {error}") from error

    def _mix(
        self,
        mixup: Mixup,
        first: _Clip,
        mix: Mix,
        frames_FHW3: NDArray | None,
        others: Replacements,
    ) -> _Clip:
        """Mix a second clip into the first one and into its frames."""
        added = None if frames_FHW3 is None else np.empty_like(frames_FHW3)
        second = self._decode(mix.second, mix.rng, added, others, needs_waveform=True)
        if frames_FHW3 is not None and added is not None:
            pair = torch.from_numpy(frames_FHW3), torch.from_numpy(added)
            frames_FHW3[...] = mix_frames(pair[0], pair[1], mix.share).numpy()
        return _Clip(
            first.number,
            mixup.mix_logmel(first.waveform_S, second.waveform_S, mix.share),
            mix.share * first.targets_C + (1 - mix.share) * second.targets_C,
            NO_WAVEFORM,
            first.segments,
        )


def as_tensors(arrays: Mapping[str, NDArray]) -> dict[str, Tensor]:
    """Return a batch's arrays as tensors over the same memory, ``frames`` (B, F, 3, H, W)."""
    batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
    if "frames" in batch:
        batch["frames"] = batch["frames"].movedim(-1, -3)
    return batch


def _frame_seconds(members: Members) -> list[float]:
    """Return the moments of a clip's stored frames."""
    return json.loads(bytes(members["json"]))["frame_seconds"]


def _load_waveform(flac: memoryview) -> NDArray:
    """Return the sound (S,) of a .flac member, in [-1, 1).

    Raises:
        ValueError: it holds none.
    """
    # Mixup alone needs it, and the decoder that it brings.
    from pipeline_src.transcode.audio import read_flac, to_float

    waveform_S = to_float(read_flac(bytes(flac)))
    if not len(waveform_S):
        raise ValueError("flac holds no sound")
    return waveform_S
