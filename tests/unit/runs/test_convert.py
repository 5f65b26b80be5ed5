"""Weights from elsewhere: every key accounted for, wrong files refused, there and back the same."""

import argparse
import itertools
import json
import shlex
import sys
import zipfile
from datetime import datetime
from pathlib import Path
from zipfile import ZIP_DEFLATED

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from pipeline_src.commands.cli import main
from pipeline_src.errors import CheckpointError, ConfigError
from pipeline_src.methods.common.convert import from_published, to_image, to_published
from pipeline_src.methods.common.published_keys import published_keys
from pipeline_src.methods.common.tensor_files import read_tensors
from pipeline_src.methods.factory import create_model
from pipeline_src.runs import convert
from pipeline_src.runs.build import restore_model, trained_network_config
from pipeline_src.runs.done import read_done
from tests.checkpoints import make_checkpoint
from tests.networks import SMALL

NAMES = ["avsiam_tiny", "cav_mae_tiny", "cav_mae_sync_tiny"]
SETTINGS = [f"--set={key}={value}" for key, value in SMALL.items()]


def make_model(name, num_classes=0, **overrides):
    torch.manual_seed(0)
    values = {**SMALL, **overrides}
    return create_model(name, variant="released", num_classes=num_classes, **values)


def published_state(name, num_classes=0, prefix="", **overrides):
    """A published state dict of a small network, every key filled."""
    generator = torch.Generator().manual_seed(1)
    state = {}
    for key in published_keys(name, make_model(name, num_classes, **overrides)):
        if key.name.endswith("head.weight") or key.name.endswith("head.bias"):
            state[key.name] = torch.zeros(key.shape)  # 21,843 unused rows
        elif key.alias_of:
            state[key.name] = state[key.alias_of]
        else:
            state[key.name] = torch.randn(key.shape, generator=generator)
    return {prefix + key: value for key, value in state.items()}


def run_command(*arguments):
    assert main(["convert", *map(str, arguments)]) == 0


@pytest.mark.parametrize("num_classes", [0, 5])
@pytest.mark.parametrize("name", NAMES)
def test_there_and_back_is_the_same(name, num_classes):
    source = published_state(name, num_classes)
    model = make_model(name, num_classes)
    weights, report = from_published(source, name, model, origin="file")
    assert set(report.mapped) | set(report.unused) == set(source)
    model.load_state_dict(weights)
    back, report = to_published(model.state_dict(), name, model)
    assert {key.removeprefix("module.") for key in back} == set(source)
    assert not report.unused
    for key in published_keys(name, model):
        ours, theirs = back[f"module.{key.name}"], source[key.name]
        assert ours.shape == theirs.shape
        if key.ours:
            assert (
                torch.equal(ours[:, key.num_prefix :], theirs[:, key.num_prefix :])
                if (key.num_prefix)
                else torch.equal(ours, theirs)
            )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("decoder_norm.weight"), "missing decoder_norm.weight"),
        (lambda s: s.update(extra=torch.zeros(1)), "unexpected extra"),
        (
            lambda s: s.update(mask_token=torch.zeros(1, 1, 9)),
            r"mask_token has shape \(1, 1, 9\), avsiam_tiny has \(1, 1, 8\)",
        ),
        (
            lambda s: s.update({"my_blocks.0.attn.qkv.bias": torch.ones(48)}),
            "my_blocks.0.attn.qkv.bias differs from vit_base.blocks.0.attn.qkv.bias",
        ),
    ],
)
def test_a_key_that_does_not_fit_is_named(change, message):
    source = published_state("avsiam_tiny")
    change(source)
    with pytest.raises(CheckpointError, match=rf"weights\.pth: 1 of its keys.*{message}"):
        from_published(source, "avsiam_tiny", make_model("avsiam_tiny"), origin="weights.pth")


def test_a_file_of_another_method_or_size_says_what_it_looks_like():
    source = published_state("cav_mae_tiny")
    with pytest.raises(CheckpointError, match="looks like CAV-MAE of width 16, pre-trained"):
        from_published(source, "avsiam_tiny", make_model("avsiam_tiny"), origin="file")
    wider = make_model("cav_mae_tiny", embed_dim=32)
    with pytest.raises(CheckpointError, match=r"has shape .* looks like CAV-MAE of width 16"):
        from_published(source, "cav_mae_tiny", wider, origin="file")


class _Unknown:
    """Something that weights-only loading must not build."""


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_that_no_generator_takes_is_refused(tmp_path, seed):
    torch.save(PLAIN, tmp_path / "vit.pth")
    options = ["--model", "avsiam_tiny", "--from", "image", f"--seed={seed}"]
    with pytest.raises(SystemExit, match=rf"--seed {seed}: allowed are 0 to 9223372036854775807"):
        run_command(tmp_path / "vit.pth", tmp_path / "converted", *options)


def test_settings_are_read_as_a_configuration_is():
    values = convert.parse_overrides(["depth=010", "proj_dim=1e3", "audio_patch_size=[8, 4]"])
    assert values == {"depth": 10, "proj_dim": 1000.0, "audio_patch_size": [8, 4]}
    with pytest.raises(ConfigError, match="--set depth: not valid YAML"):
        convert.parse_overrides(["depth=["])


INSIDE_ITSELF = {}
INSIDE_ITSELF["model"] = INSIDE_ITSELF


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": _Unknown()}, r"holds tests\.unit\.runs\.test_convert\._Unknown, code"),
        ({"model": {"a": torch.zeros(1)}, "hook": print}, "holds .*print, code"),
        ({"a": 3}, "'a' is a int, not a tensor"),
        ({"a": argparse.Namespace(lr=1)}, "'a' is an object, not a tensor"),
        ({"weights": {"a": torch.zeros(1)}}, "it holds 'weights'.*below one of the keys model"),
        ([torch.zeros(1)], "holds a list, not a dictionary"),
        (torch.zeros(3), "holds a Tensor, not a dictionary"),
        ({}, "holds a dict without entries"),
        ({"a": torch.zeros(1).expand(10**6, 10**6)}, "a claims .* of 4 stored bytes"),
        (dict.fromkeys("abcdefgh", torch.zeros(9)), "tensors claim 288 bytes, 36 are stored"),
        ({"a": torch.tensor([1, float("nan")])}, "a holds values that are not finite"),
        ({"a": torch.tensor([float("inf")], dtype=torch.bfloat16)}, "a holds values that are not"),
        ({"a": torch.zeros(1), "module.a": torch.zeros(1)}, "a stands twice"),
        ({0: torch.zeros(1)}, "the key 0 is no tensor's name"),
        ({"a\n\x1b[31m": torch.zeros(1)}, r"the key 'a\\n\\x1b\[31m' is no tensor's name"),
        ({"a\n": 3}, r"the key 'a\\n' is no"),
        ({"a": torch.zeros(2, dtype=torch.int8)}, "a holds int8 values, not a network's weights"),
        ({"a": torch.zeros(2, dtype=torch.int64)}, "a holds int64 values"),
        ({"a": torch.tensor([True])}, "a holds bool values"),
        ({"a": torch.zeros(2, dtype=torch.complex64)}, "a holds complex64 values"),
        ({"a": torch.zeros(2, dtype=torch.float8_e4m3fn)}, "a holds float8_e4m3fn values"),
        ({"a": torch.zeros(2, device="meta")}, "a has a shape alone, its values are not there"),
        ({"model": {}, "epoch": 3}, "holds a dict without entries"),
        (INSIDE_ITSELF, "holds a dict, not a dictionary of tensors"),
    ],
)
def test_a_file_that_is_not_tensors_alone_is_refused(tmp_path, content, message):
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=rf"weights\.pth.*{message}"):
        read_tensors(path)


def test_a_file_that_unpacks_to_more_than_it_is_is_refused(tmp_path):
    plain, packed = tmp_path / "plain.pth", tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(100_000)}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(CheckpointError, match=r"weights\.pth: \d+ bytes that unpack to 4\d+"):
        read_tensors(packed)


def test_a_flipped_bit_is_told_by_the_checksum_of_its_tensor(tmp_path):
    path, value = tmp_path / "weights.pth", torch.full((2000,), 1.25)
    torch.save({"a": value}, path)
    content = bytearray(path.read_bytes())
    content[content.index(value.numpy().tobytes()) + 4001] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights\.pth cannot be read: damaged.*data/0"):
        read_tensors(path)


def test_a_damaged_file_of_old_torch_is_a_sentence(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(PLAIN, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    keys = content.rindex(b"\x80\x02]")  # of the storages, behind the dictionary
    other = content[: keys + 12] + b"x" + content[keys + 13 :]
    for part in (other, content[: keys + 8]):
        path.write_bytes(part)
        with pytest.raises(CheckpointError, match=r"weights\.pth cannot be read: damaged"):
            read_tensors(path)


def test_a_file_without_checksums_is_read(tmp_path):
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(PLAIN, tmp_path / "weights.pth")
    finally:
        torch.serialization.set_crc32_options(before)
    assert read_tensors(tmp_path / "weights.pth").keys() == PLAIN.keys()


@pytest.mark.parametrize("save", [save_file, torch.save])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_is_read_as_what_it_is_whatever_its_name(tmp_path, save, suffix):
    path = tmp_path / f"weights{suffix}"
    save(PLAIN, path)
    assert read_tensors(path).keys() == PLAIN.keys()


def test_counters_and_indices_beside_the_weights_are_taken(tmp_path):
    path = tmp_path / "weights.pth"
    others = {
        "head.num_batches_tracked": torch.tensor(3),
        "relative_position_index": torch.zeros(4, 4, dtype=torch.int64),
    }
    torch.save({**PLAIN, **others}, path)
    assert read_tensors(path).keys() == {*PLAIN, *others}


PLAIN = {"blocks.0.weight": torch.arange(4.0).view(2, 2), "norm.bias": torch.ones(2)}


def prefixed(*prefixes):
    """The plain tensors, each key with the prefix whose turn it is."""
    turns = itertools.cycle(prefixes)
    return {next(turns) + key: value for key, value in PLAIN.items()}


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "torch before 1.6"])
@pytest.mark.parametrize(
    "content",
    [
        prefixed("_orig_mod."),
        prefixed("module.module."),
        prefixed("module._orig_mod."),
        prefixed("_orig_mod.module."),
        prefixed("model."),
        prefixed("net."),
        prefixed("model.net.module."),
        {"net": PLAIN, "epoch": 7},
        prefixed("module.", ""),
        {"blocks._orig_mod.0.weight": PLAIN["blocks.0.weight"], "norm.bias": PLAIN["norm.bias"]},
        {key: value.double() for key, value in PLAIN.items()},
        {key: value.half() for key, value in PLAIN.items()},
        {"model_state_dict": PLAIN, "epoch": 7},
        {"state_dict": {"model": PLAIN}},
        {"model": PLAIN, "model_ema": {}, "optimizer": {}, "args": argparse.Namespace(lr=1e-4)},
        {"model": PLAIN, "args": argparse.Namespace(out=Path("runs"), at=datetime(2024, 1, 2))},
        {"state_dict": PLAIN, "best": np.float64(0.5), "curve": np.ones(3), "step": np.int64(3)},
    ],
)
def test_weights_are_found_as_training_programs_leave_them(tmp_path, content, is_zip):
    path = tmp_path / "weights.pth"
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    found = read_tensors(path)
    assert found.keys() == PLAIN.keys()
    for key, value in PLAIN.items():
        assert found[key].dtype == torch.float32
        assert torch.equal(found[key], value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_file_is_refused(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    torch.save({"a": torch.zeros(5000)}, path)
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(CheckpointError, match=rf"weights\{suffix} cannot be read.*fetch it again"):
        read_tensors(path)
    with pytest.raises(CheckpointError, match="is no file"):
        read_tensors(tmp_path / "none.pth")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_command_writes_a_checkpoint_that_computes_the_same(tmp_path, name):
    source = published_state(name, prefix="module.")
    torch.save(source, tmp_path / "weights.pth")
    folder = tmp_path / "converted"
    run_command(tmp_path / "weights.pth", folder, "--model", name, *SETTINGS)
    model, spec = restore_model(read_done(folder / "done.json"))
    assert spec.model.name == name
    expected = make_model(name).eval()
    plain = {key.removeprefix("module."): value for key, value in source.items()}
    expected.load_state_dict(from_published(plain, name, expected, origin="")[0])
    logmel = torch.randn(2, 24, 16)
    assert torch.equal(model.encode_audio(logmel), expected.encode_audio(logmel))
    report = json.loads((folder / "conversion.json").read_text())
    assert len(report["mapped"]) + len(report["unused"]) == len(source)

    run_command(folder, tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert set(back) == set(source)
    with pytest.raises(SystemExit, match="already holds a checkpoint"):
        run_command(tmp_path / "weights.pth", folder, "--model", name, *SETTINGS)


@pytest.mark.slow
def test_a_script_of_the_release_before_goes_on_after_a_conversion(tmp_path, monkeypatch):
    folder = make_checkpoint(tmp_path / "ours", classes=())
    arguments = ["convert", str(folder), str(tmp_path / "weights.pth")]
    monkeypatch.setattr(sys, "argv", arguments)
    convert.main()
    assert (tmp_path / "weights.pth").is_file()
    monkeypatch.setattr(sys, "argv", [*arguments, "--form", "none"])
    with pytest.raises(SystemExit, match="2"):
        convert.main()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_way_back_that_is_printed_makes_the_same_network(tmp_path, capsys, name):
    """One of ours came back with tokens of twice the size, and with other frames."""
    folder = make_checkpoint(tmp_path / "ours", classes=(), name=name, num_frames=2)
    run_command(read_done(folder / "done.json").folder, tmp_path / "weights.pth")  # or the folder
    printed = capsys.readouterr().out.splitlines()[-1]
    command = shlex.split(printed.removeprefix("back again: av-pipeline "))
    back = tmp_path / "back"
    assert main([str(back) if word == "FOLDER" else word for word in command]) == 0
    ours, theirs = (read_done(one / "done.json") for one in (folder, back))
    assert trained_network_config(ours) == trained_network_config(theirs)
    assert ours.state["logmel_mean"] == theirs.state["logmel_mean"]
    first, second = (restore_model(one)[0] for one in (ours, theirs))
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key


@pytest.mark.slow
def test_a_published_file_without_the_second_vit_shares_the_first(tmp_path):
    source = published_state("avsiam_tiny", audio_vit="shared")
    torch.save(source, tmp_path / "weights.pth")
    folder = tmp_path / "converted"
    run_command(tmp_path / "weights.pth", folder, "--model", "avsiam_tiny", *SETTINGS)
    model, _ = restore_model(read_done(folder / "done.json"))
    assert model.config.audio_vit == "shared"
    assert model.config.double_input


@pytest.mark.slow
def test_a_fine_tuned_file_needs_its_data_set(tmp_path, root):
    torch.save(published_state("cav_mae_tiny", 4), tmp_path / "weights.pth")
    arguments = [tmp_path / "weights.pth", tmp_path / "out", "--model", "cav_mae_tiny", *SETTINGS]
    with pytest.raises(SystemExit, match="fine-tuned on 4 classes; name their data set"):
        run_command(*arguments)
    ten_classes = root / "config/datasets/avdigits.yaml"
    with pytest.raises(SystemExit, match="has 4 classes, the data set 10"):
        run_command(*arguments, "--dataset", ten_classes)
    run_command(*arguments, "--dataset", root / "config/test/digits.yaml")
    checkpoint = read_done(tmp_path / "out" / "done.json")
    assert checkpoint.state["class_names"] == ["zero", "one", "two", "three"]


# The class token and registers of CAV-MAE Sync are left out, so that its ViT computes otherwise.
@pytest.mark.parametrize("name", ["avsiam_tiny", "cav_mae_tiny"])
def test_the_video_encoder_becomes_a_timm_vit(name):
    model = make_model(name).eval()
    with torch.no_grad():
        for key, value in model.named_parameters():
            value.normal_(std=0.02 if value.ndim > 1 else 0.1)
            value.add_(float("norm" in key and key.endswith("weight")))
    state, report = to_image(model.state_dict(), name, model)
    vit = timm.create_model(
        "vit_tiny_patch16_224",
        pretrained=False,
        num_classes=0,
        class_token=False,
        global_pool="avg",
        fc_norm=False,
        img_size=16,
        patch_size=8,
        embed_dim=16,
        depth=2,
        num_heads=2,
    ).eval()
    vit.load_state_dict(state)
    frames = torch.randn(3, 1, 3, 16, 16)
    ours = model.encode_video(frames)
    torch.testing.assert_close(vit.forward_features(frames[:, 0]), ours, rtol=1e-3, atol=1e-3)
    assert set(report.mapped) | set(report.unused) == set(model.state_dict())


def test_an_image_network_and_several_frames_are_refused():
    model = make_model("avsiam_tiny", num_frames=2)
    with pytest.raises(CheckpointError, match="num_frames=2"):
        to_image(model.state_dict(), "avsiam_tiny", model)


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match="expected key=value"):
        convert.parse_overrides(["depth"])
    with pytest.raises(ConfigError, match="--model is missing"):
        convert.import_weights(argparse.Namespace(model=""))
