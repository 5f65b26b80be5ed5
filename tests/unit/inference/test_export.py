"""An exported folder gives what the checkpoint gives and names no place of this machine."""

import errno
import json
import shutil

import numpy as np
import pytest
import torch

from pipeline_src.commands.cli import main
from pipeline_src.errors import CheckpointError, ConfigError
from pipeline_src.inference import onnx
from pipeline_src.inference.export import export
from pipeline_src.inference.locate import locate
from pipeline_src.inference.model import load
from pipeline_src.inference.onnx import OnnxAudioEncoder
from pipeline_src.loader.dataset import IMAGE_MEAN, IMAGE_STD
from pipeline_src.methods import METHODS
from tests.checkpoints import NAMES, make_checkpoint

pytestmark = pytest.mark.slow

# Exported as the others are, so for test-all.
FURTHER = ("cav_mae", "mavil", "diffmavil")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("run"))


def clips():
    rng = np.random.default_rng(0)
    return [rng.standard_normal(16000), rng.integers(0, 255, (3, 40, 50, 3), np.uint8)]


def test_it_gives_what_the_checkpoint_gives(folder, tmp_path):
    export(folder, tmp_path / "out")
    before, after = load(folder), load(tmp_path / "out")
    for one, other in zip(before.embed(clips()), after.embed(clips()), strict=True):
        for name in ("audio", "video"):
            assert np.array_equal(getattr(one, name), getattr(other, name))
    for one, other in zip(before.classify(clips()), after.classify(clips()), strict=True):
        assert np.array_equal(one.scores, other.scores)
    again = export(tmp_path / "out", tmp_path / "again")
    assert again.sha256 == before.sha256


def test_it_is_what_hubs_expect_and_names_no_place(folder, tmp_path):
    out = tmp_path / "out"
    export(folder, out)
    assert {path.name for path in out.iterdir()} == {
        *("README.md", "config.json", "model.safetensors", "preprocessor_config.json")
    }
    config = json.loads((out / "config.json").read_text())
    assert config["model_type"] == "avsiam"
    assert list(config["id2label"].values()) == list(NAMES)
    for path in ("README.md", "config.json", "preprocessor_config.json"):
        assert str(folder.parent) not in (out / path).read_text()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_its_paper_and_its_card(method, tmp_path):
    sizes = {"num_frames": 8} if "mavil" in method else {}
    folder = make_checkpoint(tmp_path / "run", classes=(), name=f"{method}_tiny", **sizes)
    export(folder, tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text()
    for title in ("Use", "Data", "Recipe", "Metrics", "Operations", "Limits", "Citation"):
        assert f"\n## {title}\n" in card
    assert "arXiv" in card
    assert "audio encoder, one clip forward" in card


def test_other_files_are_not_written_over(folder, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="holds other files"):
        export(folder, tmp_path)


def test_a_model_of_another_library_is_not_written_over(folder, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    (tmp_path / "vision_encoder.onnx").write_text("theirs")
    with pytest.raises(CheckpointError, match="holds other files"):
        export(folder, tmp_path)
    assert (tmp_path / "vision_encoder.onnx").read_text() == "theirs"


@pytest.mark.parametrize("damage", ["cut off", "empty", "killed before it"])
def test_an_export_that_is_damaged_or_was_killed_is_made_again(folder, tmp_path, damage):
    """Its error says to export it again, which was refused."""
    config = tmp_path / "exported/config.json"
    whole = export(folder, tmp_path / "exported") and config.read_bytes()
    if damage == "killed before it":
        config.unlink()
        (tmp_path / "exported/README.md").unlink()
    else:
        config.write_bytes(whole[:40] if damage == "cut off" else b"")
    export(folder, tmp_path / "exported")
    assert config.read_bytes() == whole


def test_a_kill_while_an_older_export_is_replaced_leaves_none_that_loads(
    folder, tmp_path, monkeypatch
):
    """The new preprocessing stood beside the old weights, which loaded."""
    export(folder, tmp_path / "exported")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", killed)
        with pytest.raises(KeyboardInterrupt):
            export(folder, tmp_path / "exported")
    with pytest.raises(CheckpointError, match="did not end; export it again"):
        locate(tmp_path / "exported")
    export(folder, tmp_path / "exported")
    locate(tmp_path / "exported")


def test_an_export_in_place_that_fails_leaves_the_only_weights(folder, tmp_path, monkeypatch):
    exported = tmp_path / "exported"
    export(folder, exported)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline_src.inference.export.write_card", full)
        with pytest.raises(OSError, match="No space"):
            export(exported, exported)
    locate(exported)
    export(exported, exported)
    locate(exported)


def test_an_export_of_another_checkpoint_is_replaced_with_a_word(folder, tmp_path, caplog):
    other = make_checkpoint(tmp_path / "other", classes=())
    export(folder, tmp_path / "exported")
    export(folder, tmp_path / "exported")
    assert not caplog.records
    export(other, tmp_path / "exported")
    assert "held the export of another checkpoint, which is replaced" in caplog.text


def test_a_file_is_no_folder_to_export_to(folder, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match=r"notes\.txt is a file; name a folder"):
        export(folder, tmp_path / "notes.txt")


def test_encoders_of_another_checkpoint_do_not_stay(folder, tmp_path):
    export(folder, tmp_path / "out")
    stale = tmp_path / "out/audio_encoder.onnx"
    stale.write_bytes(b"of another")
    export(folder, tmp_path / "out")
    assert not stale.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "preprocessor_config.json"])
def test_a_damaged_one_is_refused(folder, tmp_path, name):
    out = tmp_path / "out"
    export(folder, out)
    with (out / name).open("r+b") as stream:
        stream.seek(40)
        stream.write(b"\0\0")
    with pytest.raises(CheckpointError, match="export it again"):
        locate(out)


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(name, marks=[pytest.mark.exhaustive] if name in FURTHER else [])
        for name in METHODS
    ],
)
def test_onnxruntime_gives_the_same_vectors(method, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra export is not installed")
    sizes = {"num_frames": 8} if "mavil" in method else {}
    folder = make_checkpoint(tmp_path / "run", classes=(), name=f"{method}_tiny", **sizes)
    assert main(["export", str(folder), str(tmp_path / "out"), "--onnx"]) == 0
    model = load(tmp_path / "out", device="cpu")
    mel, side = model.network.config.num_mel_bins, model.network.config.img_size
    generator = torch.Generator().manual_seed(3)
    for num_clips in (1, 2, 5):
        shape = model.format.logmel_shape(mel)
        logmel = torch.randn(num_clips, *shape, generator=generator) * 4 - 5
        pixels = (num_clips, model.num_frames, 3, side, side)
        frames = torch.randint(0, 256, pixels, generator=generator).float()
        with torch.no_grad():  # normalised as the loader does it
            mean, std = (torch.tensor(one).view(3, 1, 1) for one in (IMAGE_MEAN, IMAGE_STD))
            heard = model.network.embed(audio=(logmel + 5.081) / 4.4849)["audio"]
            seen = model.network.embed(video=(frames / 255 - mean) / std)["video"]
        for name, given, expected in (("audio", logmel, heard), ("video", frames, seen)):
            session = onnxruntime.InferenceSession(
                tmp_path / f"out/{name}_encoder.onnx", providers=["CPUExecutionProvider"]
            )
            (value,) = session.get_inputs()
            (found,) = session.run(["embedding"], {value.name: given.numpy()})
            assert found.shape == expected.shape
            assert float(expected.abs().max()) > 0.1  # not all zero
            assert np.abs(found - expected.numpy()).max() < 1e-4


class Torn(OnnxAudioEncoder):
    """An encoder that computes otherwise once it is exported, as a wrong translation would."""

    def forward(self, logmel):
        vectors = super().forward(logmel)
        return vectors + 2e-4 if torch.onnx.is_in_onnx_export() else vectors


def test_a_file_that_computes_otherwise_is_refused(folder, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime", reason="the extra export is not installed")
    monkeypatch.setattr(onnx, "OnnxAudioEncoder", Torn)
    with pytest.raises(CheckpointError, match=r"onnxruntime differs .* by 2\.0e-04.*--onnx"):
        onnx.export_onnx(load(folder, device="cpu"), tmp_path)
    assert not list(tmp_path.glob("*.onnx"))


def test_a_missing_package_is_told(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "PACKAGES", ("numpy", "no_such_package"))
    with pytest.raises(ConfigError, match=r"needs no_such_package: pip install"):
        onnx.export_onnx(load(folder, device="cpu"), tmp_path)
