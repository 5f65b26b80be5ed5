"""Clips of sound alone: no picture is looked for, and every method is fine-tuned on them."""

import json

import numpy as np
import pytest
from safetensors.torch import load_file

from pipeline_src.config import AudioConfig, EvaluateConfig, FinetuneConfig, ModelConfig
from pipeline_src.config import PretrainConfig as Pretrain
from pipeline_src.config.heads import possible_shares, scored_heads
from pipeline_src.errors import ManifestError, StageError
from pipeline_src.evaluate.finetuned import evaluate_finetuned
from pipeline_src.evaluate.folds import average_folds
from pipeline_src.evaluate.pretrained import evaluate_pretrained
from pipeline_src.loader.clip_format import ClipFormat
from pipeline_src.loader.dataset import ClipDataset
from pipeline_src.loader.sampler import Draw
from pipeline_src.manifest.ledger import read_ledger
from pipeline_src.runs.spec import TrainSpec
from pipeline_src.shards.shard_set import open_shards
from pipeline_src.train.run import run_training
from pipeline_src.train.stop import StopFlag
from tests import media

pytestmark = pytest.mark.slow

AUDIO = AudioConfig(num_mel_bins=32)
SOUND = media.SMALL.without_frames()
NAMES = "abcdef"
SMALL = {
    "patch_size": 16, "audio_patch_size": [16, 16], "embed_dim": 32, "depth": 2, "num_heads": 2,
    "decoder_embed_dim": 32, "decoder_depth": 1, "decoder_num_heads": 2,
}  # fmt: skip
RECIPE = {"epochs": 2, "batch_size": 2, "warmup_epochs": 0, "amp": False, "num_workers": 0}


def make_sounds(folder, names=NAMES):
    """WAV files, each with its tone in another place."""
    for number, name in enumerate(names):
        tone = (0.1 * number, 0.1 * number + 0.3)
        media.make_clip(folder / f"{name}.m4a", has_video=False, tone=tone)
    return [{"clip_id": n, "source": f"{n}.m4a", "labels": str(i % 2)} for i, n in enumerate(names)]


def test_sound_is_enough_and_pictures_are_left_alone(tmp_path):
    media.make_clip(tmp_path / "film.mp4")
    media.make_clip(tmp_path / "sound.m4a", has_video=False)
    media.make_clip(tmp_path / "mute.mp4", tone=None)
    names = ("film.mp4", "sound.m4a", "mute.mp4")
    path = media.transcode(media.download(tmp_path, [{"source": name} for name in names]), SOUND)
    manifest, samples = media.read_transcoded(path)
    assert [clip["clip_id"] for clip in manifest.clips] == ["film.mp4", "sound.m4a"]
    assert [set(members) for members in samples.values()] == [{"flac"}, {"flac"}]
    for clip in manifest.clips:
        assert (clip["fps"], clip["frame_seconds"], clip["video_codec"]) == (0, [], "")
        assert clip["flags"] == []
    assert manifest.dropped == [{"clip_id": "mute.mp4", "reason": "no_audio"}]
    reasons = {row.clip_id: row.reason for row in read_ledger(path.with_suffix(".ledger.csv"))}
    assert reasons["sound.m4a"] == ""


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    return media.make_shards(folder, make_sounds(folder), AUDIO, num_classes=2, media=SOUND)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    for number, name in enumerate(NAMES):
        media.make_clip(folder / f"{name}.mp4", tone=(0.1 * number, 0.1 * number + 0.3))
    clips = [
        {"clip_id": n, "source": f"{n}.mp4", "labels": str(i % 2)} for i, n in enumerate(NAMES)
    ]
    return media.make_shards(folder, clips, AUDIO, num_classes=2)


def test_shards_of_sound_give_clips_without_frames(sounds, films):
    shards = open_shards([sounds])
    assert shards.modalities == ("audio",)
    clip_format = ClipFormat(96, 32, 2, shards.logmel_mean, shards.logmel_std, training=True)
    assert set(ClipDataset(shards, clip_format)[Draw(0, 0)]) == {"logmel", "targets", "index"}
    with pytest.raises(ManifestError, match=r"modalities must be equal .*\('audio',\)"):
        open_shards([sounds, films])


def model_of(method):
    return ModelConfig(method=method, size="tiny", img_size=32, target_length=96, overrides=SMALL)


@pytest.fixture(scope="module", params=["avsiam", "cav_mae", "mavil", "diffmavil"])
def pretrained(request, films, tmp_path_factory):
    spec = TrainSpec(
        stage="pretrain",
        run_dir=tmp_path_factory.mktemp(request.param) / "pretrain",
        model=model_of(request.param),
        recipe=Pretrain(num_frames=2, contrast_ratios=(0.0, 0.5), **RECIPE),
        train_indexes=(films,),
    )
    return run_training(spec, StopFlag())


def finetune(pretrained, index, name="finetune", **changes):
    method = json.loads((pretrained.parent / "checkpoint/state.json").read_text())["spec"]["model"]
    spec = TrainSpec(
        stage="finetune",
        run_dir=pretrained.parents[1] / name,
        model=model_of(method["method"]),
        recipe=FinetuneConfig(num_frames=2, **{**RECIPE, "mixup": 0.5, **changes}),
        train_indexes=(index,),
        val_indexes=(index,),
        initial_checkpoint=pretrained,
    )
    return run_training(spec, StopFlag()), spec.model


@pytest.mark.parametrize("all_heads", [False, True])
def test_a_pretrained_network_of_both_is_fine_tuned_and_scored_on_sound(
    pretrained, sounds, all_heads
):
    done, model = finetune(pretrained, sounds, f"sound{all_heads}", all_heads=all_heads)
    before, after = (
        load_file(path.parent / "checkpoint/model.safetensors") for path in (pretrained, done)
    )
    changed = {name for name in after if name in before and not after[name].equal(before[name])}
    assert any(".blocks" in name or name.startswith("blocks_a") for name in changed)
    of_video = ("video.", "blocks_v.", "patch_embed_v.", "vit_base.patch_embed.")
    assert not [name for name in changed if name.startswith(of_video)]
    rows = [json.loads(line) for line in (done.parent / "metrics.jsonl").read_text().splitlines()]
    assert not any({"video_loss", "audio_video_loss"} & row.keys() for row in rows)
    header = (done.parent / "validation.csv").read_text().splitlines()[0]
    assert "audio" in header
    assert "video" not in header
    metrics = evaluate(done, pretrained, sounds, model)
    assert (metrics["heads"], metrics["modalities"]) == (["audio"], ["audio"])
    assert not {"video", "audio_video", "retrieval"} & metrics.keys()
    assert metrics["precision"] == {"training": "float32", "evaluate": "float32"}


def evaluate(done, pretrained, index, model, groups=None):
    path = done.parent / "metrics.json"
    evaluate_finetuned(
        run="toy",
        finetune_done=done,
        pretrain_done=pretrained,
        index_path=index,
        groups_path=groups,
        metrics_path=path,
        model=model,
        evaluate=EvaluateConfig(num_frames=4, num_bootstrap=10, num_workers=0),
        config={},
        num_threads=1,
    )
    return json.loads(path.read_text())


def test_a_network_fine_tuned_on_sound_of_films_is_scored_on_sound(pretrained, films):
    done, model = finetune(pretrained, films, "audio_of_films", modality_probs=(1, 0, 0))
    speakers = done.parent / "groups.csv"
    speakers.write_text("clip_id,group\na,ann\nb,ann\n")
    metrics = evaluate(done, pretrained, films, model, speakers)
    assert metrics["heads"] == ["audio"]
    assert "video" not in metrics
    with np.load(done.parent / "predictions.npz") as arrays:
        found = dict(zip(arrays["clip_ids"], arrays["sources"], strict=True))
    assert found == {"a": "ann", "b": "ann"} | {name: f"{name}.mp4" for name in NAMES[2:]}
    assert metrics["retrieval"]["gallery_size"] == len(NAMES)  # of the pre-training


def test_a_pretraining_is_probed_on_sound(pretrained, sounds, tmp_path):
    method = json.loads((pretrained.parent / "checkpoint/state.json").read_text())["spec"]["model"]
    path = tmp_path / "metrics.json"
    evaluate_pretrained(
        run="toy",
        pretrain_done=pretrained,
        train_index=sounds,
        val_index=sounds,
        test_index=sounds,
        groups_path=None,
        metrics_path=path,
        model=model_of(method["method"]),
        evaluate=EvaluateConfig(num_frames=4, num_bootstrap=10, num_workers=0, knn=2),
        config={},
        num_examples=1,
        num_threads=1,
    )
    metrics = json.loads(path.read_text())
    assert set(metrics["probes"]["pretrained"]) == {"audio"}
    assert "retrieval" not in metrics
    assert not (tmp_path / "reconstructions.npz").exists()


def test_heads_follow_from_the_recipe_and_the_clips():
    both, sound = ("audio", "video"), ("audio",)
    assert possible_shares((0.3, 0.35, 0.35), both) == (0.3, 0.35, 0.35)
    assert possible_shares((0.3, 0.35, 0.35), sound) == (1, 0, 0)
    with pytest.raises(ValueError, match=r"modality_probs=\[0, 0, 1\] trains no head"):
        possible_shares((0, 0, 1), sound)
    assert scored_heads((0.25, 0.25, 0.5), sound) == ("audio",)
    assert scored_heads((1, 0, 0), both) == ("audio",)
    assert scored_heads((0, 1, 0), both) == ("video",)
    assert scored_heads((0, 0, 1), both) == ("audio", "video", "audio_video")


def fold_file(folder, number, **changes):
    interval = {"value": 0.5 + 0.1 * number, "low": 0, "high": 1}
    metrics = {
        "run": "toy", "dataset": "sounds", "split": f"fold{number}", "task": "multiclass",
        "heads": ["audio"], "num_clips": 4, "num_clips_in_list": 5, "checkpoint_sha256": "c",
        "clip_ids_sha256": "d",
        "audio": {"accuracy": interval, "d_prime": {"value": None}, "num_classes_scored": 2},
    }  # fmt: skip
    path = folder / f"{number}.json"
    path.write_text(json.dumps({**metrics, **changes}))
    return path


def test_folds_are_averaged(tmp_path):
    average_folds([fold_file(tmp_path, k) for k in (1, 2, 3)], tmp_path / "metrics.json")
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["audio"]["accuracy"] == {
        "value": pytest.approx(0.7), "std": pytest.approx(0.1), "folds": [0.6, 0.7, 0.8]
    }  # fmt: skip
    assert set(metrics["audio"]) == {"accuracy"}  # d' is undefined in a fold
    assert (metrics["num_clips"], metrics["num_clips_in_list"]) == (12, 15)
    assert json.loads((tmp_path / "summary.json").read_text()) == {"accuracy": {"audio": 0.7}}


def test_folds_of_another_run_are_refused(tmp_path):
    paths = [fold_file(tmp_path, 1), fold_file(tmp_path, 2, run="other")]
    with pytest.raises(StageError, match=r"2.json: run is other, in .*1.json toy"):
        average_folds(paths, tmp_path / "metrics.json")
