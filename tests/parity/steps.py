"""What the parity tests of both methods do: fill a network, record a pass, compare draws."""

from contextlib import contextmanager

import numpy as np
import torch

from pipeline_src.methods.common.convert import from_published
from pipeline_src.methods.common.masking import mask_from_restore, num_kept
from pipeline_src.methods.factory import create_model
from tests.parity.seeded import assert_close

MARK = np.float32(1.1)  # what the released code overwrites the noise of marked tokens with


def fill(name, case, keys_file, num_classes=0, **overrides):
    """A network with the seeded weights of a published class; nothing unaccounted for."""
    with torch.device("meta"):
        model = create_model(name, variant="released", num_classes=num_classes, **overrides)
    published = case.published(keys_file, num_classes)
    weights, report = from_published(published, name, model, origin="seeded weights")
    assert set(report.mapped) | set(report.unused) == set(published)
    assert not report.missing
    frozen = {key for key, value in model.named_parameters() if not value.requires_grad}
    model.load_state_dict(weights, assign=True)
    for key, value in model.named_parameters():
        value.requires_grad_(key not in frozen)
    return model.eval()


@contextmanager
def recording(model, method, calls):
    """Append what a method of the network returns to ``calls``."""
    original = getattr(model, method)

    def wrapped(*args, **options):
        calls.append(original(*args, **options))
        return calls[-1]

    setattr(model, method, wrapped)
    try:
        yield
    finally:
        delattr(model, method)


def gradient_norms(model, table):
    """L2 norm of every gradient by published name, nan where there is none."""
    parameters = dict(model.named_parameters())
    gradients = {key.name: parameters[key.ours].grad if key.ours else None for key in table}
    return {
        name: float("nan") if gradient is None else gradient.norm().item()
        for name, gradient in gradients.items()
    }


def check_gradients(case, head, norms, atol=None):
    """The same parameters get gradients, of the recorded norms."""
    names = case.names(f"{head}/gradnorm/.*")
    assert names
    for name in names:
        ours, recorded = norms[name.split("/")[-1]], case.arrays[name]
        assert np.isnan(ours) == np.isnan(recorded), name
        if not np.isnan(recorded):
            assert_close(ours, recorded, "gradient", atol)


def recorded_masks(case, head, function):
    """Every mask that a function made in a pass, in call order."""
    masks = []
    for i in range(len(case.names(f"{head}/mask_{function}_\\d+_restore"))):
        name = f"{head}/mask_{function}_{i}"
        hidden = torch.from_numpy(case.arrays[f"{name}_mask"]).bool()
        restore = torch.from_numpy(case.arrays[f"{name}_restore"]).long()
        mask = mask_from_restore(restore, int((~hidden[0]).sum()))
        assert torch.equal(mask.is_masked_BL, hidden)
        masks.append(mask)
    return masks


def draw_rng(case, name):
    """The generator of a recorded draw, and its kind."""
    number, kind = name.split("/draw")[1].split("_")
    return case.rng(f"{kind}{int(number)}"), kind


def seeded_noise(case, name):
    """The noise (B, L) of a recorded draw before any token was marked."""
    values = draw_rng(case, name)[0].random_sample(case.arrays[name].shape)
    return torch.from_numpy(values.astype(np.float32))


def one_hot(chosen, size):
    """Index lists, one per clip, as (B, size) bool."""
    marks = torch.zeros(len(chosen), size, dtype=torch.bool)
    for row, indices in zip(marks, chosen, strict=True):
        row[torch.from_numpy(indices)] = True
    return marks


def check_draws(case, head):
    """Every recorded draw of a pass follows from the salt and its number."""
    names = case.names(f"{head}/draw\\d+_\\w+")
    assert names
    for name in names:
        rng, kind = draw_rng(case, name)
        recorded = case.arrays[name]
        if kind == "rand":
            noise = seeded_noise(case, name).numpy()
            assert (np.equal(recorded, noise) | np.equal(recorded, MARK)).all(), name
        elif kind == "perm":
            assert np.array_equal(rng.permutation(len(recorded)), recorded), name
        else:
            populations = [draw_rng(case, name)[0].permutation(size) for size in (64, 8)]
            assert any(np.array_equal(p[: len(recorded)], recorded) for p in populations), name


def check_order(noise_BL, mask, ratio):
    """Unmarked tokens come in the order of their noise, marked ones behind them in any order."""
    assert mask.ids_keep.shape[1] == num_kept(noise_BL.shape[1], ratio)
    in_order = noise_BL.gather(1, mask.ids_restore.argsort(1)).clamp(max=1)
    assert (in_order.diff(dim=1) >= 0).all()
