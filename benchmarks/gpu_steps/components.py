"""Wall clock and memory of DiffMAViL's parts against MAViL, base size, 8 frames."""

from statistics import median

from benchmarks.gpu_steps.agreement import SHAPE
from benchmarks.gpu_steps.networks import QUICK
from benchmarks.gpu_steps.setting import SMALL, Setting
from benchmarks.timed_steps import Trainer, timed_round
from benchmarks.variants import REFERENCE, VARIANTS, closed_form

NUM_FRAMES = 8
BATCH_SIZE = 60  # clips at the highest number of visible tokens
EPOCHS = 3  # ratios of a curriculum that are timed


def measure(setting: Setting, name: str) -> dict[str, float]:
    """Steps of one variant and of MAViL in turn, in bfloat16."""
    frames = 2 if setting.quick else NUM_FRAMES
    reference = make(setting, REFERENCE, frames)
    pair = {REFERENCE: reference, name: make(setting, name, frames)}
    repeats = 1 if setting.quick else 2
    rounds = [timed_round(pair, frames) for _ in range(repeats + 1)][1:]  # the first warms up
    whole, own = ([one[key] for one in rounds] for key in (REFERENCE, name))
    wall = median(taken.wall for taken in own) / median(taken.wall for taken in whole)
    flops = {key: closed_form(one.model, one.recipe) for key, one in pair.items()}
    found = {
        "mavil_seconds_per_clip": median(taken.wall for taken in whole),
        "seconds_per_clip": median(taken.wall for taken in own),
        "wall_over_mavil": wall,
        "wall_saved": 1 - wall,
        "operations_saved": 1 - flops[name] / flops[REFERENCE],
    }
    if setting.on_gpu:
        found["mavil_peak_memory_gb"] = max(taken.peak for taken in whole) / 1e9
        found["peak_memory_gb"] = max(taken.peak for taken in own) / 1e9
    return found


def make(setting: Setting, name: str, num_frames: int) -> Trainer:
    """A variant that takes steps; MAViL stays for the next one."""
    size, batch_size = ("tiny", 4) if setting.quick else ("base", BATCH_SIZE)
    changes = {"epochs": 1 if setting.quick else EPOCHS, "amp": not setting.quick}
    changes |= {"batch_size": batch_size, "batch_multiple": 1}
    model, recipe = VARIANTS[name].sections(num_frames, size, **changes)
    if setting.quick:
        small = {**QUICK, **SHAPE, "overrides": model.overrides | SMALL}
        model = model.model_copy(update=small)  # of whose tokens a ratio of .9 leaves some
    if name == REFERENCE:
        return setting.keep(name, lambda: Trainer(model, recipe, setting.device))
    return Trainer(model, recipe, setting.device)
