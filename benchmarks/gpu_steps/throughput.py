"""Clips per second, peak memory and utilisation of training steps in memory."""

from typing import Any

import torch

from benchmarks.gpu_steps.networks import trainer
from benchmarks.gpu_steps.setting import Setting
from benchmarks.timed_steps import Trainer, random_batch

MARGIN = 0.95
UNIT = 32


Run = tuple[str, str]  # a network and the way it is carried out


def measure(setting: Setting, name: str, way: str, beside: Run | None = None) -> dict[str, Any]:
    """Figures of one network at the published batch size, or at the first half of it that fits.

    Args:
        beside: what it is compared with, measured before. Both have the same batch size: this one
            takes no larger one, and where it takes a smaller one, ``beside`` is measured again and
            stands among the figures.
    """
    if beside is None:
        return fitting(setting, name, way, setting.batch_size)
    other = setting.record.result("steps " + ", ".join(beside))
    most = other.get("batch_size", setting.batch_size)
    found = fitting(setting, name, way, most)
    if other and found["batch_size"] < most:
        return {**found, "beside": fitting(setting, *beside, int(found["batch_size"]))}
    return found


def fitting(setting: Setting, name: str, way: str, batch_size: int) -> dict[str, float]:
    """Figures at a batch size, or at the first half of it that fits."""
    one = trainer(setting, name, way)
    while True:
        try:
            return timed(setting, name, one, batch_size, setting.repeats)
        except torch.OutOfMemoryError:
            batch_size //= 2
            if not batch_size:
                raise
        _forget(one)


def timed(
    setting: Setting, name: str, one: Trainer, batch_size: int, repeats: int
) -> dict[str, float]:
    """Figures of steps at a batch size; the peak holds weights and moments, too."""
    phase = one.phases[0]._replace(batch_size=batch_size)
    batch = random_batch(batch_size, one.recipe.num_frames, setting.device, one.model)
    setting.reset_peak()
    seconds = setting.seconds(lambda: one.step(phase, batch), repeats, warm_up=min(3, repeats))
    found = {
        "batch_size": batch_size,
        "seconds_per_step": seconds,
        "clips_per_second": batch_size / seconds,
        "seconds_per_clip": seconds / batch_size,
        "peak_memory_gb": setting.peak_bytes() / 1e9,
    }
    found["teraflops"] = _flops(setting, name) * found["clips_per_second"] / 1e12
    if ceiling := setting.record.result("ceilings").get("bf16_teraflops"):
        found["utilisation"] = found["teraflops"] / ceiling
    return found


def largest(setting: Setting, name: str, way: str) -> dict[str, float]:
    """Figures at the largest batch that fits, extrapolated from two smaller ones."""
    one = trainer(setting, name, way)
    first, second = setting.batch_size, 2 * setting.batch_size
    low, high = (timed(setting, name, one, size, 1)["peak_memory_gb"] for size in (first, second))
    if not setting.on_gpu:
        return timed(setting, name, one, second, 1)
    per_clip = (high - low) / (second - first)
    room = MARGIN * setting.record.header["memory_gb"] - low
    guess = first + int(room / per_clip)
    while True:
        batch_size = max(first, guess // UNIT * UNIT)
        try:
            return timed(setting, name, one, batch_size, 3)
        except torch.OutOfMemoryError:
            if batch_size == first:
                raise
            guess = int(0.9 * batch_size)
        _forget(one)


def _forget(one: Trainer) -> None:
    """Free what a step that ran out of memory has left."""
    for optimizer in one.optimizers.values():
        optimizer.zero_grad(set_to_none=True)
    torch.cuda.empty_cache()


def _flops(setting: Setting, name: str) -> float:
    """Operations per clip; 0 where they could not be counted, which costs no measured figure."""
    try:
        return setting.flops[name].result(timeout=60)
    except Exception as error:
        print(f"{name}: operations not counted: {error!r}")
        return 0.0
