"""Gaussian diffusion of patch vectors: schedule, noising, and samplers of the hidden ones.

"Diffusion Models as Masked Autoencoders" (arXiv:2304.03283) fixes the form: linear betas raised to
a power rho; the network predicts x_0. Steps t count from 1 to T; abar_0 = 1. At rho = 0 every
abar is 0, so a noised patch is noise alone.

Shape legend: B clips, Q hidden tokens, P values of a patch.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

FIRST_BETA, LAST_BETA = 1e-4, 0.02
Sampler = Literal["ddpm", "ddim"]
Predict = Callable[[Tensor, int], Tensor]


class NoiseSchedule(nn.Module):
    """abar of every step.

    Args:
        num_steps: T.
        exponent: rho, the power of the linear betas.
    """

    abar: Tensor

    def __init__(self, num_steps: int, exponent: float) -> None:
        super().__init__()
        betas = torch.linspace(FIRST_BETA, LAST_BETA, num_steps, dtype=torch.float64) ** exponent
        abar = torch.cat([torch.ones(1, dtype=torch.float64), (1 - betas).cumprod(0)])
        self.register_buffer("abar", abar, persistent=False)

    @property
    def num_steps(self) -> int:
        """T."""
        return len(self.abar) - 1

    def add_noise(self, clean_BQP: Tensor, noise_BQP: Tensor, steps_B: Tensor) -> Tensor:
        """Noise clean patches to x_t, (B, Q, P); step 0 is the patches themselves."""
        abar_B11 = self.abar[steps_B][:, None, None]
        signal, spread = abar_B11.sqrt().float(), (1 - abar_B11).sqrt().float()
        return signal * clean_BQP + spread * noise_BQP

    def kept_steps(self, num_steps: int) -> list[int]:
        """Choose ``num_steps`` steps from T down to 1, evenly spaced; 1 = T alone.

        Raises:
            ValueError: more steps than T, or none.
        """
        if not 1 <= num_steps <= self.num_steps:
            raise ValueError(f"{num_steps} sampling steps: allowed are 1 to {self.num_steps}")
        spaced = torch.linspace(self.num_steps, 1, num_steps, dtype=torch.float64)
        return [int(step) for step in spaced.round()]


def sample(
    predict: Predict,
    noise_BQP: Tensor,
    schedule: NoiseSchedule,
    *,
    num_steps: int,
    sampler: Sampler = "ddim",
    generator: torch.Generator | None = None,
) -> list[Tensor]:
    """Denoise from x_T = ``noise_BQP``; betas are recomputed for the steps that are kept.

    Args:
        predict: (x_t, t) -> x_0 in the units of x_t.
        sampler: "ddim" is deterministic; "ddpm" adds noise from ``generator`` at all but the last
            step.

    Returns:
        x_t (B, Q, P) at every kept step from T on, then x_0.
    """
    take = {"ddim": ddim_step, "ddpm": ddpm_step}[sampler]
    steps = [*schedule.kept_steps(num_steps), 0]
    states = [noise_BQP]
    for step, following in pairwise(steps):
        fresh = None
        if sampler == "ddpm" and following:
            fresh = normal_like(noise_BQP, generator)
        clean = predict(states[-1], step)
        abar = (float(schedule.abar[step]), float(schedule.abar[following]))
        states.append(take(states[-1], clean, abar, fresh))
    return states


def normal_like(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw Gaussian noise of the shape of ``x`` (B, Q, P) on its device."""
    device = generator.device if generator else x.device
    return torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)


def ddpm_step(
    noisy: Tensor, clean: Tensor, abar: tuple[float, float], fresh: Tensor | None
) -> Tensor:
    """Draw from the posterior of the step before (DDPM, arXiv:2006.11239).

    Args:
        abar: at this step and at the one to go to; ``fresh``: noise, None for none.

    Returns:
        Of the shape of ``noisy``, which ``clean`` and ``fresh`` have too.
    """
    now, then = abar
    beta = _beta(now, then)
    mean = then**0.5 * beta / (1 - now) * clean
    mean = mean + (1 - beta) ** 0.5 * (1 - then) / (1 - now) * noisy
    return mean if fresh is None else mean + _deviation(now, then) * fresh


def ddim_step(
    noisy: Tensor,
    clean: Tensor,
    abar: tuple[float, float],
    fresh: Tensor | None = None,
    eta: float = 1.0,
) -> Tensor:
    """Go to an earlier step along the predicted noise (DDIM, arXiv:2010.02502).

    Args:
        fresh: noise; None is the deterministic sampler, whatever ``eta``; with ``eta`` = 1 the
            distribution is DDPM's.

    Returns:
        Of the shape of ``noisy``, which ``clean`` and ``fresh`` have too.
    """
    now, then = abar
    sigma = 0.0 if fresh is None else eta * _deviation(now, then)
    direction = (noisy - now**0.5 * clean) / (1 - now) ** 0.5
    result = then**0.5 * clean + max(0.0, 1 - then - sigma**2) ** 0.5 * direction
    return result if fresh is None else result + sigma * fresh


def _beta(now: float, then: float) -> float:
    """Compute beta of the step from ``then`` to ``now``; 1 where nothing of the patch is left."""
    return 1 - now / then if then else 1.0


def _deviation(now: float, then: float) -> float:
    return (_beta(now, then) * (1 - then) / (1 - now)) ** 0.5
