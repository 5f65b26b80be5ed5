"""Random generators that depend on what they are for, not on what was drawn before."""

import zlib

import torch


def seeded_generator(device: torch.device, *key: int | str) -> torch.Generator:
    """Make a generator on ``device`` that is a function of ``key`` alone."""
    text = "/".join(map(str, key)).encode()
    low, high = zlib.crc32(text), zlib.adler32(text)
    return torch.Generator(device).manual_seed(high << 32 | low)
