"""MAViL, DiffMAViL as reconstructed, its parts one by one, and controls: what each costs.

``python -m benchmarks.variants`` prints the closed form at 8 and 16 frames. How
DiffMAViL (arXiv:2310.03937) reached its published 32 % is not known in detail: every row is a
reading of ours, and none is the paper's setting (docs/efficiency.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline_src.config.networks import pretrain_network
from pipeline_src.config.phase_plan import plan_phases
from pipeline_src.config.training import ModelConfig, PretrainConfig
from pipeline_src.methods.mavil.config import MAViLConfig
from pipeline_src.methods.mavil.cost import PretrainStep, planned_steps, trained_flops

NUM_MEL_BINS = 128
FRAMES = (8, 16)
RECIPE = {"epochs": 20, "batch_size": 64, "reconstruct_ratio": 0.8}
REFERENCE = "MAViL, stage 1"


@dataclass(frozen=True)
class Variant:
    """What differs from ``RECIPE`` and from the method's own network."""

    method: str = "diffmavil"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)

    def sections(
        self, num_frames: int, size: str = "base", **changes: Any
    ) -> tuple[ModelConfig, PretrainConfig]:
        """Network and recipe.

        Args:
            changes: further keys of ``pretrain``.
        """
        model = {"method": self.method, "size": size, "overrides": self.overrides}
        recipe = {**RECIPE, "num_frames": num_frames, **self.recipe, **changes}
        return ModelConfig.model_validate(model), PretrainConfig.model_validate(recipe)


def _falling(start: float = 0.9, end: float = 0.8, **keys: Any) -> dict[str, Any]:
    curriculum = {"shape": "linear", "start": start, "end": end, **keys}
    return {"curriculum": curriculum, "adaptive_batch": "tokens"}


JOINT = {"video_decoder": "joint"}
NO_NOISE = {"diffusion": False}
QUARTER = {"mavil": {"decode_fraction": 0.25}}
MIXED = {"mavil": {"mask_ratios": [0.8, 0.825, 0.85, 0.875, 0.9]}}

# The parts of the reconstruction, then the controls; each is a run of an experiment file.
VARIANTS = {
    REFERENCE: Variant("mavil"),
    "diffusion, joint decoders": Variant(overrides=JOINT),
    "diffusion, cross video decoder": Variant(),
    "diffusion, curriculum, joint": Variant(overrides=JOINT, recipe=_falling()),
    "reconstruction": Variant(recipe=_falling()),
    "curriculum alone": Variant("mavil", recipe=_falling()),
    "cross video decoder alone": Variant(overrides=NO_NOISE),
    "quarter decoded, noise": Variant(recipe=QUARTER),
    "quarter decoded, no noise": Variant(overrides=NO_NOISE, recipe=QUARTER),
    "several ratios alone": Variant("mavil", recipe=MIXED),
}


def _readings(name: str, start: float, end: float) -> dict[str, Variant]:
    """Return a linear curriculum between two ratios under either decoder, and for video alone."""
    ends, video = _falling(start, end), _falling(start, end, modalities="video")
    return {
        f"{name}, joint": Variant(overrides=JOINT, recipe=ends),
        f"{name}, cross": Variant(recipe=ends),
        f"{name}, cross, video only": Variant(recipe=video),
    }


# Other readings of what is published, in closed form only.
READINGS = {
    "cross-self video decoder": Variant(overrides={"video_decoder": "cross_self"}),
    ".90 to .80, cross, video only": Variant(recipe=_falling(modalities="video")),
    ".90 to .80, cross, cosine": Variant(recipe=_falling(shape="cosine")),
    ".80 to .90, cross": Variant(recipe=_falling(0.8, 0.9)),
    ".90 to .80, cross reads both": Variant(overrides={"context": "both"}, recipe=_falling()),
    ".90 to .80, cross both decoders": Variant(
        overrides={"audio_decoder": "cross"}, recipe=_falling()
    ),
    **_readings(".95 to .80", 0.95, 0.8),
    **_readings(".90 to .70", 0.9, 0.7),
    **_readings(".95 to .75", 0.95, 0.75),
    "half decoded, noise": Variant(recipe={"mavil": {"decode_fraction": 0.5}}),
    "MAViL, stage 2": Variant("mavil", {"predicts": "features"}),
}


def closed_form(
    model: ModelConfig, recipe: PretrainConfig, num_mel_bins: int = NUM_MEL_BINS
) -> float:
    """Operations per clip, forward and backward, the mean over the training."""
    network = pretrain_network(model, recipe, num_mel_bins)
    assert isinstance(network, MAViLConfig)
    return trained_flops(network, mavil_steps(network, recipe))


def mavil_steps(network: MAViLConfig, recipe: PretrainConfig) -> list[PretrainStep]:
    """List what a clip passes in each phase, or in each pair of ``mask_ratios``: equal shares."""
    planned = [phase.ratios for phase in plan_phases(network, recipe) if phase.ratios]
    return [step for ratios in planned for step in planned_steps(network, ratios, recipe)]


def steps_saved(model: ModelConfig, recipe: PretrainConfig) -> float:
    """Share of the optimiser steps that the adaptive batch does without."""
    phases = plan_phases(pretrain_network(model, recipe, NUM_MEL_BINS), recipe)
    shares = [recipe.batch_size / phase.batch_size for phase in phases]
    return 1 - sum(shares) / len(shares)


def main() -> None:
    """Print operations per clip and the saving against MAViL."""
    print(f"{'GFLOP per clip':<34}" + "".join(f"{n:>4} frames   saved" for n in FRAMES))
    reference = [closed_form(*VARIANTS[REFERENCE].sections(frames)) for frames in FRAMES]
    for name, variant in (VARIANTS | READINGS).items():
        row = f"{name:<34}"
        for frames, whole in zip(FRAMES, reference, strict=True):
            flops = closed_form(*variant.sections(frames))
            row += f"{flops / 1e9:>11.0f}{1 - flops / whole:>8.1%}"
        print(row)


if __name__ == "__main__":
    main()
