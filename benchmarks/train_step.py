"""Time the contrastive training step of AVSiam-Base, packed, against the released order of work.

Both sides take the same network, clips, ratios and optimiser, on the CPU: under bfloat16
autocast, as the recipes train, and in fp32. ``packed`` is the step of this project with
``pretrain.pack_sequences: always``. ``released`` does what the released code does (GenjiB/AVSiam,
src/models/cav_mae_base.py): per block one small forward after another for each group of clips, 10
for 5 ratios and 2 modalities, with torch's fused attention, and masks drawn clip by clip in a
Python loop; ``released_matmul`` takes its other branch, attention as matrix products, which runs
where timm's use_fused_attn() is off. ``dense`` is ours unpacked: one group after the other.
Steps alternate, so that a busy machine slows all alike; with --threads 1 the CPU seconds say most
on a busy one, because no thread waits for another.
Writes benchmarks/results/train_step.json.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipeline_src.config import PretrainConfig  # noqa: E402
from pipeline_src.methods import MaskRatios  # noqa: E402
from pipeline_src.methods.avsiam.network import AVSiam  # noqa: E402
from pipeline_src.methods.common.blocks import NORM_SUFFIX, Block  # noqa: E402
from pipeline_src.methods.common.contrast import contrastive_loss  # noqa: E402
from pipeline_src.methods.common.masking import gather_tokens, num_kept  # noqa: E402
from pipeline_src.methods.common.objective import Objective  # noqa: E402
from pipeline_src.methods.factory import create_model  # noqa: E402
from pipeline_src.modalities import Modality  # noqa: E402
from pipeline_src.runs.provenance import git_commit  # noqa: E402
from pipeline_src.system.atomic import write_json  # noqa: E402
from pipeline_src.train.memory import keep_freed_memory  # noqa: E402
from pipeline_src.train.objective import pretrain_objective  # noqa: E402

OUTPUT = ROOT / "benchmarks" / "results" / "train_step.json"
GOAL_RATIO = 1.3
TEMPERATURE = 0.05
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def released_mask(
    num_clips: int,
    grid: tuple[int, int],
    ratio: float,
    *,
    marked: bool,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Kept tokens (B, K) with time and frequency marked clip by clip."""
    rows, columns = grid
    noise = torch.rand(num_clips, rows, columns, device=device)
    for clip in range(num_clips if marked else 0):
        for column in torch.randperm(columns)[: int(columns * ratio * 0.7)].tolist():
            noise[clip, :, column] = 1.1
        for row in torch.randperm(rows)[: int(rows * ratio * 0.7)].tolist():
            noise[clip, row, :] = 1.1
    return noise.flatten(1).argsort(dim=1)[:, : num_kept(rows * columns, ratio)]


def matmul_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention written out: what timm computes where torch has no fused kernel."""
    return (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(dim=-1) @ v


def released_block(block: Block, x_BLD: Tensor, modality: Modality, attend: Attend) -> Tensor:
    """A block of the released code: timm's attention around ``attend``, one modality's norms."""
    suffix = NORM_SUFFIX[modality]
    attn = block.attn
    normed = getattr(block, f"norm1{suffix}")(x_BLD)
    qkv = attn.qkv(normed).unflatten(-1, (3, attn.num_heads, attn.head_dim))
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    x_BLD = x_BLD + attn.proj(attend(q, k, v).transpose(1, 2).flatten(2))
    return x_BLD + block.mlp(getattr(block, f"norm2{suffix}")(x_BLD))


def released_loss(
    model: AVSiam, batch: dict[str, Tensor], ratios: tuple[float, ...], attend: Attend
) -> Tensor:
    """The contrastive loss in the released order of work."""
    vit = model.vit_base
    num_clips = len(batch["logmel"])
    sides: tuple[tuple[Modality, Tensor, tuple[int, int]], ...] = (
        ("audio", vit.embed_audio(batch["logmel"]), model.audio_grid),
        ("video", vit.embed_video(batch["frames"]), model.video_grid),
    )
    device = batch["logmel"].device
    orders = {modality: torch.randperm(num_clips, device=device) for modality, _, _ in sides}
    groups: list[tuple[Modality, Tensor]] = []
    for modality, tokens, grid in sides:
        for clips, ratio in zip(orders[modality].chunk(len(ratios)), ratios, strict=True):
            marked = modality == "audio"
            kept = released_mask(len(clips), grid, ratio, marked=marked, device=device)
            groups.append((modality, gather_tokens(tokens[clips], kept)))
    for block in vit.blocks:
        groups = [(m, released_block(block, x, m, attend)) for m, x in groups]  # type: ignore[arg-type]
    norms = {"audio": vit.norm_a, "video": vit.norm}
    pooled = {
        modality: torch.cat([norms[m](x).mean(1) for m, x in groups if m == modality])
        for modality in orders
    }
    audio, video = (pooled[m][orders[m].argsort()] for m in ("audio", "video"))
    return contrastive_loss(audio, video, temperature=TEMPERATURE)["contrast_loss"]


def make_steps(
    model: AVSiam, batch: dict[str, Tensor], ratios: tuple[float, ...]
) -> dict[str, Callable[[], Tensor]]:
    """The loss of a step, masks drawn anew, by way of computing it."""
    generator = torch.Generator().manual_seed(0)
    num_clips = len(batch["logmel"])
    masked = MaskRatios(0.75, 0.75, ratios)

    def ours(objective: Objective) -> Tensor:
        return objective(batch, objective.draw(num_clips, masked, generator), "contrast")["loss"]

    packed, dense = (
        pretrain_objective("avsiam", model, PretrainConfig(pack_sequences=how))
        for how in ("always", "never")
    )
    return {
        "released": lambda: released_loss(model, batch, ratios, F.scaled_dot_product_attention),
        "released_matmul": lambda: released_loss(model, batch, ratios, matmul_attention),
        "dense": lambda: ours(dense),
        "packed": lambda: ours(packed),
    }


def timed_step(
    loss_of: Callable[[], Tensor], optimizer: torch.optim.Optimizer, *, amp: bool
) -> dict[str, float]:
    """Wall and CPU seconds of one step: masks, forward, backward, optimiser."""
    started, cpu_started = time.perf_counter(), time.process_time()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=amp):
        loss = loss_of()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return {
        "wall": round(time.perf_counter() - started, 3),
        "cpu": round(time.process_time() - cpu_started, 3),
    }


def measure(batch_size: int, repeats: int, *, amp: bool) -> dict[str, list[dict[str, float]]]:
    """Seconds of every step; the first round warms up and is left out."""
    torch.manual_seed(0)
    model = create_model("avsiam_base")
    assert isinstance(model, AVSiam)
    batch = {
        "logmel": torch.randn(batch_size, 1024, 128),
        "frames": torch.randn(batch_size, 1, 3, 224, 224),
    }
    steps = make_steps(model, batch, (0.0, 0.125, 0.25, 0.375, 0.5))
    optimizer = torch.optim.AdamW(model.vit_base.parameters(), lr=1e-6, fused=True)
    seconds: dict[str, list[dict[str, float]]] = {name: [] for name in steps}
    for turn in range(repeats + 1):
        for name, loss_of in steps.items():
            taken = timed_step(loss_of, optimizer, amp=amp)
            if turn:
                seconds[name].append(taken)
    return seconds


def summary(seconds: dict[str, list[dict[str, float]]]) -> dict[str, object]:
    """Every step's seconds by clock, and how many times longer the released order takes."""
    clocks = {
        clock: {name: [step[clock] for step in steps] for name, steps in seconds.items()}
        for clock in ("wall", "cpu")
    }
    ratios = {
        f"{reference}_over_{name}_{clock}": round(median(taken[reference]) / median(taken[name]), 2)
        for clock, taken in clocks.items()
        for reference in ("released", "released_matmul")
        for name in ("dense", "packed")
    }
    return {"seconds": clocks, "ratios_of_medians": ratios}


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--precision", nargs="+", choices=("bfloat16", "float32"), default=["bfloat16", "float32"]
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--shared", action="store_true", help="note that others used the machine")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()  # as a training does; the references are no slower for it
    load = os.getloadavg()
    measured = {
        precision: summary(
            measure(arguments.batch_size, arguments.repeats, amp=precision == "bfloat16")
        )
        for precision in arguments.precision
    }
    result = {
        "machine": platform.processor() or platform.machine(),
        "num_cores": os.cpu_count(),
        "num_threads": torch.get_num_threads(),
        "load_average_before": [round(value, 2) for value in load],
        "machine_was_shared": arguments.shared,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "git_commit": git_commit(),
        "model": "avsiam_base",
        "batch_size": arguments.batch_size,
        "precisions": measured,
        "goal_ratio": GOAL_RATIO,
    }
    write_json(arguments.output, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
