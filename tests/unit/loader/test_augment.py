"""Augmentation: off by default, each clip its own draw, nothing invented outside the clip."""

import pytest
import torch

from pipeline_src.config.optim import AugmentConfig
from pipeline_src.loader.augment import augment_batch, mask_spans, shift_logmel, warp_frames


def make_generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make_batch(num_clips=6):
    generator = make_generator(1)
    return {
        "logmel": torch.randn(num_clips, 20, 12, generator=generator),
        "frames": torch.randn(num_clips, 2, 3, 16, 16, generator=generator),
        "targets": torch.eye(num_clips),
    }


ALL_ON = {
    "noise": 0.2,
    "time_shift": 3,
    "freq_shift": 2,
    "gain": 0.5,
    "freq_mask": 4,
    "time_mask": 5,
    "crop_scale": 0.8,
    "image_shift": 0.1,
    "image_rotate": 10.0,
    "flip": True,
}


def test_everything_off_changes_nothing():
    batch = make_batch()
    result = augment_batch(batch, AugmentConfig(), generator=make_generator())
    assert all(torch.equal(result[name], batch[name]) for name in batch)


@pytest.mark.parametrize("name", sorted(ALL_ON))
def test_each_setting_changes_its_own_modality_only(name):
    batch = make_batch()
    config = AugmentConfig.model_validate({name: ALL_ON[name]})
    result = augment_batch(batch, config, generator=make_generator())
    is_image = name in ("crop_scale", "image_shift", "image_rotate", "flip")
    changed, kept = ("frames", "logmel") if is_image else ("logmel", "frames")
    assert not torch.equal(result[changed], batch[changed])
    assert torch.equal(result[kept], batch[kept])
    assert result[changed].shape == batch[changed].shape


def test_the_seed_decides_and_the_input_stays():
    batch, untouched = make_batch(), make_batch()
    first, second, other = (
        augment_batch(batch, AugmentConfig.model_validate(ALL_ON), generator=make_generator(seed))
        for seed in (3, 3, 4)
    )
    for name in ("logmel", "frames"):
        assert torch.equal(first[name], second[name])
        assert not torch.equal(first[name], other[name])
        assert torch.equal(batch[name], untouched[name])


def test_shift_moves_cells_and_repeats_the_edge():
    cells = torch.arange(5.0)[None, :, None].expand(40, 5, 1)
    moved = shift_logmel(cells, 2, 0, generator=make_generator())
    rows = {tuple(row) for row in moved[:, :, 0].int().tolist()}
    assert rows == {
        (0, 1, 2, 3, 4),
        (0, 0, 1, 2, 3),
        (0, 0, 0, 1, 2),
        (1, 2, 3, 4, 4),
        (2, 3, 4, 4, 4),
    }


def test_masks_are_one_span_up_to_the_widest():
    masked = mask_spans(torch.ones(200, 10, 3), 4, generator=make_generator())
    hidden = masked[:, :, 0] == 0
    widths = hidden.sum(1)
    assert set(widths.tolist()) == {0, 1, 2, 3, 4}
    starts = (hidden.int().diff(dim=1, prepend=torch.zeros(200, 1, dtype=torch.int32)) == 1).sum(1)
    assert torch.equal(starts, (widths > 0).int().long())


def test_masks_hold_the_mean_or_what_zero_has_become():
    batch = make_batch()
    masks = AugmentConfig(time_mask=20, freq_mask=12)
    by_fill = {
        fill: augment_batch(
            batch,
            masks.model_copy(update={"mask_fill": fill}),
            generator=make_generator(),
            zero_level=1.133,
        )
        for fill in ("mean", "zero")
    }
    hidden = by_fill["mean"]["logmel"] == 0
    assert hidden.any()
    assert torch.equal(by_fill["zero"]["logmel"] == 1.133, hidden)
    for result in by_fill.values():
        assert torch.equal(result["logmel"][~hidden], batch["logmel"][~hidden])


def test_frames_of_a_clip_are_warped_alike():
    frame = torch.randn(4, 1, 3, 16, 16, generator=make_generator(2))
    warped = warp_frames(
        frame.expand(-1, 3, -1, -1, -1),
        crop_scale=0.7,
        image_shift=0.1,
        image_rotate=20,
        flip=True,
        generator=make_generator(),
    )
    assert torch.equal(warped[:, 0], warped[:, 2])


def test_a_crop_keeps_the_aspect_the_smallest_area_and_the_frame():
    size, scale, num_clips = 64, 0.4, 200
    ramp = (torch.arange(size) + 0.5) / size  # a pixel's value is its place
    frame = torch.stack(torch.meshgrid(ramp, ramp, indexing="ij"))
    cropped = warp_frames(
        frame.expand(num_clips, 1, 2, size, size),
        crop_scale=scale,
        image_shift=0,
        image_rotate=0,
        flip=False,
        generator=make_generator(),
    )[:, 0]
    rows, columns = cropped[:, 0, :, size // 2], cropped[:, 1, size // 2]
    step = torch.stack([places.diff(dim=1).median(1).values for places in (rows, columns)])
    height, width = step * size
    torch.testing.assert_close(height, width)
    area = height * width
    assert scale - 1e-3 <= area.min() < scale + 0.05
    assert 0.95 < area.max() <= 1 + 1e-3
    for places, side in ((rows, height), (columns, width)):
        middle = places.mean(1)  # edge pixels repeated would pull it inwards
        first, last = middle - side / 2, middle + side / 2
        assert first.min() > -0.01
        assert last.max() < 1.01
        free = side < 0.8
        assert (first[free] / (1 - side[free])).std() > 0.2, "always in one place"


def test_flip_mirrors_columns_and_a_constant_stays_constant():
    settings = {"crop_scale": 1.0, "image_shift": 0.0, "image_rotate": 0.0, "flip": True}
    frames = torch.randn(16, 1, 3, 8, 8, generator=make_generator(2))
    flipped = warp_frames(frames, **settings, generator=make_generator())
    is_same = torch.isclose(flipped, frames, atol=1e-4).flatten(1).all(1)
    is_mirror = torch.isclose(flipped, frames.flip(-1), atol=1e-4).flatten(1).all(1)
    assert (is_same | is_mirror).all()
    assert is_same.any()
    assert is_mirror.any()
    constant = torch.full((2, 1, 3, 8, 8), 0.3)
    settings = {"crop_scale": 0.5, "image_shift": 0.3, "image_rotate": 45.0, "flip": False}
    torch.testing.assert_close(
        warp_frames(constant, **settings, generator=make_generator()), constant
    )


def test_a_roll_loses_nothing():
    logmel = torch.arange(2 * 7 * 3, dtype=torch.float32).view(2, 7, 3)
    batch = {"logmel": logmel, "frames": torch.zeros(2, 1, 3, 4, 4)}
    generator = torch.Generator().manual_seed(1)
    rolled = augment_batch(batch, AugmentConfig(time_roll=7), generator=generator)["logmel"]
    assert not torch.equal(rolled, logmel)
    assert torch.equal(rolled.sort(1).values, logmel)
