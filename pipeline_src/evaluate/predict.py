"""Run a network over a data set: probabilities per head, pooled features.

Shape legend: N clips, C classes, D feature width, G frame groups.
"""

from collections.abc import Callable, Collection

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from pipeline_src.loader.batches import Batch, evaluation_batches, to_device
from pipeline_src.loader.dataset import ClipDataset
from pipeline_src.loader.sampler import rank_slice
from pipeline_src.methods.common.network import AudioVisualModel
from pipeline_src.modalities import HEADS
from pipeline_src.system.progress import ProgressLine

Outputs = dict[str, NDArray]
SINGLE = "single_frame_"  # before the name of what the middle frame group alone gives
SEGMENTS = "_segments"  # after the name of features of aligned segments, each by itself
SET = "_set"  # after the name of several features of a clip that an attentive probe reads
CONTRASTED = "_contrasted"  # after the name of features as the contrastive loss compares them


@torch.no_grad()
def run_over(
    dataset: ClipDataset,
    step: Callable[[Batch], dict[str, Tensor]],
    *,
    batch_size: int,
    device: torch.device,
    num_workers: int,
    rank: int = 0,
    world_size: int = 1,
    label: str = "",
) -> Outputs:
    """Apply ``step`` to every clip of this rank once; concatenated outputs in clip order.

    ``targets`` (N, C) and ``index`` (N,) are added. Every rank calls ``step`` equally often, since
    ranks that share a network gather its parts together; N may be 0 on some.

    Args:
        label: of the line that says how far it is; empty = none.
    """
    parts: dict[str, list[NDArray]] = {}
    share = {"rank": rank, "world_size": world_size}
    progress = ProgressLine(label, len(dataset)) if label else None
    with evaluation_batches(
        dataset, batch_size=batch_size, num_workers=num_workers, pads=True, **share
    ) as batches:
        for batch in batches:
            if progress:
                progress.update(len(batch["index"]))
            kept = {"targets": batch["targets"], "index": batch["index"]}
            for name, value in {**step(to_device(batch, device, dataset.format)), **kept}.items():
                parts.setdefault(name, []).append(value.float().cpu().numpy())
    if progress:
        progress.close()
    num_own = len(rank_slice(len(dataset), **share))
    outputs = {name: np.concatenate(values)[:num_own] for name, values in parts.items()}
    outputs["index"] = outputs["index"].astype(np.int64)
    return outputs


def head_probabilities(
    model: AudioVisualModel, batch: Batch, *, task: str, heads: Collection[str] = HEADS
) -> dict[str, Tensor]:
    """Score with each of ``heads`` (N, C): sigmoid or softmax by task, then the mean over frames.

    Where there are several frame groups, ``single_frame_video`` and ``single_frame_audio_video``
    (N, C) are those of the middle one: frame 5 of 10, CAV-MAE's single-frame figure.
    """
    logits = head_logits(model, batch, heads)
    squash = torch.sigmoid if task == "multilabel" else _softmax
    scores = {head: squash(value.float()) for head, value in logits.items()}  # (N, G, C) each
    single = {SINGLE + head: _middle(value) for head, value in scores.items() if value.shape[1] > 1}
    return {head: value.mean(1) for head, value in scores.items()} | single


def pooled_features(
    model: AudioVisualModel, batch: Batch, *, with_sets: bool = False
) -> dict[str, Tensor]:
    """Pool audio, and video if any, (N, D): the mean over all tokens of each encoder pass.

    Where there are several frame groups, ``single_frame_video`` (N, D) is that of the middle one,
    which published retrieval uses. Where the contrastive loss compares projections of these, they
    have ``_contrasted`` after their name. Where every frame group has its segment of sound, the
    contrasted features of each are ``audio_segments`` and ``video_segments`` (N, G, D).

    Args:
        with_sets: adds what an attentive probe reads, ``audio_set`` and ``video_set`` (N, S, D).
    """
    sets = model.embed_sets(batch["logmel"], batch.get("frames")) if with_sets else {}
    if batch["logmel"].ndim == 4 or not model.pools_tokens:
        pooled = _pooled_segments(model, batch)
    else:
        pooled = _pooled_clips(model, batch)
    return pooled | {name + SET: value for name, value in sets.items()}


def _pooled_segments(model: AudioVisualModel, batch: Batch) -> dict[str, Tensor]:
    """Pool aligned segments, or the output of networks that pool in their own way; (N, D) each."""
    audio = batch["logmel"] if batch["logmel"].ndim == 4 else batch["logmel"][:, None]
    segments = model.embed_segments(audio, batch.get("frames"))
    pooled = {name: value.mean(1) for name, value in segments.items()}
    contrasted = model.project_for_contrast(pooled)
    pooled |= {name + CONTRASTED: value for name, value in contrasted.items()}
    if "video" not in segments or segments["video"].shape[1] == 1:
        return pooled
    projected = segments | model.project_for_contrast(segments)
    if audio.shape[1] > 1:
        return pooled | {name + SEGMENTS: value for name, value in projected.items()}
    return pooled | {SINGLE + "video": _middle(segments["video"])}


def _pooled_clips(model: AudioVisualModel, batch: Batch) -> dict[str, Tensor]:
    """Pool whole clips, (N, D) each."""
    audio_ND = model.embed(audio=batch["logmel"])["audio"]
    if "frames" not in batch:
        return {"audio": audio_ND}
    tokens_NLD = model.encode_video(batch["frames"]).float()
    groups_NGLD = tokens_NLD.unflatten(1, (-1, model.num_video_tokens))
    pooled = {"audio": audio_ND, "video": tokens_NLD.mean(1)}
    contrasted = model.project_for_contrast(pooled)
    if groups_NGLD.shape[1] > 1:
        pooled[SINGLE + "video"] = _middle(groups_NGLD).mean(1)
        for value in model.project_for_contrast({"video": pooled[SINGLE + "video"]}).values():
            contrasted[SINGLE + "video"] = value
    return pooled | {name + CONTRASTED: value for name, value in contrasted.items()}


def _middle(values_NG: Tensor) -> Tensor:
    """Take the middle frame group of (N, G, ...), the later one of two; (N, ...)."""
    return values_NG[:, values_NG.shape[1] // 2]


def quick_accuracy(
    model: AudioVisualModel,
    dataset: ClipDataset,
    *,
    heads: Collection[str] = HEADS,
    batch_size: int,
    device: torch.device,
    num_workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    heartbeat: Callable[[str], None] = lambda what: None,
) -> dict[str, float]:
    """Compute validation's figure: the share of clips whose best class is a label, per head.

    It is taken over all ranks.

    Args:
        heartbeat: told of every batch.
    """
    model.eval()

    def score(batch: Batch) -> dict[str, Tensor]:
        """Return the mean logits (B, C) of each head."""
        heartbeat("a batch of the validation")
        return {k: v.mean(1) for k, v in head_logits(model, batch, heads).items()}

    outputs = run_over(
        dataset,
        score,
        batch_size=batch_size,
        device=device,
        num_workers=num_workers,
        rank=rank,
        world_size=world_size,
    )
    targets = outputs.pop("targets")
    del outputs["index"]
    rows = np.arange(len(targets))
    hits = {head: float(targets[rows, v.argmax(1)].sum()) for head, v in outputs.items()}
    totals = torch.tensor([*hits.values(), float(len(targets))], dtype=torch.float64)
    if world_size > 1:
        totals = totals.to(device, torch.float32)
        dist.all_reduce(totals)
    return {head: float(total / totals[-1]) for head, total in zip(hits, totals, strict=False)}


def head_logits(
    model: AudioVisualModel, batch: Batch, heads: Collection[str] = HEADS
) -> dict[str, Tensor]:
    """Compute logits (N, G, C) of those of ``heads`` that the batch has the inputs of."""
    audio = None if set(heads) == {"video"} else batch["logmel"]
    video = None if set(heads) == {"audio"} else batch.get("frames")
    if audio is not None and audio.ndim == 4:
        return model.score_segments(audio, video, heads)
    return model.forward_heads(audio, video, heads)


def _softmax(logits: Tensor) -> Tensor:
    """Return probabilities of the same shape, the classes being the last axis."""
    return logits.softmax(-1)
