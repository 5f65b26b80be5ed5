"""Frames as the network gets them, without the package whose operators make them."""

import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline_src.loader.decode import decode_frame


@pytest.mark.parametrize("size", [(64, 48), (48, 64), (33, 50), (31, 97), (24, 24), (200, 133)])
@pytest.mark.parametrize("side", [24, 32, 49])
def test_frames_of_another_size_are_resized_and_cropped_as_torchvision_does(size, side):
    from torchvision.io import decode_jpeg
    from torchvision.transforms.functional import InterpolationMode, center_crop, resize

    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=95)
    jpeg = stream.getvalue()
    whole = decode_jpeg(torch.frombuffer(bytearray(jpeg), dtype=torch.uint8))
    expected = center_crop(resize(whole, [side], InterpolationMode.BICUBIC, antialias=True), [side])
    assert torch.equal(decode_frame(memoryview(bytearray(jpeg)), side), expected)


@pytest.mark.slow
def test_a_process_that_reads_clips_and_runs_a_network_does_not_load_the_compiler(root):
    """It was half of the time in which `av-pipeline embed` starts."""
    code = (
        "import sys; import pipeline_src.inference.model, pipeline_src.methods.factory as f; "
        "[f.create_model(f'{m}_tiny') for m in ('avsiam', 'cav_mae', 'cav_mae_sync', 'mavil')]; "
        "heavy = {'torch._dynamo', 'torchvision', 'timm', 'sklearn', 'scipy.stats', 'matplotlib'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
