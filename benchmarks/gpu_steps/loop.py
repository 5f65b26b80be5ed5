"""The training loop's own step: fed by the loader against alone, what it waits for, where it goes.

Runs ``_take_step`` of the loop, with augmentation, guard and schedule, on AVSiam-B.
"""

import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu_steps.networks import trainer
from benchmarks.gpu_steps.setting import Setting
from benchmarks.gpu_steps.shards import MEAN, STD, make_shards
from benchmarks.timed_steps import Trainer, random_batch
from pipeline_src.config import make_schedule
from pipeline_src.loader.augment import augment_batch
from pipeline_src.loader.batches import to_device, training_batches
from pipeline_src.loader.clip_format import ClipFormat
from pipeline_src.loader.dataset import ClipDataset
from pipeline_src.loader.sampler import EpochSampler
from pipeline_src.system.cores import num_cores
from pipeline_src.train.distributed import Ranks
from pipeline_src.train.learner import Learner
from pipeline_src.train.loop import TrainingRun, _take_step
from pipeline_src.train.progress import TrainProgress

NETWORK = "avsiam_base"
MOST_WORKERS = 12
ROWS = 25
SYNCHRONISES = "synchronizing CUDA operation"
# Parts of kernels' names -> where the time goes.
SORTS = {
    "attention": ("flash", "fmha", "attention", "flex"),
    "products": ("gemm", "nvjet", "cutlass", "xmma", "sgemm", "matmul"),
    "optimiser": ("adam", "multi_tensor", "foreach"),
    "copies": ("memcpy", "memset", "copy"),
    "norms": ("layer_norm", "layernorm", "softmax"),
}


def make_run(one: Trainer) -> TrainingRun:
    """What the loop drives, around a network that is there."""
    augment = one.recipe.augment
    return TrainingRun(
        folder=Path(),
        recipe=one.recipe,
        learner=Learner(one.objective, one.objective, one.optimizers, is_mixed=one.is_mixed),
        augment=lambda batch, generator: augment_batch(batch, augment, generator=generator),
        validate=None,
        validate_every_steps=1,
        describe=lambda indices: [],
        state={},
        ranks=Ranks(0, 1, one.device),
    )


def stepper(one: Trainer, batch_size: int) -> Callable[[dict[str, Tensor]], object]:
    """Takes the loop's next step on a batch."""
    run, phase = make_run(one), one.phases[0]._replace(batch_size=batch_size)
    schedule = make_schedule(10_000, epochs=100, batch_size=batch_size, phases=[phase])
    progress = TrainProgress(0, schedule)

    def take(batch: dict[str, Tensor]) -> None:
        _take_step(run, batch, progress)
        progress.step += 1

    return take


def stored(setting: Setting, one: Trainer, batch_size: int) -> dict[str, Tensor]:
    """A batch that is on the device already."""
    batch = random_batch(batch_size, one.recipe.num_frames, setting.device, one.model)
    return {**batch, "index": torch.arange(batch_size, device=setting.device)}


def fed(setting: Setting) -> dict[str, float]:
    """Steps on batches of the loader, from shards in memory, against steps on one batch."""
    one, size = trainer(setting, NETWORK, "packed"), setting.batch_size
    repeats, drained = (2, 3) if setting.quick else (30, 15)  # the second: what lies ready
    workers = min(MOST_WORKERS, 2 if setting.quick else num_cores())
    take, batch = stepper(one, size), stored(setting, one, size)
    alone = setting.seconds(lambda: take(batch), repeats, warm_up=1 if setting.quick else 3)
    with batches_of(setting, one, workers, 2 * repeats + drained) as batches:
        for _ in range(drained):
            take(next(batches))
        with_loader = setting.seconds(lambda: take(next(batches)), repeats, warm_up=0)
        loading = setting.seconds(lambda: next(batches), repeats // 2, warm_up=1)
    return {
        "num_workers": workers,
        "seconds_alone": alone,
        "seconds_fed": with_loader,
        "fed_over_alone_speed": alone / with_loader,
        "clips_per_second_fed": size / with_loader,
        "clips_per_second_of_the_loader": size / loading,
    }


@contextmanager
def batches_of(
    setting: Setting, one: Trainer, workers: int, num_steps: int
) -> Iterator[Iterator[dict[str, Tensor]]]:
    """Normalised batches on the device, as a training gets them."""
    num_clips, size = (12, 5) if setting.quick else (384, setting.batch_size)
    seen = ClipFormat(
        target_length=one.model.target_length,
        img_size=one.model.img_size,
        num_frames=one.recipe.num_frames,
        logmel_mean=MEAN,
        logmel_std=STD,
        training=True,
    )
    phase = one.phases[0]._replace(batch_size=size)
    epochs = num_steps * size / num_clips
    schedule = make_schedule(num_clips, epochs=epochs, batch_size=size, phases=[phase])
    with tempfile.TemporaryDirectory() as folder:
        shards = make_shards(Path(folder), num_clips)
        with training_batches(
            ClipDataset(shards, seen),
            EpochSampler(len(shards), schedule, 0),
            first_step=0,
            last_step=num_steps,
            num_workers=workers,
            prefetch=1,  # a short measurement has to see the rate at which batches are made
            pin_memory=setting.on_gpu,
        ) as batches:
            yield (to_device(batch, setting.device, seen) for batch in batches)


def waits(setting: Setting) -> dict[str, Any]:
    """How often the host waits for the device within a step, and where in the code."""
    one = trainer(setting, NETWORK, "packed")
    take, batch = stepper(one, setting.batch_size), stored(setting, one, setting.batch_size)
    repeats = 1 if setting.quick else 4
    for _ in range(repeats):  # fills the caches of kernels, layouts and pinned memory
        take(batch)
    setting.wait()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if setting.on_gpu:
            torch.cuda.set_sync_debug_mode("warn")
        try:
            for _ in range(repeats):
                take(batch)
        finally:
            if setting.on_gpu:
                torch.cuda.set_sync_debug_mode("default")
    places = Counter(
        f"{Path(one.filename).name}:{one.lineno}"
        for one in caught
        if SYNCHRONISES in str(one.message)
    )
    return {"per_step": places.total() / repeats, "places": dict(places)}


def where_time_goes(setting: Setting) -> dict[str, Any]:
    """Profile two steps: the device's time by sort and by kernel, and how long it was busy."""
    one = trainer(setting, NETWORK, "packed")
    take, batch = stepper(one, setting.batch_size), stored(setting, one, setting.batch_size)
    wall = setting.seconds(lambda: take(batch), setting.repeats)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if setting.on_gpu else [])]
    num_steps = 1 if setting.quick else 2
    with profile(activities=activities) as profiler:
        for _ in range(num_steps):
            take(batch)
        setting.wait()
    own = "self_device_time_total" if setting.on_gpu else "self_cpu_time_total"
    events = [one for one in profiler.key_averages() if _counts(one, setting)]
    events.sort(key=lambda one: getattr(one, own), reverse=True)
    total = sum(getattr(one, own) for one in events) or 1.0
    sorts: Counter[str] = Counter()
    for event in events:
        sorts[_sort(event.key)] += getattr(event, own) / total
    rows = [
        {"name": one.key[:120], "share": getattr(one, own) / total, "calls": one.count / num_steps}
        for one in events[:ROWS]
    ]
    busy = total / num_steps / 1e6 / wall if setting.on_gpu else 1.0
    return {"seconds_per_step": wall, "busy": busy, "shares": dict(sorts), "rows": rows}


def _counts(event: Any, setting: Setting) -> bool:
    """Kernels on a GPU: operations of the host would count their time a second time."""
    return not setting.on_gpu or event.device_type == torch.autograd.DeviceType.CUDA


def _sort(kernel: str) -> str:
    lowered = kernel.lower()
    return next((k for k, parts in SORTS.items() if any(p in lowered for p in parts)), "others")
