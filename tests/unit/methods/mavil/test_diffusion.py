"""Noise schedule, its identities, and samplers; pictures of denoising."""

import pytest
import torch

from pipeline_src.methods.factory import create_model
from pipeline_src.methods.mavil.denoise import denoise
from pipeline_src.methods.mavil.diffusion import NoiseSchedule, ddim_step, ddpm_step, sample
from tests.unit.methods.mavil.test_network import make_batch, make_masks, make_model


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 5, 7, 3, generator=generator)
    return clean, noise, torch.tensor([1, 2, 400, 999, 1000])


@pytest.mark.parametrize(
    ("exponent", "last_beta", "mean_signal", "share"),
    [
        (1.0, "0.020", "0.391", 0.259),
        (0.8, "0.044", "0.217", 0.134),
        (0.6, "0.096", "0.102", 0.057),
        (0.4, "0.209", "0.038", 0.018),
        (0.0, "1.000", "0.000", 0.0),
    ],
)
def test_the_schedule_has_the_derived_figures(exponent, last_beta, mean_signal, share):
    abar = NoiseSchedule(1000, exponent).abar
    assert abar[0] == 1
    later = abar[1:]
    beta = 1 - later[-1] / later[-2] if exponent else torch.tensor(1.0)
    assert f"{beta:.3f}" == last_beta
    assert f"{later.sqrt().mean():.3f}" == mean_signal
    assert ((later / (1 - later)) > 1).double().mean().item() == pytest.approx(share, abs=5e-4)


def test_abar_falls_strictly_unless_the_power_is_0():
    for exponent in (0.2, 0.4, 0.8, 1.0):
        assert (NoiseSchedule(1000, exponent).abar.diff() < 0).all()
    assert NoiseSchedule(1000, 0.0).abar[1:].eq(0).all()


def test_power_0_is_noise_alone_at_every_step(tensors):
    clean, noise, _ = tensors
    schedule = NoiseSchedule(1000, 0.0)
    for step in (1, 17, 1000):
        assert torch.equal(schedule.add_noise(clean, noise, torch.full((5,), step)), noise)


def test_each_clip_is_noised_by_the_abar_of_its_own_step(tensors):
    clean, noise, steps = tensors
    schedule = NoiseSchedule(1000, 0.8)
    noisy = schedule.add_noise(clean, noise, steps)
    for clip, step in enumerate(steps):
        abar = float(schedule.abar[step])
        expected = abar**0.5 * clean[clip] + (1 - abar) ** 0.5 * noise[clip]
        torch.testing.assert_close(noisy[clip], expected)
    assert torch.equal(schedule.add_noise(clean, noise, torch.zeros(5, dtype=torch.long)), clean)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
@pytest.mark.parametrize("exponent", [0.0, 0.8, 1.0])
@pytest.mark.parametrize("num_steps", [1, 2, 30])
def test_the_sampler_returns_a_patch_that_is_known(tensors, sampler, exponent, num_steps):
    clean, noise, _ = tensors
    seen = []

    def predict(_, step):
        seen.append(step)
        return clean

    states = sample(
        predict,
        noise,
        NoiseSchedule(1000, exponent),
        num_steps=num_steps,
        sampler=sampler,
        generator=torch.Generator().manual_seed(0),
    )
    assert len(states) == num_steps + 1
    assert torch.equal(states[0], noise)
    torch.testing.assert_close(states[-1], clean)
    assert seen[0] == 1000
    assert sorted(set(seen), reverse=True) == seen


@pytest.mark.parametrize("exponent", [0.2, 0.8, 1.0])
@pytest.mark.parametrize("num_steps", [2, 30, 1000])
def test_ddim_passes_through_the_noised_patch_of_every_kept_step(tensors, exponent, num_steps):
    clean, noise, _ = tensors
    schedule = NoiseSchedule(1000, exponent)
    steps = [*schedule.kept_steps(num_steps), 0]
    expected = [schedule.add_noise(clean, noise, torch.full((5,), step)) for step in steps]
    states = sample(lambda *_: clean, expected[0], schedule, num_steps=num_steps, sampler="ddim")
    torch.testing.assert_close(torch.stack(states), torch.stack(expected), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("num_steps", [5, 1000])
def test_ddpm_has_the_mean_and_deviation_of_every_kept_step(num_steps):
    generator = torch.Generator().manual_seed(0)
    schedule, clean = NoiseSchedule(1000, 0.8), torch.full((1, 100, 200), 2.0)
    start = torch.randn(clean.shape, generator=generator)
    states = sample(
        lambda *_: clean,
        start,
        schedule,
        num_steps=num_steps,
        sampler="ddpm",
        generator=generator,
    )
    for step, state in zip(schedule.kept_steps(num_steps), states[:-1], strict=True):
        abar = schedule.abar[step].item()
        assert state.mean().item() == pytest.approx(2 * abar**0.5, abs=0.04)  # 5 standard errors
        assert state.std().item() == pytest.approx((1 - abar) ** 0.5, abs=0.03)
    assert torch.equal(states[-1], clean)


def test_full_sampling_visits_every_step_and_ddpm_is_ddim_with_eta_1(tensors):
    clean, noise, _ = tensors
    schedule = NoiseSchedule(50, 0.8)
    assert schedule.kept_steps(50) == list(range(50, 0, -1))
    for step in (2, 25, 50):
        abar = (float(schedule.abar[step]), float(schedule.abar[step - 1]))
        other = ddim_step(noise, clean, abar, clean.flip(0), eta=1.0)
        torch.testing.assert_close(ddpm_step(noise, clean, abar, clean.flip(0)), other)
    with pytest.raises(ValueError, match="51 sampling steps: allowed are 1 to 50"):
        schedule.kept_steps(51)


@pytest.mark.parametrize("norm_pix_loss", [False, True])
def test_denoising_pictures_keep_visible_patches(norm_pix_loss):
    model = make_model("diffmavil_tiny", norm_pix_loss=norm_pix_loss).eval()
    batch, masks = make_batch(2), make_masks(model, 2)
    pictures = denoise(
        model,
        batch["logmel"],
        batch["frames"],
        masks,
        num_steps=3,
        generator=torch.Generator().manual_seed(0),
    )
    assert pictures.audio.shape == (2, 4, 24, 16)
    assert pictures.video.shape == (2, 4, 4, 3, 16, 16)
    still = model.reconstruct(batch["logmel"], batch["frames"], *masks)
    visible = ~still.audio_is_masked
    for state in pictures.audio.unbind(1):
        assert torch.equal(state[visible], batch["logmel"][visible])
    hidden = still.video_is_masked
    first, last = pictures.video[:, 0], pictures.video[:, -1]
    assert not torch.isclose(first[hidden], last[hidden]).any()


def test_schedule_is_no_part_of_the_state_dict():
    model = create_model("diffmavil_tiny", num_frames=2, img_size=32)
    assert not any(name.startswith("schedule") for name in model.state_dict())
