"""Keys by the names of the release before are read, with a sentence, and change no record."""

import logging

import pytest

from pipeline_src.config import (
    PretrainConfig,
    default_config,
    load_config,
    merge_files,
    resolve_run,
)
from pipeline_src.config.old_keys import old_keys_in, with_new_keys
from pipeline_src.errors import ConfigError


@pytest.fixture
def written(tmp_path):
    def write(name, text):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def test_an_overlay_by_old_names_counts_and_is_told_the_new_ones(root, written, caplog):
    files = [
        root / "config/config.yaml",
        written("first.yaml", "runs: {none: {}}\n"),
        written(
            "old.yaml",
            "network: {max_pauses: 7}\npretrain: {packed: never}\n"
            "media: {out_of_range: reject, frame_fit: squash}\n"
            "runs: {avsiam_tiny: {pretrain: {packed: always}}, none: null}\n",
        ),
    ]
    with caplog.at_level(logging.WARNING):
        config = load_config(merge_files(files, ["network={max_pauses: 8}"]), files)
    assert config.rate_limits.max_pauses == 8
    assert config.pretrain.pack_sequences == "never"
    assert (config.media.short_clips, config.media.frame_fit) == ("reject", "stretch")
    assert "old.yaml: media.frame_fit: squash is called stretch now" in caplog.text
    assert resolve_run(config, "avsiam_tiny").pretrain.pack_sequences == "always"
    for key, new in (
        ("network", "rate_limits"),
        ("pretrain.packed", "pack_sequences"),
        ("media.out_of_range", "short_clips"),
        ("runs.avsiam_tiny.pretrain.packed", "pack_sequences"),
    ):
        assert f"old.yaml: {key} is called {new} now" in caplog.text
    assert "--config: network is called rate_limits now" in caplog.text


def test_a_key_by_both_names_is_refused(written):
    path = written("both.yaml", "pretrain: {packed: never, pack_sequences: always}\n")
    message = (
        r"both\.yaml: pretrain: packed is the old name of pack_sequences, and both are given; keep"
    )
    with pytest.raises(ConfigError, match=message):
        merge_files([path])
    with pytest.raises(ConfigError, match="network is the old name of rate_limits"):
        load_config({"network": {}, "rate_limits": {}})


def test_a_wrong_value_by_an_old_name_is_placed_in_its_file(written):
    path = written("old.yaml", "network: {max_pauses: 0}\n")
    with pytest.raises(ConfigError, match=r"old\.yaml: rate_limits\.max_pauses = 0"):
        load_config(merge_files([path]), [path])


def test_a_whole_configuration_of_the_release_before_is_read():
    values = default_config().model_dump(mode="json")
    values["network"] = values.pop("rate_limits")
    values["pretrain"]["packed"] = values["pretrain"].pop("pack_sequences")
    values["media"]["out_of_range"] = values["media"].pop("short_clips")
    assert load_config(values) == default_config()


def test_a_renamed_key_changes_no_record():
    before, now = PretrainConfig(), PretrainConfig.model_validate({"packed": "never"})
    assert now.pack_sequences == "never"
    assert now.recipe_values() == before.recipe_values()


def test_names_of_now_need_no_sentence():
    values = default_config().model_dump(mode="json")
    assert list(old_keys_in(values)) == []
    assert with_new_keys(values) == values
