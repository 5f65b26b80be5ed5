"""Probes of a pre-training against the untrained network."""

from pathlib import Path

import numpy as np
import pytest

from pipeline_src.config import EvaluateConfig
from pipeline_src.evaluate.common import Split
from pipeline_src.evaluate.pretrained import _probes
from pipeline_src.shards.shard_set import ShardSet

SHARDS = ShardSet([], "multiclass", ("a", "b"), 32, 0.0, 1.0)
SPLIT = Split(SHARDS, {"task": "multiclass"}, Path("index.json"))


@pytest.mark.parametrize("groups", [None, ["ann"] * 40])
def test_clips_of_one_speaker_are_drawn_together(groups):
    """All are of one speaker, so nothing is left to chance; by themselves they are 40 draws."""
    rng = np.random.default_rng(0)
    targets = np.eye(2, dtype=int)[np.arange(40) % 2]

    def outputs(signal):
        noise = rng.standard_normal((40, 2))
        return {name: {"audio": signal * targets + noise, "targets": targets}
                for name in ("train", "test")}  # fmt: skip

    features = {"pretrained": outputs(1.5), "untrained": outputs(0.2)}
    found = _probes(features, SPLIT, EvaluateConfig(num_bootstrap=50, knn=5), groups)
    gain = found["pretrained"]["audio"]["linear"]["over_untrained"]
    assert (gain["low"] == gain["value"] == gain["high"]) == bool(groups)
