"""The constant predictions that a reconstruction has to beat."""

import torch

from pipeline_src.evaluate.reconstruction import mean_patch


def test_the_mean_patch_is_one_block_repeated():
    mean = torch.arange(24, dtype=torch.float32).view(4, 6)
    tiled = mean_patch(mean, (2, 3))
    expected = torch.stack([mean[:2, :3], mean[:2, 3:], mean[2:, :3], mean[2:, 3:]]).mean(0)
    assert torch.equal(tiled, expected.repeat(2, 2))


def test_a_block_of_the_whole_array_is_the_array():
    mean = torch.rand(3, 4)
    assert torch.equal(mean_patch(mean, (3, 4)), mean)
