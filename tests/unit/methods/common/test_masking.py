"""Masks: counts, structure, ties, chunks, and that the generator alone decides."""

import numpy as np
import pytest
import torch

from pipeline_src.methods.common.masking import (
    draw_noise,
    gather_tokens,
    mask_from_noise,
    num_kept,
    split_batch,
    structured_noise,
)

GRID = (8, 64)  # the published audio grid: 8 rows of frequency, 64 columns of time


def make_generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("ratio", "audio", "video"),
    [(0.0, 512, 196), (0.125, 448, 171), (0.25, 384, 147), (0.375, 320, 122), (0.5, 256, 98)],
)
def test_kept_counts_are_the_published_ones(ratio, audio, video):
    assert (num_kept(512, ratio), num_kept(196, ratio)) == (audio, video)


# Tokens of MAViL's audio, and of its video of 8 and of 16 frames.
@pytest.mark.parametrize(
    ("ratio", "counts"),
    [
        (0.5, (256, 392, 784)),
        (0.75, (128, 196, 392)),
        (0.8, (102, 156, 313)),
        (0.9, (51, 78, 156)),
        (0.95, (25, 39, 78)),
    ],
)
def test_masks_keep_the_derived_counts(ratio, counts):
    for num_tokens, kept in zip((512, 784, 1568), counts, strict=True):
        mask = mask_from_noise(draw_noise(2, num_tokens, make_generator()), ratio)
        assert (~mask.is_masked_BL).sum(1).tolist() == [kept, kept]
        assert mask.ids_keep.shape == (2, kept)
        assert mask.num_hidden == mask.ids_hidden().shape[1] == num_tokens - kept


@pytest.mark.parametrize(
    ("num_tokens", "ratio", "kept"), [(3, 0.99, 1), (10, 0.8, 1), (100, 0.9, 9), (100, 0.7, 30)]
)
def test_a_count_is_rounded_down_in_double_precision_and_at_least_one(num_tokens, ratio, kept):
    assert num_kept(num_tokens, ratio) == kept


def test_mask_keeps_the_smallest_noise_and_restore_undoes_the_shuffle():
    noise = draw_noise(3, 10, make_generator())
    mask = mask_from_noise(noise, 0.75)
    assert mask.ids_keep.shape == (3, 2)
    assert mask.is_masked_BL.sum(1).tolist() == [8, 8, 8]
    assert not mask.is_masked_BL.gather(1, mask.ids_keep).any()
    shuffled = noise.sort(dim=1).values
    assert torch.equal(shuffled.gather(1, mask.ids_restore), noise)


@pytest.mark.parametrize(
    ("structure", "num_marked"),
    [
        ("unstructured", 0),
        ("time", 16 * 8),  # int(64 * .25) columns
        ("freq", 2 * 64),  # int(8 * .25) rows
        ("time_freq", 11 * 8 + 1 * 64 - 11),  # int(64 * .25 * .7) columns, int(8 * .25 * .7) rows
    ],
)
def test_structured_noise_marks_whole_rows_and_columns(structure, num_marked):
    noise = structured_noise(5, GRID, 0.25, structure=structure, generator=make_generator())
    is_marked = (noise >= 1).view(5, *GRID)
    assert is_marked.sum((1, 2)).tolist() == [num_marked] * 5
    rows, columns = is_marked.all(2, keepdim=True), is_marked.all(1, keepdim=True)
    assert torch.equal(is_marked, rows | columns)
    if num_marked:
        assert len({tuple(clip.flatten().tolist()) for clip in is_marked}) > 1


def test_marked_tokens_that_must_stay_are_taken_by_their_own_noise():
    noise = structured_noise(4, GRID, 0.5, structure="time_freq", generator=make_generator())
    mask = mask_from_noise(noise, 0.5)
    kept_marked = (noise.gather(1, mask.ids_keep) >= 1).sum(1)
    assert kept_marked.tolist() == [4] * 4  # 256 kept, 252 unmarked
    hidden_noise = noise.masked_fill(~mask.is_masked_BL, 2.0)
    assert (noise.gather(1, mask.ids_keep).max(1).values <= hidden_noise.min(1).values).all()


@pytest.mark.parametrize("num_clips", [4, 5, 6, 8, 12, 16])
def test_split_has_the_sizes_of_array_split_and_every_clip_once(num_clips):
    chunks = split_batch(num_clips, 5, make_generator())
    expected = [len(part) for part in np.array_split(np.arange(num_clips), 5)]
    assert [len(chunk) for chunk in chunks] == expected
    assert len(chunks) == 5  # torch.chunk, as released, makes 4, 3 or 4 of most of these
    assert sorted(torch.cat(chunks).tolist()) == list(range(num_clips))


def test_the_generator_alone_decides():
    first = structured_noise(2, GRID, 0.5, structure="time", generator=make_generator(3))
    torch.manual_seed(1)
    second = structured_noise(2, GRID, 0.5, structure="time", generator=make_generator(3))
    assert torch.equal(first, second)


def test_gather_tokens_picks_by_clip():
    x = torch.arange(12.0).view(2, 3, 2)
    picked = gather_tokens(x, torch.tensor([[2], [0]]))
    assert picked.tolist() == [[[4.0, 5.0]], [[6.0, 7.0]]]
