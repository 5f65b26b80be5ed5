"""Both encoders as ONNX files that take log-mels and pictures as they are stored.

Needs the extra ``export`` (onnx, onnxscript, onnxruntime). Each file is run by onnxruntime and
compared with the network before it stays.

Shape legend: B clips, T log-mel frames, M mel bins, F video frames, H W image side, D width.
"""

import importlib
import importlib.util
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pipeline_src.errors import CheckpointError, ConfigError
from pipeline_src.inference.export import ENCODER_FILES
from pipeline_src.inference.model import Model
from pipeline_src.loader.dataset import IMAGE_MEAN, IMAGE_STD
from pipeline_src.system.atomic import atomic_path

RUNTIME = "onnxruntime"
PACKAGES = ("onnx", "onnxscript", RUNTIME)
TOLERANCE = 1e-4
OPSET = 18
NUM_TRIED = (1, 3)  # clips of the batches that are compared


class OnnxAudioEncoder(nn.Module):
    """Log-mels (B, T, M) in nats to pooled features (B, D)."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.network = model.network
        self.mean, self.std = model.format.logmel_mean, model.format.logmel_std

    def forward(self, logmel: Tensor) -> Tensor:
        """Return the features (B, D) of (B, T, M)."""
        return self.network.embed(audio=(logmel - self.mean) / self.std)["audio"]


class OnnxVideoEncoder(nn.Module):
    """Frames (B, F, 3, H, W) of values from 0 to 255 to pooled features (B, D)."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.network = model.network
        for name, values in (("mean", IMAGE_MEAN), ("std", IMAGE_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1) * 255)

    def forward(self, frames: Tensor) -> Tensor:
        """Return the features (B, D) of (B, F, 3, H, W)."""
        return self.network.embed(video=(frames - self.mean) / self.std)["video"]


def export_onnx(model: Model, folder: Path) -> list[Path]:
    """Write audio_encoder.onnx and video_encoder.onnx, as far as the network takes both.

    Raises:
        ConfigError: a package is missing. CheckpointError: onnxruntime gives other vectors.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"--onnx needs {', '.join(missing)}: pip install 'av-pipeline[export]', or leave it out"
        )
    config = model.network.config
    side = config.img_size
    inputs = {
        "audio": (
            OnnxAudioEncoder(model),
            model.format.logmel_shape(config.num_mel_bins),
            "logmel",
        ),
        "video": (OnnxVideoEncoder(model), (model.num_frames, 3, side, side), "frames"),
    }
    written = []
    for modality in model.modalities:
        encoder, shape, name = inputs[modality]
        path = folder / ENCODER_FILES[modality]
        with atomic_path(path) as temporary:
            _write(encoder.eval(), shape, name, temporary)
            _compare(encoder, shape, name, temporary)
        written.append(path)
    return written


@torch.no_grad()
def _write(encoder: nn.Module, shape: tuple[int, ...], name: str, path: Path) -> None:
    torch.onnx.export(
        encoder,
        (torch.rand(2, *shape),),
        path,
        input_names=[name],
        output_names=["embedding"],
        opset_version=OPSET,
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("clips")},),
        external_data=False,
        verbose=False,
    )


@torch.no_grad()
def _compare(encoder: nn.Module, shape: tuple[int, ...], name: str, path: Path) -> None:
    onnxruntime = importlib.import_module(RUNTIME)  # of the extra, which few install
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    for num_clips in NUM_TRIED:
        value = torch.rand(num_clips, *shape, generator=generator)
        value = value * 255 if name == "frames" else value * 10 - 10
        (found,) = session.run(None, {name: value.numpy()})
        difference = float(np.abs(found - encoder(value).numpy()).max())
        if not difference < TOLERANCE:
            raise CheckpointError(
                f"{path}: onnxruntime differs from the network by {difference:.1e}, more than "
                f"{TOLERANCE:.0e}; leave out --onnx"
            )
