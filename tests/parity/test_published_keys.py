"""The key tables of the published classes are the recorded ones."""

import pytest
import torch

from pipeline_src.methods.common.published_keys import published_keys
from pipeline_src.methods.factory import create_model
from tests.parity.seeded import published_shapes

pytestmark = pytest.mark.parity


@pytest.mark.parametrize(
    ("keys_file", "name", "num_classes"),
    [
        ("avsiam_pretrain", "avsiam_base", 0),
        ("avsiam_ft", "avsiam_base", 527),
        ("cavmae_pretrain", "cav_mae_base", 0),
        ("cavmae_ft", "cav_mae_base", 527),
    ],
)
def test_key_table(keys_file, name, num_classes):
    with torch.device("meta"):
        model = create_model(name, variant="released", num_classes=num_classes)
    table = {key.name: key.shape for key in published_keys(name, model)}
    assert table == published_shapes(keys_file)
