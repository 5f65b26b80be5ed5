"""Training steps of pre-trainings, timed in turn in one process; for the other benchmarks.

The steps are those of the training loop, on random clips that are already in memory.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from statistics import mean
from typing import Any, NamedTuple

import torch

from benchmarks.variants import NUM_MEL_BINS
from pipeline_src.config import ModelConfig, PretrainConfig, plan_phases, pretrain_network
from pipeline_src.config.phases import Phase
from pipeline_src.methods.common.contrast import sample_negatives
from pipeline_src.runs.build import build_model
from pipeline_src.train.optim import build_optimizers
from pipeline_src.train.parallel import clip_gradients, compile_blocks
from pipeline_src.train.precision import pick_precision
from pipeline_src.train.task import make_task


@dataclass
class Trainer:
    """One variant that takes training steps on random clips, as the training loop does."""

    model: ModelConfig
    recipe: PretrainConfig
    device: torch.device

    def __post_init__(self) -> None:
        task, recipe = make_task(self.model, self.recipe), self.recipe
        self.phases = plan_phases(pretrain_network(self.model, recipe, NUM_MEL_BINS), recipe)
        with self.device:  # a GPU draws initial weights in no time
            network = build_model(
                self.model,
                num_classes=0,
                num_mel_bins=NUM_MEL_BINS,
                num_frames=recipe.num_frames,
                seed=0,
            ).to(self.device)
        self.objective = task.objective(network, "multiclass")
        network.set_grad_checkpointing(recipe.activation_checkpointing)
        if recipe.compile:
            compile_blocks(network)
        self.optimizers = self.make_optimizers()
        self.generator = torch.Generator(self.device).manual_seed(0)
        self.is_mixed = pick_precision(recipe.amp, self.device).is_mixed

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """New ones over the network's parameters as they are now, one per pass."""
        network, task = self.objective.model, make_task(self.model, self.recipe)
        return build_optimizers(
            self.recipe,
            network.named_parameters(),
            self.objective.passes,
            partial(task.lr_factor, network),
        )

    def state_bytes(self) -> int:
        """Weights and moments; gradients live inside a step."""
        moments = [
            value
            for optimizer in self.optimizers.values()
            for state in optimizer.state.values()
            for value in state.values()
        ]
        tensors = [*self.objective.parameters(), *moments]
        return sum(t.numel() * t.element_size() for t in tensors)

    def step(self, phase: Phase, batch: dict[str, torch.Tensor]) -> None:
        """Masks, forward, backward, clipping and optimiser."""
        recipe = self.recipe
        assert phase.ratios is not None
        negatives = sample_negatives(phase.batch_size, recipe.batch_size, self.generator)
        plan = self.objective.draw(
            phase.batch_size, phase.ratios, self.generator, self.device, negatives
        )
        for step_pass, optimizer in self.optimizers.items():
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.is_mixed):
                loss = self.loss(batch, plan, step_pass)
            loss.backward()
            clip_gradients(self.objective.parameters(), recipe.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def loss(self, batch: dict[str, torch.Tensor], plan: Any, step_pass: str) -> torch.Tensor:
        """Of a pass, 0-d."""
        return self.objective(batch, plan, step_pass)["loss"]


class Taken(NamedTuple):
    """Of a round: seconds per clip by two clocks, the mean over a schedule; peak bytes."""

    wall: float
    cpu: float
    peak: float


def timed_round(trainers: dict[str, Trainer], num_frames: int) -> dict[str, Taken]:
    """Take the steps of every variant in turn."""
    taken: dict[str, list[Taken]] = {name: [] for name in trainers}
    for name, phase in in_turn(trainers):
        taken[name].append(timed_step(trainers[name], phase, num_frames))
    return {
        name: Taken(
            mean(t.wall for t in all_), mean(t.cpu for t in all_), max(t.peak for t in all_)
        )
        for name, all_ in taken.items()
    }


def timed_step(trainer: Trainer, phase: Phase, num_frames: int) -> Taken:
    """One step on new clips; on a GPU its peak memory, the other variants' weights left out."""
    on_gpu, num_clips = trainer.device.type == "cuda", phase.batch_size
    batch = random_batch(num_clips, num_frames, trainer.device, trainer.model)
    inputs = sum(t.numel() * t.element_size() for t in batch.values())
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated() if on_gpu else 0
    wall, cpu = time.perf_counter(), time.process_time()
    trainer.step(phase, batch)
    if on_gpu:
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    added = torch.cuda.max_memory_allocated() - held if on_gpu else 0
    return Taken(wall / num_clips, cpu / num_clips, trainer.state_bytes() + inputs + added)


def in_turn(trainers: dict[str, Trainer]) -> Iterator[tuple[str, Phase]]:
    """One step of every variant, then the next; those with one epoch take theirs each time."""
    for place in range(max(len(trainer.phases) for trainer in trainers.values())):
        for name, trainer in trainers.items():
            yield name, trainer.phases[place % len(trainer.phases)]


def random_batch(
    num_clips: int, num_frames: int, device: torch.device, model: ModelConfig
) -> dict[str, torch.Tensor]:
    """Clips of the size that the network sees."""
    side = model.img_size
    return {
        "logmel": torch.randn(num_clips, model.target_length, NUM_MEL_BINS, device=device),
        "frames": torch.randn(num_clips, num_frames, 3, side, side, device=device),
    }
