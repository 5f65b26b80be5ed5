"""Recorded cases, and the rules that rebuild the weights and inputs they were computed from.

The cases are all ``*.npz`` of the folder that PARITY_CASES names, by default ``cases`` beside this
file. Everything follows from a file's own salt and sizes and from the published key names.
"""

import os
import re
import zlib
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

OWN_CASES = Path(__file__).parent / "cases"
ATOL = {"feature": 1e-4, "loss": 1e-5, "gradient": 1e-3}
LENGTH, NUM_MEL_BINS, SIDE = 1024, 128, 224
HEAD_KEYS = r"(mlp_head\w*\.1|classifier_head)\.(weight|bias)"


@dataclass(frozen=True)
class Case:
    """One file of recorded numbers."""

    path: Path

    @cached_property
    def arrays(self) -> dict[str, NDArray]:
        """Every array by name."""
        with np.load(self.path, allow_pickle=False) as stored:
            return dict(stored)

    @property
    def salt(self) -> str:
        """What all generators of this file are salted with."""
        return str(self.arrays["meta/salt"])

    def number(self, name: str) -> int:
        """A size that the file states, e.g. ``batch_pretrain``."""
        return int(self.arrays[f"meta/{name}"])

    def names(self, pattern: str) -> list[str]:
        """Names of arrays that match a pattern, in order."""
        return sorted(name for name in self.arrays if re.fullmatch(pattern, name))

    def rng(self, tag: str) -> np.random.RandomState:
        """The generator of a tag."""
        return seeded(self.salt, tag)

    def logmel(self, num_clips: int) -> torch.Tensor:
        """Audio of a batch (B, T, M)."""
        values = self.rng(f"audio{num_clips}").standard_normal((num_clips, LENGTH, NUM_MEL_BINS))
        return torch.from_numpy((values * 0.5).astype(np.float32))

    def frames(self, num_clips: int, num_frames: int = 1) -> torch.Tensor:
        """Frames of a batch (B, F, 3, H, W)."""
        shape = (num_clips, num_frames, 3, SIDE, SIDE)
        values = self.rng(f"video{num_clips}x{num_frames}").standard_normal(shape)
        return torch.from_numpy(values.astype(np.float32))

    def published(self, keys_file: str, num_classes: int = 0) -> dict[str, torch.Tensor]:
        """The state dict of a published class, heads cut to ``num_classes``."""
        state = {}
        for key, shape in published_shapes(keys_file).items():
            if num_classes and re.fullmatch(HEAD_KEYS, key):
                shape = (num_classes, *shape[1:])
            # The blocks' second name comes later in the state dict and overwrites the first.
            tag = re.sub(r"^vit_base\.blocks\.", "my_blocks.", key)
            state[key] = seeded_weight(self.salt, tag, shape)
        return state


def seeded(salt: str, tag: str) -> np.random.RandomState:
    """The generator of a salted tag."""
    return np.random.RandomState(zlib.crc32((salt + tag).encode()) & 0x7FFFFFFF)


@cache
def seeded_weight(salt: str, key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The value of a published key; norms' weights lie around 1."""
    values = seeded(salt, key).standard_normal(shape).astype(np.float32) * 0.02
    is_norm = len(shape) == 1 and key.endswith("weight")
    return torch.from_numpy(values + 1 if is_norm else values)


@cache
def published_shapes(keys_file: str) -> dict[str, tuple[int, ...]]:
    """Key -> shape as listed in ``keys_<name>.txt``."""
    shapes = {}
    for line in (OWN_CASES / f"keys_{keys_file}.txt").read_text().splitlines():
        if not line.startswith("#"):
            key, _, shape = line.partition("\t")
            shapes[key] = tuple(int(size) for size in re.findall(r"\d+", shape))
    return shapes


def cases_with(name: str) -> list[Case]:
    """The files that hold an array of this name."""
    folder = Path(os.environ.get("PARITY_CASES", OWN_CASES))
    found = [Case(path) for path in sorted(folder.glob("*.npz"))]
    if not found:
        raise FileNotFoundError(f"PARITY_CASES: {folder} holds no .npz file")
    return [case for case in found if name in case.arrays]


def assert_close(
    ours: torch.Tensor | float, recorded: NDArray, kind: str, atol: float | None = None
) -> None:
    """Compare within the tolerance of features and logits, losses, or gradient norms."""
    ours = torch.as_tensor(ours).detach().double()
    recorded_tensor = torch.as_tensor(np.asarray(recorded, np.float64))
    atol = ATOL[kind] if atol is None else atol
    torch.testing.assert_close(ours, recorded_tensor, rtol=ATOL[kind], atol=atol)
