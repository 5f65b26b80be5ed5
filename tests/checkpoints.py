"""Small checkpoints, as converted weights leave them: of no use, but complete. Clips for them."""

from pathlib import Path

import torch

from pipeline_src.config.data import AudioConfig, MediaConfig
from pipeline_src.methods.common.key_report import KeyReport
from pipeline_src.methods.factory import create_model
from pipeline_src.runs.imported import Classes, Origin, write_imported
from tests.media import make_clip, make_shards
from tests.networks import WIDTHS

SIZES = {"img_size": 32, "patch_size": 16, "num_mel_bins": 32, "target_length": 96, **WIDTHS}
NAMES = ("zero", "one", "two")


def make_checkpoint(
    folder: Path, *, classes: tuple[str, ...] = NAMES, name: str = "avsiam_tiny", **sizes: int
) -> Path:
    """Write the folder of a training with random weights; without ``classes`` of a pre-training."""
    torch.manual_seed(0)
    overrides = {**SIZES, **sizes}
    model = create_model(name, num_classes=len(classes), **overrides)
    origin = Origin(folder / "weights.pth", "0" * 64, -5.081, 4.4849)
    write_imported(
        folder,
        model,
        KeyReport(),
        name=name,
        overrides=overrides,
        classes=Classes(classes),
        origin=origin,
    )
    return folder


def make_split(folder: Path, split: str) -> Path:
    """Pack two clips of class 0 and 1 as ``make_checkpoint``'s networks take them; their index."""
    clips = []
    for label in (0, 1):
        tone = (0.1 + 0.4 * label, 0.5 + 0.4 * label)
        make_clip(folder / f"{split}{label}.mp4", seconds=1.2, tone=tone, is_static=label == 1)
        clips.append({"source": f"{split}{label}.mp4", "labels": str(label)})
    audio = AudioConfig(num_mel_bins=SIZES["num_mel_bins"])
    media = MediaConfig(frame_size=SIZES["img_size"])
    return make_shards(folder, clips, audio, num_classes=2, media=media, split=split)
