"""The params of the rules are the settings that their results depend on, and a version."""

from types import SimpleNamespace

import pytest

from pipeline_src import versions
from pipeline_src.catalog import Catalog, paths
from pipeline_src.catalog.steps import CHUNK_STAGES, PLAN, STEPS
from pipeline_src.config import default_config
from pipeline_src.manifest.schema import CHUNKS


@pytest.fixture
def catalog(root):
    return Catalog(default_config(), root / "config/datasets")


def test_the_settings_of_a_chunk(catalog):
    config = catalog.config
    assert catalog.recorded("extract_logmel", "avdigits") == {
        "audio": config.audio.recipe_values(),
        "sample_rate_hz": 16000,
        "step_version": versions.LOGMEL,
    }
    assert catalog.recorded("pack_shard", "avdigits") == {
        "shards": config.shards.of_tars.recipe_values(),
        "step_version": versions.PACK,
    }
    index = catalog.recorded("pack_index", "avdigits")
    assert index["exclude_duplicates"] is False
    assert index["media"] == config.media.recipe_values()


def test_sound_alone_is_decoded_without_frames(catalog):
    media = catalog.recorded("transcode_clips", "esc50")["media"]
    assert (media["num_frames"], media["frame_rate"]) == (0, 0.0)


def test_the_settings_of_a_run_are_its_own(catalog):
    run = catalog.run("avsiam_tiny")
    values = catalog.recorded("evaluate_pretrained", "avdigits_fold1", "avsiam_tiny")
    assert values == {
        "model": run.model.recipe_values(),
        "evaluate": run.evaluate.recipe_values(),
        "num_examples": catalog.config.report.num_examples,
        "step_version": versions.EVALUATE,
    }


@pytest.mark.parametrize("rule", STEPS)
def test_a_rule_gets_each_param_as_a_function_of_its_wildcards(catalog, rule):
    wildcards = SimpleNamespace(dataset="avdigits", run="avsiam_tiny")
    params = {name: value(wildcards) for name, value in catalog.params(rule).items()}
    assert params == dict(catalog.recorded(rule, "avdigits", "avsiam_tiny"))
    assert params["step_version"] == getattr(versions, STEPS[rule].version)


def test_the_chunk_stages_are_those_of_the_manifests_each_after_what_it_reads():
    assert [stage.recorded_name for stage in CHUNK_STAGES.values()] == list(CHUNKS)
    made = {PLAN}
    for name, stage in CHUNK_STAGES.items():
        assert set(stage.reads) <= made
        made.add(name)


def test_patterns_become_paths_and_what_to_look_for():
    names = {"dataset": "d", "stage": "logmel", "split": "train", "chunk": "00001"}
    assert paths.fill(paths.MANIFEST, "my run", **names) == "my run/d/logmel/train/00001.json"
    one = paths.of_stage(paths.ALL_LEDGERS, "shards")
    assert one == "<results>/{dataset}/shards/ledger.parquet"
    assert paths.as_glob(paths.FINETUNED) == "*/finetune/*/done.json"
