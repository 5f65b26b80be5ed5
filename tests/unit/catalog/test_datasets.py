"""What the indexes of a data set are made from, and data sets whose shards are there already."""

from pathlib import Path

import pytest

from pipeline_src.catalog import Catalog
from pipeline_src.catalog.datasets import spelled_alike
from pipeline_src.config import Config, ShardsConfig
from pipeline_src.datasets.dataset import load_dataset
from pipeline_src.dvc.data import data_stages
from pipeline_src.dvc.runs import evaluate_stage
from pipeline_src.dvc.stale import drop_stale
from pipeline_src.errors import ConfigError, ManifestError

PACKED = "name: far\ntask: multiclass\nformat: shards\n"


def make_catalog(root, results, *datasets, **shards):
    paths = tuple(map(str, datasets))
    config = Config(results=str(results), datasets=paths, shards=ShardsConfig(**shards))
    return Catalog(config, root / "config" / "datasets")


def splits_of(manifests):
    return list(dict.fromkeys(Path(path).parent.name for path in manifests))


def test_duplicates_are_looked_for_in_train_or_where_they_are_left_out_in_what_is_scored(
    root, tmp_path
):
    digits = root / "config/test/digits.yaml"
    for flags, expected in [
        ([], {"train": [], "val": ["train"], "test": ["train"]}),
        (["duplicate"], {"train": ["test", "val"], "val": ["test"], "test": []}),
    ]:
        catalog = make_catalog(root, tmp_path, digits, exclude_flags=flags)
        for split, earlier in expected.items():
            assert splits_of(catalog.earlier_shards("digits", split)) == earlier


def test_leaving_duplicates_out_is_no_setting_of_the_tars():
    plain = ShardsConfig(exclude_flags=("short",), max_failed_fraction=0.5)
    assert ShardsConfig(exclude_flags=("short", "duplicate")).of_tars == plain.of_tars
    assert ShardsConfig(exclude_flags=("short",), waveform=False).of_tars != plain.of_tars
    assert ShardsConfig().of_tars != plain.of_tars


def test_packed_shards_need_only_their_addresses(root, tmp_path):
    path = tmp_path / "far.yaml"
    path.write_text(f"{PACKED}index_urls: {{test: 'https://h/i.json', train: here/index.json}}\n")
    catalog = make_catalog(root, tmp_path / "results", path)
    assert catalog.splits("far") == ("train", "test")
    assert catalog.index("far", "test") == f"{tmp_path}/results/far/remote/test/index.json"
    assert catalog.dataset("far").index_urls["train"] == str(tmp_path / "here/index.json")
    assert catalog.dataset_files("far") == []
    (stage,) = data_stages(catalog, "far")
    assert stage.rules == ("fetch_index", "shards_far")
    assert not (tmp_path / "results").exists()
    for call in (catalog.downloads, lambda name: catalog.chunk_files("transcode", name)):
        with pytest.raises(ConfigError, match="data set far: its shards are packed already"):
            call("far")
    with pytest.raises(ConfigError, match="packed already"):
        drop_stale(catalog, "shards", "far")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PACKED, "index_urls and format: shards belong together"),
        ("name: x\ntask: multiclass\nindex_urls: {train: a.json}\n", "belong together"),
        (f"{PACKED}index_urls: {{train: https://h/shards/}}\n", "not the address of an index.json"),
        (f"{PACKED}index_urls: {{train: 'https://me:pw@h/i.json'}}\n", "no user or password here"),
        (f"{PACKED}index_urls: {{dev: https://h/i.json}}\n", "'dev' is no split"),
        (f"{PACKED}clip_list: a.csv\nindex_urls: {{train: a.json}}\n", "alone, not clip_list"),
        ("name: x\ntask: multiclass\nclass_names: a.csv\n", "clip_list: missing"),
        (
            "name: x\ntask: multilabel\nformat: audioset\nclip_list: {train: a.csv}\n",
            "class_names: missing",
        ),
    ],
)
def test_wrong_addresses_are_refused(tmp_path, text, message):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_dataset(path)


def test_shards_that_are_packed_elsewhere_have_no_ledger_to_ask_for(root, tmp_path):
    path = tmp_path / "far.yaml"
    path.write_text(PACKED + "index_urls: {train: a.json, test: b.json}\n")
    catalog = make_catalog(root, tmp_path / "results", path)
    assert catalog.shards("far") == catalog.indexes("far")


def test_what_scored_clips_share_is_an_input_where_their_list_names_it(root, tmp_path):
    (tmp_path / "mine.yaml").write_text("name: mine\ntask: multiclass\nclip_list: mine.csv\n")
    rows = "a,a.mp4,,,x,train,\nb,b.mp4,,,y,test,{}\n"
    for speaker, groups in (("ann", ["mine/groups/test.csv"]), ("", [])):
        header = "clip_id,source,start_seconds,end_seconds,labels,split,group\n"
        (tmp_path / "mine.csv").write_text(header + rows.format(speaker))
        catalog = make_catalog(root, tmp_path, tmp_path / "mine.yaml")
        (run,) = catalog.run_names
        assert catalog.scored_groups(run, "mine") == [f"{tmp_path}/{name}" for name in groups]
        deps = evaluate_stage(catalog, run, "mine").deps
        assert any("mine.csv" in path for path in deps) == bool(groups)
        assert deps[-1] == catalog.scored_index(run, "mine")


def test_a_path_is_recorded_alike_however_it_is_spelled(root, tmp_path, monkeypatch):
    """Else all data would be made again: ``list`` prints a path otherwise than people type it."""
    monkeypatch.chdir(tmp_path)
    Path("own/deep").mkdir(parents=True)
    Path("own/mine.yaml").write_text(
        f"{PACKED.replace('far', 'mine')}index_urls: {{test: i.json}}\n"
    )
    spellings = [
        "own/mine.yaml",
        "./own/mine.yaml",
        "own/deep/../mine.yaml",
        f"{tmp_path}/own/mine.yaml",
    ]
    found = {make_catalog(root, "results", path).dataset_path("mine") for path in spellings}
    assert found == {Path("own/mine.yaml")}
    monkeypatch.chdir(root)
    outside = make_catalog(root, tmp_path, f"{tmp_path}/own/../own/mine.yaml").dataset_path("mine")
    assert outside == tmp_path / "own/mine.yaml"


def test_a_path_back_out_of_a_link_is_the_file_that_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("real/sub").mkdir(parents=True)
    Path("real/mine.yaml").touch()
    Path("link").symlink_to("real/sub")
    found = spelled_alike("link/../mine.yaml")
    assert found.samefile("real/mine.yaml")
    Path("mine.yaml").touch()  # another one
    assert spelled_alike("link/../mine.yaml").samefile("real/mine.yaml")


@pytest.mark.parametrize(
    ("split", "advice"),
    [
        ("train", r"name other data sets in pretrain\.datasets"),
        ("test", "evaluated by its own name, e.g. sounds_fold1"),
    ],
)
def test_who_asks_a_data_set_with_folds_for_another_split_is_told_what_it_can_do(
    root, tmp_path, split, advice
):
    rows = [f"{fold}-{take}-A-0.wav,{fold},0,dog,False,1,A" for fold in (1, 2) for take in (1, 2)]
    header = "filename,fold,target,category,esc10,src_file,take"
    (tmp_path / "list.csv").write_text("\n".join([header, *rows]) + "\n")
    (tmp_path / "classes.csv").write_text("index,id,display_name\n0,dog,Dog\n")
    (tmp_path / "sounds.yaml").write_text(
        "name: sounds\ntask: multiclass\nformat: esc50\nmodalities: [audio]\nfolds: 2\n"
        "clip_list: list.csv\nclass_names: classes.csv\n"
    )
    catalog = make_catalog(root, tmp_path / "results", tmp_path / "sounds.yaml")
    with pytest.raises(ManifestError, match=f"no clip has split '{split}'.*fold1, fold2.*{advice}"):
        catalog.index("sounds", split)
