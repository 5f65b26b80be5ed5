"""Runs whose results were made with other settings are named, with the keys that changed."""

import yaml

from pipeline_src.catalog import Catalog
from pipeline_src.catalog.changes import changed_runs
from pipeline_src.config import Config


def test_a_key_that_came_after_the_results_is_no_change_and_another_value_is(root, tmp_path):
    catalog = Catalog(Config(results=str(tmp_path)), root / "config/datasets")
    (run,) = catalog.run_names
    recorded = catalog.run(run).model_dump(mode="json")
    del recorded["finetune"]["activation_checkpointing"]
    path = catalog.run_file(run)
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(recorded))
    assert list(changed_runs(catalog)) == []
    recorded["finetune"]["lr"] = 0.5
    path.write_text(yaml.safe_dump(recorded))
    (sentence,) = changed_runs(catalog)
    assert f"{path} says: finetune.lr 0.5 -> " in sentence
