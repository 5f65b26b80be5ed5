"""Structured masks with two clips in a chunk, which the recorded file does not have.

The file is written here by the rules of the recorded ones (``seeded.py``).
"""

import numpy as np
import pytest

from pipeline_src.methods.common.masking import num_kept
from tests.parity import test_avsiam
from tests.parity.seeded import Case, seeded
from tests.parity.steps import MARK, check_draws

SALT, NUM_CHUNKS, PER_CHUNK = "two in a chunk", 3, 2
TIME, FREQUENCY, VIDEO = 64, 8, 196

pytestmark = pytest.mark.parity


class Recorder:
    """The draws of a pass and the masks that come of them, by the names of a recorded file."""

    def __init__(self):
        self.arrays = {"meta/salt": np.array(SALT)}
        self.number = 0

    def draw(self, kind, make):
        """What ``make`` draws from the generator of the next number."""
        values = make(seeded(SALT, f"{kind}{self.number}"))
        self.arrays[f"contrast/draw{self.number:03d}_{kind}"] = values
        self.number += 1
        return values

    def noise(self, size):
        """Noise of a chunk, (clips, tokens)."""
        shape = (PER_CHUNK, size)
        return self.draw("rand", lambda rng: rng.random_sample(shape).astype(np.float32))

    def sample(self, size, ratio):
        """Places that a clip loses on one axis."""
        return self.draw("sample", lambda rng: rng.permutation(size)[: int(size * ratio)])

    def mask(self, function, chunk, noise, ratio):
        """The mask that hides the tokens of the largest noise."""
        restore = noise.argsort(1, kind="stable").argsort(1)
        name = f"contrast/mask_{function}_{chunk}"
        self.arrays[f"{name}_restore"] = restore
        self.arrays[f"{name}_mask"] = restore >= num_kept(noise.shape[1], ratio)


def write_case(path, *, by_clip):
    """``by_clip``: the samples of one clip after those of the other, not as released."""
    recorder = Recorder()
    for _ in range(2):
        recorder.draw("perm", lambda rng: rng.permutation(NUM_CHUNKS * PER_CHUNK))
    for chunk, ratio in zip(range(NUM_CHUNKS), test_avsiam.RATIOS, strict=False):
        noise = recorder.noise(TIME * FREQUENCY)
        axes = [TIME, FREQUENCY] * PER_CHUNK if by_clip else [TIME] * 2 + [FREQUENCY] * 2
        lost = [recorder.sample(size, ratio) for size in axes]
        times, frequencies = (lost[::2], lost[1::2]) if by_clip else (lost[:2], lost[2:])
        grids = noise.reshape(PER_CHUNK, FREQUENCY, TIME)  # a view: the record is overwritten
        for grid, columns, rows in zip(grids, times, frequencies, strict=True):
            grid[:, columns] = MARK
            grid[rows] = MARK
        recorder.mask("random_masking_structured", chunk, noise, ratio)
        recorder.mask("random_masking_unstructured", chunk, recorder.noise(VIDEO), ratio)
    np.savez(path, **recorder.arrays)
    return Case(path)


def test_time_samples_of_all_clips_come_before_their_frequency_samples(tmp_path):
    case = write_case(tmp_path / "case.npz", by_clip=False)
    check_draws(case, "contrast")
    plan = test_avsiam.contrast_plan(case)
    assert [len(chunk.clip_ids) for chunk in plan.audio_chunks] == [PER_CHUNK] * NUM_CHUNKS
    test_avsiam.test_contrast_masks_follow_from_the_draws(case)


def test_samples_clip_by_clip_are_another_order(tmp_path):
    case = write_case(tmp_path / "case.npz", by_clip=True)
    with pytest.raises((AssertionError, IndexError)):
        test_avsiam.test_contrast_masks_follow_from_the_draws(case)
