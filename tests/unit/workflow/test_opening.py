"""Params and inputs of jobs do not hold the place of the project's folder."""

from pathlib import Path

from pipeline_src.catalog import Catalog
from pipeline_src.config import Config
from pipeline_src.workflow.opening import _datasets_folder


def test_a_copy_of_the_folder_has_the_same_params_and_another_working_directory_full_paths(
    root, tmp_path, monkeypatch
):
    monkeypatch.chdir(root)
    catalog = Catalog(Config(results=str(tmp_path)), _datasets_folder(root))
    named = [catalog.clip_sources("avdigits")["clip_list"], catalog.dataset("avdigits").root]
    inputs = [catalog.dataset_path("avdigits"), *catalog.dataset_files("avdigits")]
    assert not [path for path in map(Path, [*named, *inputs]) if path.is_absolute()]
    monkeypatch.chdir(tmp_path)
    assert _datasets_folder(root) == root / "config/datasets"
