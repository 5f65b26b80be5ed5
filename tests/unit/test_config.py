"""The configuration refuses what is wrong and says where; generated files are current."""

from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest
import yaml
from pydantic import BaseModel

from pipeline_src.config import ModelConfig, default_config, load_config, resolve_run
from pipeline_src.config.generate import drifted_files
from pipeline_src.config.load import merge
from pipeline_src.errors import ConfigError
from pipeline_src.methods import find_method
from tests.workspace import experiment_files


@pytest.fixture
def defaults(root):
    return yaml.safe_load((root / "config" / "config.yaml").read_text())


def second_stage(teacher):
    """A run's values that follow ``teacher``."""
    model = {"method": "mavil", "overrides": {"predicts": "features"}}
    return {"model": model, "pretrain": {"teacher_run": teacher}}


def test_generated_files_are_current(root):
    assert drifted_files(root / "config") == []


def test_config_yaml_holds_exactly_the_defaults(defaults):
    assert load_config(defaults) == default_config()


def test_every_experiment_overlay_is_accepted(root, defaults):
    overlays = [experiment_files(path) for path in (root / "config/experiments").glob("*.yaml")]
    assert len(overlays) > 1
    for files in (*overlays, ["config/test/tiny.yaml"]):
        values = defaults
        for name in files:
            values = merge(values, yaml.safe_load((root / name).read_text()))
        config = load_config(values)
        for name in config.run_names:
            resolve_run(config, name)


@pytest.mark.parametrize(
    ("overlay", "expected"),
    [
        ({"media": {"frme_size": 3}}, ["media.frme_size = 3", "unknown key", "frame_size"]),
        ({"finetune": {"lr": -1}}, ["finetune.lr = -1", "greater than 0"]),
        ({"finetune": {"lr": "fast"}}, ["finetune.lr = 'fast'", "number"]),
        ({"runs": ["a", "b"]}, ["runs = ['a', 'b']", "must be a mapping, {name: value, ...}"]),
        ({"finetune": 5}, ["finetune = 5", "must be a section, {key: value, ...}"]),
        ({"datasets": 5}, ["datasets = 5", "must be a list, [value, ...]"]),
        ({"model": {"size": "enormous"}}, ["model.size = 'enormous'", "'huge'"]),
        ({"pretrain": {"contrast_ratios": [0.5, 1.5]}}, ["1.5 is not in [0, 1)"]),
        (
            {"pretrain": {"contrast_weight": 0, "reconstruct_weight": 0}},
            ["both 0", "nothing to learn"],
        ),
        ({"finetune": {"modality_probs": [0.5, 0.5, 0.5]}}, ["sum to 1"]),
        ({"media": {"frame_rate": 4}}, ["num_frames=10 and frame_rate=4", "set one of them to 0"]),
        ({"media": {"num_frames": 0}}, ["both 0", "modalities: [audio]"]),
        (
            {"media": {"num_frames": 0, "frame_rate": 2}, "finetune": {"fps": 4}},
            ["avsiam_tiny: finetune.fps = 4", "media.frame_rate = 2"],
        ),
        ({"pretrain": {"fps": 2}}, ["pretrain.fps = 2", "media.frame_rate = 0", "num_frames to 0"]),
        (
            {
                "media": {"num_frames": 0, "frame_rate": 2, "frame_times": "keyframe"},
                "pretrain": {"fps": 2},
            },
            ["pretrain.fps = 2", "evenly spaced", "media.frame_times to exact"],
        ),
        (
            {
                "media": {"num_frames": 0, "frame_rate": 2, "max_seconds": 2},
                "pretrain": {"fps": 2},
            },
            ["pretrain.num_frames = 5 at fps = 2 last 2.5 s", "media.max_seconds = 2"],
        ),
        (
            {
                "media": {"num_frames": 0, "frame_rate": 2},
                "finetune": {"fps": 2},
                "evaluate": {"num_frames": 12},
            },
            ["evaluate.num_frames=12 must be a multiple of finetune.num_frames=5"],
        ),
        ({"submt": {}}, ["submt", "unknown key", "submit"]),
        ({"runs": {"a": {"modle": {}}}}, ["runs.a.modle", "unknown key", "pretrain"]),
        ({"runs": {"a": {"finetune": {"lr": 0}}}}, ["runs.a.finetune.lr = 0"]),
        ({"runs": {"a b": {}}}, ["runs.a b", "a run name is"]),
        ({"runs": {"a": {"finetune": {"checkpoint_run": "b"}}}}, ["checkpoint_run = 'b'"]),
        ({"pretrain": {"mavil": {"mask_ratios": [0.5, 0]}}}, ["mask_ratios: 0.0 is not in (0, 1)"]),
        (
            {"model": {"method": "cav_mae_sync"}},
            ["takes 80 frames", "media.num_frames = 10", "lower model.overrides.num_segments"],
        ),
        (
            {
                "model": {"method": "cav_mae_sync", "overrides": {"classifier": "pairs"}},
                "media": {"num_frames": 80},
            },
            ["modality_probs=[0.3, 0.35, 0.35] trains audio", "scores audio_video alone"],
        ),
        (
            {"model": {"overrides": {"clip_length": 192}}, "evaluate": {"num_frames": 12}},
            ["evaluate.num_frames=12 must be a multiple of finetune.num_frames=5"],
        ),
        (
            {
                "model": {"method": "mavil"},
                "pretrain": {"batch_size": 1, "mavil": {"mask_ratios": [0.5, 0.8]}},
            },
            ["batch_size=1", "mavil.mask_ratios, 2"],
        ),
        (
            {"model": {"method": "mavil"}, "pretrain": {"mavil": {"decode_fraction": 0.5}}},
            ["decode_fraction=0.5 would change nothing", "video_decoder: cross"],
        ),
        (
            {"model": {"method": "mavil", "overrides": {"predicts": "features"}}},
            ["teacher_run=''", "needs a teacher"],
        ),
        (
            {"runs": {"a": {"pretrain": {"teacher_run": "avsiam_tiny"}}}},
            ["teacher_run='avsiam_tiny'", "predicts='patches'"],
        ),
        ({"runs": {"a": second_stage("b")}}, ["runs.a.pretrain.teacher_run = 'b' is not a listed"]),
        (
            {"runs": {"a": second_stage("b"), "b": second_stage("a")}},
            ["teacher_run = 'a' leads back to itself"],
        ),
        (
            {"runs": {"a": {"pretrain": {"checkpoint_run": "b"}}}},
            ["runs.a.pretrain.checkpoint_run = 'b' is not a listed run"],
        ),
        (
            {"runs": {"a": {"pretrain": {"checkpoint_run": "a"}}}},
            ["runs.a.pretrain.checkpoint_run = 'a' leads back to itself"],
        ),
        (
            {
                "runs": {
                    "a": {
                        "model": {"method": "cav_mae"},
                        "pretrain": {"checkpoint_run": "avsiam_tiny"},
                    }
                }
            },
            ["'avsiam_tiny' is a run of avsiam, a one of cav_mae"],
        ),
        (
            {"runs": {"a": {"pretrain": {"checkpoint_run": "avsiam_tiny", "checkpoint": "x"}}}},
            ["run a: pretrain.checkpoint_run = 'avsiam_tiny' and pretrain.checkpoint = 'x'"],
        ),
        ({"runs": {"a": second_stage("avsiam_tiny")}}, ["is a run of avsiam", "mavil, diffmavil"]),
        ({"datasets": []}, ["datasets"]),
        ({"audio": {"high_freq_hz": 9000}}, ["high_freq_hz=9000", "sample_rate_hz=16000"]),
        (
            {"model": {"overrides": {"ptch_size": 8}}},
            ["overrides", "ptch_size", "patch_size"],
        ),
        (
            {"model": {"img_size": 33}},
            ["img_size=33 is not a multiple of patch_size=16", "set img_size to 32 or 48"],
        ),
        (
            {"audio": {"num_mel_bins": 100}},
            ["run avsiam_tiny: audio.num_mel_bins=100 is not a multiple of 16", "96 or 112"],
        ),
        (
            {"model": {"target_length": 90, "overrides": {"audio_patch_size": [16, 32]}}},
            ["model.target_length=90 is not a multiple of 32", "audio_patch_size", "to 64 or 96"],
        ),
        (
            {"model": {"target_length": 97, "overrides": {"audio_patch_size": None}}},
            ["model.target_length=97 is not a multiple of 16", "to 96 or 112"],
        ),
        *(
            ({section: {"seed": seed}}, [f"{section}.seed = {seed}", "9223372036854775807"])
            for section in ("pretrain", "finetune", "evaluate")
            for seed in (2**63, 10**30)
        ),
        ({"pretrain": {"seed": -1}}, ["pretrain.seed = -1", "greater than or equal to 0"]),
        ({"evaluate": {"retrieval_size": True}}, ["retrieval_size = True", "is no number"]),
        ({"evaluate": {"retrieval_size": "1:30"}}, ["retrieval_size = '1:30'", "valid integer"]),
        ({"finetune": {"lr": True}}, ["finetune.lr = True", "true is no number"]),
        ({"pretrain": {"contrast_ratios": [0, False]}}, ["contrast_ratios", "false is no number"]),
        (
            {"rate_limits": {"host_requests_per_second": {"a.org": True}}},
            ["host_requests_per_second", "true is no number"],
        ),
        ({"model": {"overrides": {"depth": True}}}, ["depth=True", "true is no number"]),
        ({"runs": {"a" * 101: {}}}, ["has 101 characters", "at most 100"]),
        ({"runs": {"a\n": {}}}, ["a run name is"]),
        ({"model": {"overrides": {"num_frames": 2}}}, ["overrides.num_frames has a key of its"]),
        ({"finetune": {"num_frames": 2}}, ["finetune.num_frames=2 must equal"]),
        ({"runs": {"a": {"evaluate": {"num_frames": 1}}}}, ["evaluate.num_frames=1"]),
        ({"finetune": {"skip": True, "init": "scratch"}}, ["finetune", "skip: true", "scratch"]),
        (
            {"runs": {"a": {}, "b": {"finetune": {"checkpoint_run": "a", "init": "scratch"}}}},
            ["init: scratch starts from no pre-training", "checkpoint_run = 'a' has no meaning"],
        ),
        (
            {"evaluate": {"retrieval_size": 5, "retrieval_per_class": 1}},
            ["retrieval_size=5", "retrieval_per_class=1", "null"],
        ),
        ({"finetune": {"average_epochs": [3]}}, ["average_epochs=[3] must be [first, last]"]),
        ({"finetune": {"average_epochs": [0, 2]}}, ["average_epochs=[0, 2]", "1 <= first"]),
        ({"finetune": {"average_epochs": [3, 51]}}, ["average_epochs=[3, 51]", "epochs=50"]),
        (
            {"finetune": {"mixup": 0.5}, "shards": {"waveform": False}},
            ["finetune.mixup = 0.5", "set shards.waveform: true"],
        ),
    ],
)
def test_wrong_values_are_named(defaults, overlay, expected):
    with pytest.raises(ConfigError) as caught:
        load_config(merge(defaults, overlay))
    for part in expected:
        assert part in str(caught.value)


def test_the_largest_values_are_taken(defaults):
    name = "a" * 100
    changes = {"pretrain": {"seed": 2**63 - 1}, "runs": {name: {}}, "evaluate": {"probes": True}}
    run = resolve_run(load_config(merge(defaults, changes)), name)
    assert (run.pretrain.seed, run.evaluate.probes) == (2**63 - 1, True)


@pytest.mark.parametrize("method", ["avsiam", "cav_mae"])
def test_the_published_patches_of_the_largest_size_leave_their_rest(defaults, method):
    patches = {"patch_size": 14, "audio_patch_size": [14, 14]}
    huge = {"model": {"method": method, "size": "huge", "img_size": 224, "target_length": 1024}}
    huge["model"]["overrides"] = patches
    load_config(merge(defaults, {**huge, "audio": {"num_mel_bins": 128}}))
    with pytest.raises(ConfigError, match="num_mel_bins=64 is not a multiple of 14"):
        load_config(merge(defaults, huge))


def test_an_error_names_the_file_that_sets_the_key(tmp_path):
    base, overlay = tmp_path / "base.yaml", tmp_path / "overlay.yaml"
    base.write_text("finetune: {lr: 0.1}\n")
    overlay.write_text("finetune: {lr: -2}\n")
    merged = {"finetune": {"lr": -2}, "media": {"num_frames": -1}}
    with pytest.raises(ConfigError) as caught:
        load_config(merged, [base, overlay])
    lines = str(caught.value).splitlines()
    assert any(str(overlay) in line and "finetune.lr" in line for line in lines)
    assert any("--config" in line and "media.num_frames" in line for line in lines)


def test_a_run_takes_the_sections_and_its_own_values_on_top(defaults):
    changes = {"finetune": {"lr": 0.5}, "runs": {"a": {"finetune": {"epochs": 3}}}}
    config = load_config(merge(defaults, changes))
    run = resolve_run(config, "a")
    assert (run.finetune.lr, run.finetune.epochs) == (0.5, 3)


def test_null_removes_a_run():
    config = load_config({"runs": {"a": {}, "b": None}})
    assert config.run_names == ("a",)


@pytest.mark.slow
def test_configuration_is_read_without_torch(root, shell_env):
    import subprocess
    import sys

    code = "import sys, pipeline_src.catalog; sys.exit('torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(root), env=shell_env, check=False
    )
    assert result.returncode == 0


def test_a_number_as_text_in_an_override_is_the_number():
    """Everything was trained again, `model.overrides.depth 2 -> 2`."""
    written = ModelConfig(overrides={"depth": "2", "mlp_ratio": "4.0", "audio_vit": "shared"})
    assert written.overrides == {"depth": 2, "mlp_ratio": 4.0, "audio_vit": "shared"}
    assert isinstance(written.overrides["depth"], int)


@pytest.mark.parametrize("text", ["nan", "inf", "1_0", " 8 ", "\u0663", "1e", "0x2", ""])
def test_what_is_no_plain_number_stays_text(text):
    assert ModelConfig(overrides={"depth": text}).overrides == {"depth": text}


def test_a_text_of_a_method_of_ones_own_stays_text(monkeypatch):
    class Own(find_method("avsiam").config):
        release: str = "1"

    own = SimpleNamespace(config=Own)
    monkeypatch.setattr("pipeline_src.config.training.find_method", lambda name: own)
    assert ModelConfig(overrides={"release": "2", "depth": "2"}).overrides == {
        "release": "2",
        "depth": 2,
    }


def test_text_of_an_override_stays_where_its_field_takes_that_text(monkeypatch):
    class Network(BaseModel):
        name: str | None = None
        kind: Literal["1", "2"] = "1"
        width: int | Literal["auto"] = 8

    method = SimpleNamespace(config=Network)
    monkeypatch.setattr("pipeline_src.config.training.find_method", lambda name: method)
    given = {"name": "1", "kind": "2", "width": "3", "other": "1e400"}
    assert ModelConfig(overrides=given).overrides == given | {"width": 3}
