"""A fine-tuning by the published recipe, from shards to done.json: every key reaches its code."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline_src.config import AudioConfig, FinetuneConfig, ModelConfig, PretrainConfig
from pipeline_src.errors import CheckpointError, ManifestError
from pipeline_src.runs.spec import TrainSpec
from pipeline_src.shards.shard_set import open_shards
from pipeline_src.train.log import read_log
from pipeline_src.train.run import run_training
from pipeline_src.train.stop import StopFlag
from tests import media

pytestmark = pytest.mark.slow

AUDIO = AudioConfig(num_mel_bins=32)
# Label 0 is on three of four clips, so balanced draws differ from an epoch of each.
LABELS = {"a": "0", "b": "0", "c": "0", "d": "1;2"}
# 2 steps per epoch: epochs 2, 3 and 4 end at steps 4, 6 and 8.
PUBLISHED = {
    "init": "scratch", "epochs": 4, "batch_size": 2, "lr": 1e-2, "warmup_epochs": 0,
    "optimizer": "adam", "weight_decay": 5e-7, "beta1": 0.95, "beta2": 0.999, "max_grad_norm": 0,
    "schedule": "step", "decay_start_epoch": 2, "decay_every_epochs": 1, "decay_factor": 0.75,
    "balanced_sampling": True, "mixup": 0.5, "average_epochs": (2, 4), "all_heads": True,
    "amp": False, "num_workers": 0, "log_every": 1,
    "save_every_seconds": 1e-6, "keep_checkpoints": 100,
}  # fmt: skip


@pytest.fixture(scope="module")
def index_path(tmp_path_factory):
    """Four clips with different tones."""
    folder = tmp_path_factory.mktemp("recipe")
    for number, name in enumerate(LABELS):
        media.make_clip(folder / f"{name}.mp4", tone=(0.2 * number, 0.2 * number + 0.3))
    clips = [{"clip_id": k, "source": f"{k}.mp4", "labels": v} for k, v in LABELS.items()]
    return media.make_shards(folder, clips, AUDIO)


def make_model(**changes):
    small = {"patch_size": 16, "audio_patch_size": [16, 16], "embed_dim": 32, "depth": 2}
    overrides = small | {"num_heads": 2, "decoder_embed_dim": 32, "decoder_num_heads": 2} | changes
    return ModelConfig(size="tiny", img_size=32, target_length=96, overrides=overrides)


def make_spec(index_path, run_dir, **changes):
    return TrainSpec(
        stage="finetune",
        run_dir=run_dir,
        model=make_model(),
        recipe=FinetuneConfig(**{**PUBLISHED, **changes}),
        train_indexes=(index_path,),
    )


def pretrain_spec(index_path, run_dir, *, start=None, model=None, **changes):
    few = {"epochs": 1, "batch_size": 2, "warmup_epochs": 0, "amp": False, "num_workers": 0}
    return TrainSpec(
        stage="pretrain",
        run_dir=run_dir,
        model=model or make_model(),
        recipe=PretrainConfig(**{**few, "contrast_ratios": (0.0, 0.5), **changes}),
        train_indexes=(index_path,),
        initial_checkpoint=start,
    )


def rows(run_dir):
    return [row for row in read_log(run_dir / "metrics.jsonl") if "loss" in row]


def test_activation_checkpointing_trains_to_the_same_bytes(index_path, tmp_path):
    found = []
    for name, enabled in (("plain", False), ("spared", True)):
        run_training(
            pretrain_spec(index_path, tmp_path / name, activation_checkpointing=enabled), StopFlag()
        )
        found.append((tmp_path / name / "checkpoint/model.safetensors").read_bytes())
    assert found[0] == found[1]


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_the_published_recipe_averages_and_resumes_to_the_same_bytes(index_path, tmp_path):
    spec = make_spec(index_path, tmp_path)
    done = run_training(spec, StopFlag())
    result = weights(tmp_path / "checkpoint")
    terms = [weights(tmp_path / f"checkpoints/step_{step:08d}") for step in (4, 6, 8)]
    for name, value in result.items():
        mean = torch.stack([term[name] for term in terms]).mean(0)
        torch.testing.assert_close(value, mean, rtol=1e-5, atol=1e-7)
    assert [row["lr"] for row in rows(tmp_path)] == pytest.approx(
        [1e-2] * 4 + [7.5e-3] * 2 + [5.625e-3] * 2
    )
    whole, curve = done.read_bytes(), [row["loss"] for row in rows(tmp_path)]
    for step in (5, 6, 7, 8):
        shutil.rmtree(tmp_path / f"checkpoints/step_{step:08d}")
    shutil.rmtree(tmp_path / "checkpoint")
    done.unlink()
    again = json.loads(run_training(spec, StopFlag()).read_bytes())
    assert again["sha256"] == json.loads(whole)["sha256"]
    assert [row["loss"] for row in rows(tmp_path)] == curve


@pytest.mark.parametrize(
    "change",
    [{"mixup": 0.0}, {"balanced_sampling": False}, {"optimizer": "adamw"}, {"schedule": "cosine"}],
    ids=lambda change: next(iter(change)),
)
def test_each_key_of_the_recipe_changes_the_training(index_path, tmp_path, change):
    curves = []
    for name, changes in (("with", {}), ("without", change)):
        spec = make_spec(index_path, tmp_path / name, average_epochs=(), **changes)
        run_training(spec, StopFlag())
        curves.append([row["loss"] for row in rows(tmp_path / name)])
    assert curves[0] != curves[1]


def test_a_finished_training_without_its_log_stays_as_it_was_published(index_path, tmp_path):
    """Where another configuration's log was set aside, there is none of this one's."""
    spec = make_spec(index_path, tmp_path / "run", mixup=0.0, average_epochs=())
    done = run_training(spec, StopFlag())
    before = done.read_bytes(), (tmp_path / "run/history.csv").read_bytes()
    (tmp_path / "run/metrics.jsonl").unlink()
    assert run_training(spec, StopFlag()) == done
    assert (done.read_bytes(), (tmp_path / "run/history.csv").read_bytes()) == before


def test_a_finished_training_takes_over_a_licence_that_was_added(index_path, tmp_path):
    spec = make_spec(index_path, tmp_path / "run", epochs=1, average_epochs=())
    trained = run_training(spec, StopFlag()).read_bytes()
    before = index_path.read_bytes()
    try:
        index_path.write_text(json.dumps({**json.loads(before), "licence": "CC BY 4.0"}))
        assert run_training(spec, StopFlag()).read_bytes() == trained
    finally:
        index_path.write_bytes(before)
    state = json.loads((spec.run_dir / "checkpoint/state.json").read_bytes())
    assert [one["licence"] for one in state["data"]] == ["CC BY 4.0"]


def test_a_pretraining_continues_that_of_another_run(index_path, tmp_path):
    first = run_training(pretrain_spec(index_path, tmp_path / "first"), StopFlag())
    still = pretrain_spec(
        index_path, tmp_path / "still", start=first, lr=1e-12, weight_decay=0.0, seed=1
    )
    run_training(still, StopFlag())
    before, after = weights(tmp_path / "first/checkpoint"), weights(tmp_path / "still/checkpoint")
    assert before.keys() == after.keys()  # the decoder too
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=1e-9, msg=name)
    assert (
        still.fingerprint() != still.model_copy(update={"initial_checkpoint": None}).fingerprint()
    )


def test_a_pretraining_does_not_go_on_from_another_network(index_path, tmp_path):
    first = run_training(pretrain_spec(index_path, tmp_path / "first"), StopFlag())
    deeper = pretrain_spec(
        index_path, tmp_path / "deeper", start=first, model=make_model(decoder_depth=3)
    )
    with pytest.raises(CheckpointError, match=r"first.* do not fit this model: missing decoder"):
        run_training(deeper, StopFlag())


def damage(index_path, folder, clip_ids):
    """A copy of the shards in which these clips hold no log-mel that can be read."""
    shutil.copytree(index_path.parent, folder)
    path = folder / index_path.name
    for sample in open_shards([path]).samples:
        if sample.clip_id in clip_ids:
            data = bytearray(Path(sample.shard).read_bytes())
            place = data.index(b"\x93NUMPY", sample.offset_bytes)
            data[place : place + 6] = b"broken"
            Path(sample.shard).write_bytes(data)
    return path


def test_clips_that_cannot_be_decoded_are_replaced_counted_and_bounded(
    index_path, tmp_path, caplog
):
    damaged = damage(index_path, tmp_path / "shards", ["b", "c"])
    with pytest.raises(ManifestError, match=r"clip '[bc]' is not what was packed"):
        run_training(make_spec(damaged, tmp_path / "none"), StopFlag())
    with pytest.raises(ManifestError, match=r"2 training clips .* allows 1: b, c. The log"):
        run_training(make_spec(damaged, tmp_path / "one", max_decode_errors=1), StopFlag())
    runs = {
        workers: make_spec(
            damaged, tmp_path / f"two{workers}", max_decode_errors=2, num_workers=workers
        )
        for workers in (0, 2)
    }
    for spec in runs.values():
        run_training(spec, StopFlag())
    assert runs[0].fingerprint() == make_spec(damaged, tmp_path / "none").fingerprint()
    curves = [[row["loss"] for row in rows(spec.run_dir)] for spec in runs.values()]
    assert curves[0] == curves[1]
    counts = [row["decode_errors"] for row in rows(runs[2].run_dir)]
    assert counts == sorted(counts)
    assert counts[-1] == 2
    assert "clip b cannot be decoded and is replaced" in caplog.text
