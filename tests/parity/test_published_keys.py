"""The key tables of the published classes are the recorded ones."""

import pytest
import torch

from pipeline_src.methods.common.published_keys import published_keys
from pipeline_src.methods.factory import create_model
from tests.parity.seeded import published_shapes

pytestmark = pytest.mark.parity
SEGMENT = {"target_length": 416}


@pytest.mark.parametrize(
    ("keys_file", "name", "num_classes", "overrides"),
    [
        ("avsiam_pretrain", "avsiam_base", 0, {}),
        ("avsiam_ft", "avsiam_base", 527, {}),
        ("cavmae_pretrain", "cav_mae_base", 0, {}),
        ("cavmae_ft", "cav_mae_base", 527, {}),
        ("cav_mae_sync_pretrain", "cav_mae_sync_base", 0, SEGMENT),
        ("cav_mae_sync_ft", "cav_mae_sync_base", 527, SEGMENT),
        ("cav_mae_sync_ft_single", "cav_mae_sync_base", 527, SEGMENT | {"classifier": "single"}),
        ("cav_mae_sync_ft_frame", "cav_mae_sync_base", 527, SEGMENT | {"classifier": "frame"}),
    ],
)
def test_key_table(keys_file, name, num_classes, overrides):
    with torch.device("meta"):
        model = create_model(name, variant="released", num_classes=num_classes, **overrides)
    table = {key.name: key.shape for key in published_keys(name, model)}
    assert table == published_shapes(keys_file)
