"""How well hidden patches of held-out clips are predicted, against two constant predictions.

Both are means over the training clips: one mean patch for all places (``mean_patch``), and the mean
at each place (``mean_position``), which already knows where sound and digit usually are.

Shape legend: B batch, T log-mel frames, M mel bins, F video frames.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline_src.config import EvaluateConfig, PretrainConfig
from pipeline_src.evaluate.common import Split, pick_device, save_arrays
from pipeline_src.evaluate.differences import mean_difference
from pipeline_src.evaluate.intervals import bootstrap_means
from pipeline_src.evaluate.predict import run_over
from pipeline_src.loader.batches import Batch, evaluation_batches, to_device
from pipeline_src.loader.dataset import IMAGE_MEAN, IMAGE_STD, ClipDataset
from pipeline_src.methods.common.masking import Mask, draw_noise, mask_from_noise
from pipeline_src.methods.common.network import AudioVisualModel
from pipeline_src.methods.common.pictures import DenoisedPictures
from pipeline_src.modalities import MODALITIES
from pipeline_src.runs.build import restore_model
from pipeline_src.runs.checkpoint import Checkpoint

PREDICTORS = ("model", "mean_patch", "mean_position")
PICTURES = (
    "clip_ids",
    *(f"{m}_{part}" for m in MODALITIES for part in ("input", "masked", "reconstructed")),
)
SAMPLING_STEPS = 50  # of the pictures of a diffusion decoder
NUM_STATES = 6  # of them shown


def evaluate_reconstruction(
    checkpoint: Checkpoint,
    *,
    train: Split,
    test: Split,
    groups: Sequence[str] | None,
    evaluate: EvaluateConfig,
    num_examples: int,
    pictures_path: Path,
) -> dict[str, Any]:
    """Score mean squared error over hidden cells (normalised units) per modality, with intervals.

    Also writes ``num_examples`` inputs, masks and reconstructions to ``pictures_path``. A network
    that predicts no patches, or was fine-tuned, has neither: an empty result, arrays without clips.

    Args:
        groups: of each test clip, its speaker or source; None = each clip by itself.
    """
    device = pick_device()
    model, spec = restore_model(checkpoint)
    if model.config.follows_teacher or not isinstance(spec.recipe, PretrainConfig):
        save_arrays(pictures_path, dict.fromkeys(PICTURES, np.empty(0)))
        return {}
    model = model.to(device)
    # One group of frames, as in pre-training.
    evaluate = evaluate.model_copy(update={"num_frames": spec.recipe.num_frames})
    ratio = spec.recipe.reconstruct_ratio
    means = _mean_clip(train.dataset(checkpoint, evaluate), evaluate, device)
    held_out = test.dataset(checkpoint, evaluate)
    generator = torch.Generator(device).manual_seed(evaluate.seed)
    depth, rows, columns = model.config.video_patch
    blocks = (model.config.audio_patch[::-1], (depth, 3, rows, columns))
    errors = run_over(
        held_out,
        lambda batch: _errors(batch, _reconstruct(model, batch, ratio, generator), means, blocks),
        batch_size=evaluate.batch_size,
        num_workers=evaluate.num_workers,
        device=device,
        label=f"reconstruction of {test}",
    )
    examples = next(evaluation_batches(held_out, batch_size=num_examples, num_workers=0))
    clip_ids = [test.shards.samples[i].clip_id for i in examples["index"].tolist()]
    examples = to_device(examples, device, held_out.format)
    pictures = _pictures(model, examples, ratio, generator)
    save_arrays(pictures_path, {"clip_ids": np.array(clip_ids), **pictures})
    return {
        modality: _figures([errors[f"{modality}_{kind}"] for kind in PREDICTORS], evaluate, groups)
        for modality in MODALITIES
    }


def _figures(
    errors: Sequence[NDArray], evaluate: EvaluateConfig, groups: Sequence[str] | None
) -> dict[str, Any]:
    """Bootstrap the mean error of each predictor, and how far the model's is below the others."""
    options: Any = {"num_resamples": evaluate.num_bootstrap, "seed": evaluate.seed}
    means = bootstrap_means(np.stack(errors, axis=1), **options)
    ours, *others = errors
    below = {
        f"below_{kind}": mean_difference(theirs, ours, **options, groups=groups)
        for kind, theirs in zip(PREDICTORS[1:], others, strict=True)
    }
    return dict(zip(PREDICTORS, means, strict=True)) | below


def _mean_clip(
    dataset: ClipDataset, evaluate: EvaluateConfig, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Average log-mels (T, M) and frames (F, 3, H, W) over a data set."""
    sums: list[Tensor] = []
    with evaluation_batches(
        dataset, batch_size=evaluate.batch_size, num_workers=evaluate.num_workers
    ) as batches:
        for batch in batches:
            moved = to_device(batch, device, dataset.format)
            parts = [moved["logmel"].double().sum(0), moved["frames"].double().sum(0)]
            sums = [a + b for a, b in zip(sums, parts, strict=True)] if sums else parts
    audio, video = ((total / len(dataset)).float() for total in sums)
    return audio, video


def _reconstruct(
    model: AudioVisualModel, batch: Batch, ratio: float, generator: torch.Generator
) -> Any:
    masks = _draw_masks(model, len(batch["logmel"]), ratio, generator)
    return model.reconstruct(batch["logmel"], batch["frames"], *masks)


def _draw_masks(
    model: AudioVisualModel, num_clips: int, ratio: float, generator: torch.Generator
) -> tuple[Mask, Mask]:
    audio, video = (
        mask_from_noise(draw_noise(num_clips, num_tokens, generator), ratio)
        for num_tokens in (model.num_audio_tokens, model.num_video_tokens)
    )
    return audio, video


def _errors(
    batch: Batch,
    filled: Any,
    means: tuple[Tensor, Tensor],
    blocks: tuple[tuple[int, ...], tuple[int, ...]],
) -> dict[str, Tensor]:
    """Average squared errors over each clip's hidden cells: <modality>_<predictor>, (B,) each."""
    errors = {}
    for modality, target, predicted, hidden, mean, block in (
        ("audio", batch["logmel"], filled.audio, filled.audio_is_masked, means[0], blocks[0]),
        ("video", batch["frames"], filled.video, filled.video_is_masked, means[1], blocks[1]),
    ):
        cells = tuple(slice(size) for size in predicted.shape[1:])  # whole patches only
        target, mean = target[(slice(None), *cells)], mean[cells]
        errors[f"{modality}_model"] = _masked_mean((predicted - target).square(), hidden)
        patch = mean_patch(mean, block)
        errors[f"{modality}_mean_patch"] = _masked_mean((patch - target).square(), hidden)
        errors[f"{modality}_mean_position"] = _masked_mean((mean - target).square(), hidden)
    return errors


def mean_patch(mean: Tensor, block: tuple[int, ...]) -> Tensor:
    """Average an array over its blocks and repeat the mean block; shape as ``mean``."""
    pairs = zip(mean.shape, block, strict=True)
    shape = [part for size, side in pairs for part in (size // side, side)]
    blocks = mean.reshape(shape)
    counted = tuple(range(0, len(shape), 2))
    return blocks.mean(counted, keepdim=True).expand(shape).reshape(mean.shape)


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Average each clip's hidden cells, (B,)."""
    weights = mask.float()
    return (values * weights).flatten(1).sum(1) / weights.flatten(1).sum(1)


@torch.no_grad()
def _pictures(
    model: AudioVisualModel, batch: Batch, ratio: float, generator: torch.Generator
) -> dict[str, NDArray]:
    """Draw input, mask, reconstruction: log-mels (B, T, M), middle frames (B, H, W, 3) in [0, 1].

    Of a diffusion decoder also the states of ``_denoised``.
    """
    masks = _draw_masks(model, len(batch["logmel"]), ratio, generator)
    filled = model.reconstruct(batch["logmel"], batch["frames"], *masks)
    states = model.denoise(
        batch["logmel"], batch["frames"], masks, num_steps=SAMPLING_STEPS, generator=generator
    )
    middle = batch["frames"].shape[1] // 2
    return {
        "audio_input": batch["logmel"].cpu().numpy(),
        "audio_masked": filled.audio_is_masked.cpu().numpy(),
        "audio_reconstructed": filled.audio.cpu().numpy(),
        "video_input": _to_pixels(batch["frames"])[:, middle],
        "video_masked": filled.video_is_masked.movedim(2, -1).cpu().numpy()[:, middle],
        "video_reconstructed": _to_pixels(filled.video)[:, middle],
        **(_denoised(states, middle) if states else {}),
    }


def _denoised(states: DenoisedPictures, middle: int) -> dict[str, NDArray]:
    """Pick some states of the sampler, from noise to prediction.

    Args:
        middle: the frame to show.

    Returns:
        denoised_steps (B, S), audio_denoised (B, S, T, M), video_denoised (B, S, H, W, 3): the
        diffusion step of each state, and its log-mel and middle frame.
    """
    last = len(states.steps) - 1
    shown = np.unique(np.linspace(0, last, NUM_STATES).round().astype(int))
    steps = np.array(states.steps)[shown]
    return {
        "denoised_steps": np.repeat(steps[None], len(states.audio), axis=0),
        "audio_denoised": states.audio[:, shown].cpu().numpy(),
        "video_denoised": np.stack([_to_pixels(states.video[:, i])[:, middle] for i in shown], 1),
    }


def _to_pixels(frames_BFCHW: Tensor) -> NDArray:
    """Undo the normalisation: (B, F, H, W, 3) in [0, 1]."""
    mean = torch.tensor(IMAGE_MEAN).view(3, 1, 1)
    std = torch.tensor(IMAGE_STD).view(3, 1, 1)
    return (frames_BFCHW.cpu() * std + mean).clamp(0, 1).movedim(2, -1).numpy()
