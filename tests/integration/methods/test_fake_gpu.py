"""Forward passes of training, validation and evaluation on a GPU that is not there.

Tensors have shapes and a device but no values: one that was made on the wrong device, or a value
that the host asks for, is an error, as on a real GPU it is an error or a wait. Backward passes and
autocast need the device itself; test_host_sync.py takes whole steps on the host's.
"""

import pytest
import torch
from torch import nn
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.overrides import TorchFunctionMode

from pipeline_src.evaluate.predict import head_logits, head_probabilities, pooled_features
from pipeline_src.evaluate.reconstruction import _errors, _reconstruct
from pipeline_src.loader.augment import augment_batch
from pipeline_src.loader.batches import to_device
from pipeline_src.loader.clip_format import ClipFormat
from pipeline_src.methods import METHODS
from pipeline_src.methods.common.contrast import sample_negatives
from pipeline_src.methods.factory import create_model
from pipeline_src.methods.mavil import view_draw as views
from tests.integration.train.test_host_sync import AUGMENT, OBJECTIVES, SHAPE
from tests.networks import ratios_of

pytestmark = pytest.mark.slow

GPU = torch.device("cuda", 0)
NUM_CLIPS = 6
# Torch computes the shape of a warped picture with an index of its own, which asks the driver.
UNWARPED = {"crop_scale": 1.0, "image_shift": 0.0, "image_rotate": 0.0, "flip": False}


class FakeGenerator(torch.Generator):
    """A generator of the host that says it is the GPU's; fake tensors draw nothing from it."""

    device = property(lambda self: GPU)


def _split(tensor, key):
    """All of an index but its tensors applied as views; the tensors by dimension."""
    keys = key if isinstance(key, tuple) else (key,)
    num_taken = sum(one is not None and one is not Ellipsis for one in keys)
    whole = (slice(None),) * (tensor.dim() - num_taken)
    at = next((i for i, one in enumerate(keys) if one is Ellipsis), None)
    keys = keys if at is None else (*keys[:at], *whole, *keys[at + 1 :])
    indices = []
    for one in keys:
        if isinstance(one, int):
            tensor = tensor.select(len(indices), one)
            continue
        if one is None:
            tensor = tensor.unsqueeze(len(indices))
        elif isinstance(one, slice):
            ends = (one.start, one.stop, one.step or 1)
            tensor = torch.ops.aten.slice(tensor, len(indices), *ends)
        indices.append(one if isinstance(one, torch.Tensor) else None)
    return tensor, indices


class Indexing(TorchFunctionMode):
    """Indexing and ``~`` in Python's way ask the driver for the device first; here they do not."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.__getitem__:
            tensor, indices = _split(*args)
            return (
                torch.ops.aten.index(tensor, indices)
                if any(one is not None for one in indices)
                else tensor
            )
        if func is torch.Tensor.__setitem__:
            tensor, indices = _split(*args[:2])
            value = torch.as_tensor(args[2], dtype=tensor.dtype)
            if any(one is not None for one in indices):
                return torch.ops.aten.index_put_(tensor, indices, value.to(tensor.device))
            return tensor.copy_(value)
        if func is torch.Tensor.__invert__:
            return torch.ops.aten.bitwise_not(*args)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def gpu(monkeypatch):
    """A fake mode in which torch believes in a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(views, "_fork", lambda generator, purpose: FakeGenerator())
    monkeypatch.setattr(fake_tensor, "init_gpu_context", lambda _: None)
    with FakeTensorMode(allow_non_fake_inputs=True), Indexing():
        yield


def moved(module):
    """What ``.to(GPU)`` does: parameters and buffers, and nothing else that a module may hold."""
    for part in module.modules():
        for name, value in part._parameters.items():
            if value is not None:
                fake = torch.empty(value.shape, dtype=value.dtype, device=GPU)
                part._parameters[name] = nn.Parameter(fake, requires_grad=value.requires_grad)
        for name, value in part._buffers.items():
            if value is not None:
                part._buffers[name] = torch.empty(value.shape, dtype=value.dtype, device=GPU)
    return module


def stored_batch(num_frames, segments):
    """A batch as the loader gives it, on the host."""
    return {
        "logmel": torch.zeros(NUM_CLIPS, *segments, 96, 64, dtype=torch.float16),
        "frames": torch.zeros(NUM_CLIPS, num_frames, 3, 32, 32, dtype=torch.uint8),
        "targets": torch.zeros(NUM_CLIPS, 4),
        "index": torch.arange(NUM_CLIPS),
    }


def on_gpu(num_frames=1, segments=()):
    """A batch, moved; ``segments``: how many each clip has in place of one log-mel."""
    clip_format = ClipFormat(
        target_length=96, img_size=32, num_frames=num_frames, logmel_mean=0.0, logmel_std=1.0,
        training=True, seed=0,
    )  # fmt: skip
    return to_device(stored_batch(num_frames, segments), GPU, clip_format)


def losses(objective, batch):
    """What a step computes before its backward passes: augmentation, draw, every pass."""
    generator = FakeGenerator()
    batch = augment_batch(batch, AUGMENT.model_copy(update=UNWARPED), generator=generator)
    negatives = sample_negatives(NUM_CLIPS, 4, generator)
    plan = objective.draw(NUM_CLIPS, ratios_of(objective), generator, GPU, negatives)
    found = {}
    for step_pass in objective.passes:
        with torch.no_grad():
            found |= objective(batch, plan, step_pass)
    return found


def network(method, num_classes=0):
    return moved(create_model(f"{method}_tiny", num_classes=num_classes, **SHAPE))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_step_stays_on_the_gpu(gpu, name):
    objective = moved(OBJECTIVES[name]())
    found = losses(objective, on_gpu(objective.model.config.num_frames))
    assert {value.device for value in found.values()} == {GPU}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("heads", [("audio",), ("video",), ("audio", "video", "audio_video")])
@pytest.mark.parametrize("segments", [(), (2,)], ids=["clips", "segments"])
def test_validation_and_scores_stay_on_the_gpu(gpu, method, heads, segments):
    model = network(method, num_classes=4)
    batch = on_gpu(2 * model.config.num_frames, segments)  # two groups of frames
    with torch.no_grad():
        found = head_logits(model, batch, heads)
        found |= head_probabilities(model, batch, task="multiclass", heads=heads)
        found |= pooled_features(model, batch, with_sets=True)
    assert {value.device for value in found.values()} == {GPU}
    assert ("audio_segments" in found) == bool(segments)


@pytest.mark.parametrize("method", METHODS)
def test_reconstruction_stays_on_the_gpu(gpu, method):
    model = network(method)
    num_frames = model.config.num_frames
    batch, generator = on_gpu(num_frames), FakeGenerator()
    with torch.no_grad():
        filled = _reconstruct(model, batch, 0.75, generator)
        means = (torch.zeros(96, 64, device=GPU), torch.zeros(num_frames, 3, 32, 32, device=GPU))
        depth, rows, columns = model.config.video_patch
        blocks = (model.config.audio_patch[::-1], (depth, 3, rows, columns))
        errors = _errors(batch, filled, means, blocks)
    assert {value.device for value in errors.values()} == {GPU}


def test_a_tensor_on_the_host_is_found(gpu):
    objective = moved(OBJECTIVES["cav_mae"]())
    with pytest.raises(RuntimeError, match="device"):
        losses(objective, on_gpu() | {"logmel": torch.zeros(NUM_CLIPS, 96, 64)})


def test_a_read_value_is_found(gpu):
    with pytest.raises(DataDependentOutputException):
        bool(losses(moved(OBJECTIVES["cav_mae"]()), on_gpu())["loss"] > 0)
