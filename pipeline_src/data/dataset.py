"""Clips of one or several shard sets as arrays.

Shape legend: S audio samples, T log-mel frames, M mel bins, F video frames, H W image side,
C classes.
"""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms.functional import InterpolationMode, resize

from pipeline_src.data.mixup import Mix, Mixup, mix_frames
from pipeline_src.data.sampler import Draw
from pipeline_src.data.windows import window_frames
from pipeline_src.errors import ManifestError, MediaError
from pipeline_src.media.audio import read_flac, to_float
from pipeline_src.shards.read import Sample, ShardSet
from pipeline_src.shards.reader import ShardReader

IMAGE_MEAN = (0.485, 0.456, 0.406)  # ImageNet statistics: CAV-MAE, AVSiam, MAViL
IMAGE_STD = (0.229, 0.224, 0.225)
NO_WAVEFORM = np.zeros(0, np.float32)
Members = dict[str, bytes]


@dataclass(frozen=True)
class ClipFormat:
    """What the model wants to see.

    Args:
        target_length: T; a longer log-mel is cut (at random in training), a shorter one padded
            with 0
            before normalisation (CAV-MAE).
        img_size: H = W; stored frames of another size are resized (bicubic).
        num_frames: F; in training one at random in each of F equal spans, else evenly spread.
        fps: > 0 takes the frames from windows of the clip instead, see ``windows.py``.
        window_frames: frames of one window, a divisor of ``num_frames``; 0 = all of them.
        logmel_mean, logmel_std: normalisation of the log-mel, in its own unit (nats).
        training: random choices, seeded by ``seed`` and the clip's position in the stream.
    """

    target_length: int
    img_size: int
    num_frames: int
    logmel_mean: float
    logmel_std: float
    training: bool
    seed: int = 0
    fps: float = 0.0
    window_frames: int = 0


class _Clip(NamedTuple):
    """One decoded clip, or a mixture of two.

    ``waveform_S`` is empty unless it was asked for; there are no frames where clips have no video.
    """

    logmel_TM: NDArray
    frames_F3HW: Tensor | None
    targets_C: Tensor
    waveform_S: NDArray


class ClipDataset(Dataset[dict[str, Tensor]]):
    """Random access to decoded clips by ``Draw``; a clip that cannot be decoded is an error.

    Each item: ``logmel`` (T, M) float32 normalised, ``frames`` (F, 3, H, W) uint8 unless the clips
    are sound alone, ``targets`` (C,) float32, ``index`` () int64.
    """

    def __init__(
        self, shards: ShardSet, clip_format: ClipFormat, mixup: Mixup | None = None
    ) -> None:
        self.shards = shards
        self.format = clip_format
        self.mixup = mixup
        self._reader = ShardReader()

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, draw: Draw) -> dict[str, Tensor]:
        seed = self.format.seed
        rng = np.random.default_rng((seed, draw.position))
        mixup, mix = self.mixup, None
        if mixup:
            mix = mixup.draw(len(self), seed=seed, position=draw.position)
        clip = self._decode(draw.index, rng, needs_waveform=mix is not None)
        if mixup and mix:
            clip = self._mix(mixup, clip, mix)
        item = {
            "logmel": torch.from_numpy(self._fit_logmel(clip.logmel_TM, rng)),
            "targets": clip.targets_C,
            "index": torch.tensor(draw.index),
        }
        return item if clip.frames_F3HW is None else {**item, "frames": clip.frames_F3HW}

    def _decode(self, index: int, rng: np.random.Generator, *, needs_waveform: bool) -> _Clip:
        sample = self.shards.samples[index]
        members = self._reader.read(sample)
        if needs_waveform and "flac" not in members:
            raise ManifestError(
                f"{sample.shard}: sample {sample.key!r} has no waveform, which finetune.mixup "
                "needs; set shards.waveform: true and run again"
            )
        has_video = "video" in self.shards.modalities
        targets = torch.zeros(len(self.shards.class_names))
        targets[list(sample.labels)] = 1
        try:
            chosen = self._choose_frames(sample, members, rng) if has_video else ()
            frames = [decode_frame(jpeg, self.format.img_size) for jpeg in chosen]
            logmel = load_array(members["logmel.npy"])
            waveform = to_float(read_flac(members["flac"])) if needs_waveform else NO_WAVEFORM
        except (MediaError, RuntimeError, ValueError, LookupError) as error:
            raise ManifestError(
                f"{sample.shard}: sample {sample.key!r} cannot be decoded: {error}; delete the "
                "shard's manifest and run again"
            ) from error
        return _Clip(logmel, torch.stack(frames) if has_video else None, targets, waveform)

    def _mix(self, mixup: Mixup, first: _Clip, mix: Mix) -> _Clip:
        second = self._decode(mix.second, mix.rng, needs_waveform=True)
        frames = None
        if first.frames_F3HW is not None and second.frames_F3HW is not None:
            frames = mix_frames(first.frames_F3HW, second.frames_F3HW, mix.share)
        return _Clip(
            mixup.mix_logmel(first.waveform_S, second.waveform_S, mix.share),
            frames,
            mix.share * first.targets_C + (1 - mix.share) * second.targets_C,
            NO_WAVEFORM,
        )

    def _choose_frames(
        self, sample: Sample, members: Members, rng: np.random.Generator
    ) -> Iterator[bytes]:
        """The JPEG files that the model is to see."""
        names = sorted(name for name in members if name.startswith("frame_"))
        if not self.format.fps:
            return (members[names[i]] for i in self._spread(len(names), rng))
        size = self.format.window_frames or self.format.num_frames
        moments = json.loads(members["json"])["frame_seconds"]
        try:
            chosen = window_frames(
                moments,
                fps=self.format.fps,
                num_frames=size,
                num_windows=self.format.num_frames // size,
                rng=rng if self.format.training else None,
            )
        except ValueError as error:
            raise ManifestError(f"{sample.shard}: sample {sample.key!r}: {error}") from error
        return (members[names[i]] for i in chosen)

    def _spread(self, num_stored: int, rng: np.random.Generator) -> Sequence[int]:
        wanted = self.format.num_frames
        if not self.format.training or wanted > num_stored:
            return even_frames(num_stored, wanted)
        edges = np.arange(wanted + 1) * num_stored // wanted
        return rng.integers(edges[:-1], edges[1:]).tolist()

    def _fit_logmel(self, logmel_TM: NDArray, rng: np.random.Generator) -> NDArray:
        length, wanted = len(logmel_TM), self.format.target_length
        first = int(rng.integers(length - wanted + 1)) if length > wanted else 0
        first = first if self.format.training else 0
        kept = logmel_TM[first : first + wanted].astype(np.float32)
        padded = np.pad(kept, ((0, wanted - len(kept)), (0, 0)))
        return (padded - np.float32(self.format.logmel_mean)) / np.float32(self.format.logmel_std)


def even_frames(num_stored: int, wanted: int) -> list[int]:
    """``wanted`` indices spread evenly over [0, num_stored), mid-bin; 1 gives the middle frame."""
    return [int((k + 0.5) * num_stored / wanted) for k in range(wanted)]


def decode_frame(jpeg: bytes, img_size: int) -> Tensor:
    """JPEG -> (3, H, W) uint8 with H = W = img_size."""
    data = torch.frombuffer(bytearray(jpeg), dtype=torch.uint8)
    image = decode_jpeg(data, mode=ImageReadMode.RGB)
    assert isinstance(image, Tensor)  # one JPEG in, one image out
    if image.shape[1:] == (img_size, img_size):
        return image
    return resize(image, [img_size, img_size], InterpolationMode.BICUBIC, antialias=True)


def load_array(npy: bytes) -> NDArray:
    """The array of a .npy member; a pickled one is refused."""
    return np.load(io.BytesIO(npy), allow_pickle=False)
