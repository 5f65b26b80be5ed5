"""What a dry run sees of a list's files and size, and what is said of clips that are lost later."""

from contextlib import nullcontext

import pytest

from pipeline_src.catalog import Catalog
from pipeline_src.catalog.check import check_training
from pipeline_src.config import default_config, load_config
from pipeline_src.errors import ConfigError, ManifestError
from pipeline_src.loader.sampler import stratified_subset
from pipeline_src.manifest.ledger import LedgerRow, describe_losses, write_ledger
from pipeline_src.manifest.losses import first_loss

HEADER = "clip_id,source,start_seconds,end_seconds,labels,split\n"


def make_catalog(folder, sources, *, yaml="", labels="a", **sections):
    rows = [
        f"c{n},{source},,,{labels[n % len(labels)]},train\n" for n, source in enumerate(sources)
    ]
    (folder / "list.csv").write_text(HEADER + "".join(rows))
    (folder / "classes.csv").write_text("index,id,display_name\n0,a,A\n1,b,B\n")
    head = "name: toy\ntask: multiclass\nclip_list: list.csv\nclass_names: classes.csv\n"
    (folder / "toy.yaml").write_text(head + yaml)
    values = {"datasets": [str(folder / "toy.yaml")], "results": str(folder / "results")}
    config = load_config({**default_config().model_dump(mode="json"), **values, **sections})
    return Catalog(config, folder / "none", looks_for_files=True)


def test_files_that_are_there_pass_and_one_that_is_gone_too(tmp_path):
    for n in range(4):
        (tmp_path / f"{n} é.mp4").touch()
    (tmp_path / "a.tar").touch()
    sources = [*(f"{n} é.mp4" for n in range(5)), "a.tar::x.mp4"]
    assert make_catalog(tmp_path, sources).num_chunks("toy") == {"train": 1}


@pytest.mark.parametrize(
    ("yaml", "sources", "parts"),
    [
        ("root: nowhere\n", ["a.mp4"], ["nowhere is no folder", "root 'nowhere' of", "toy.yaml"]),
        ("", ["a.mp4", "b.mp4"], ["2 of the first 2", "/a.mp4, which is source 'a.mp4'", "a.mp4"]),
        ("root: .\n", ["a.tar::x/b.mp4"], ["tried first: ", "/a.tar, which is", "root '.' of"]),
        ('clip_file: "{clip_id}.mp4"\n', ["a.mp4"], ["/a.mp4, which is"]),
        ("", ["a" * 300], ["1 of the first 1 clips", "which is source 'aaa"]),
        (f"root: {'r' * 300}\n", ["a.mp4"], ["rrr is no folder"]),
        ("root: ..\n", ["."], ["1 of the first 1 clips", "which is source '.'"]),
    ],
)
def test_a_list_that_lies_elsewhere_is_refused_with_the_path_tried_first(
    tmp_path, yaml, sources, parts
):
    with pytest.raises(ManifestError) as caught:
        make_catalog(tmp_path, sources, yaml=yaml).num_chunks("toy")
    for part in parts:
        assert part in str(caught.value)


def test_what_is_fetched_elsewhere_or_made_already_is_not_looked_for(tmp_path):
    remote = ["https://example.org/a.mp4", "youtube:abcdefghijk"]
    assert make_catalog(tmp_path, remote, yaml="root: nowhere\n").num_chunks("toy")
    ready = make_catalog(tmp_path, ["a.mp4"], yaml='clip_file: "{clip_id}.mp4"\n')
    (tmp_path / "c0.mp4").touch()
    assert ready.num_chunks("toy")
    (tmp_path / "c0.mp4").unlink()
    (tmp_path / "results/toy/download/train").mkdir(parents=True)
    (tmp_path / "results/toy/download/train/00000.json").touch()
    assert make_catalog(tmp_path, ["a.mp4"]).num_chunks("toy")


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_a_batch_larger_than_the_list_is_refused_by_both_numbers(tmp_path, stage):
    sources = [f"{n}.mp4" for n in range(18)]
    for source in sources:
        (tmp_path / source).touch()
    view = "toy" if stage == "finetune" else ""
    catalog = make_catalog(tmp_path, sources, **{stage: {"batch_size": 64}})
    message = rf"{stage}.batch_size = 64 over 4 ranks, but toy lists 18 clips.* to 18 or less"
    with pytest.raises(ConfigError, match=message):
        check_training(catalog, "avsiam_tiny", stage, view, 4)
    fits = make_catalog(tmp_path, sources, **{stage: {"batch_size": 18}})
    check_training(fits, "avsiam_tiny", stage, view, 1)


def test_a_share_of_the_labels_is_counted_as_it_is_drawn(tmp_path):
    """9 clips of a and 9 of b: 5 % are not one clip, and one of each class is learnt from."""
    sources = [f"{n}.mp4" for n in range(18)]
    for source in sources:
        (tmp_path / source).touch()
    drawn = stratified_subset([(n % 2,) for n in range(18)], 0.05, seed=0)
    assert len(drawn) == 2
    for batch, fits in ((2, True), (3, False)):
        recipe = {"batch_size": batch, "label_fraction": 0.05}
        catalog = make_catalog(tmp_path, sources, labels="ab", finetune=recipe)
        with nullcontext() if fits else pytest.raises(ConfigError, match="lists 2 clips"):
            check_training(catalog, "avsiam_tiny", "finetune", "toy", 1)


def test_losses_name_the_first_clip_its_detail_and_the_ledger(tmp_path):
    path = tmp_path / "toy/transcode/train/00000.ledger.csv"
    rows = [
        LedgerRow("a", "ok"),
        LedgerRow("b", "failed", "corrupt", detail="no moov\natom"),
        LedgerRow("c", "skipped", "unavailable"),
    ]
    first = f"the first: 'b', corrupt: no moov atom ({path})"
    assert describe_losses(rows, path) == f"2 of 3 clips lost: corrupt 1, unavailable 1; {first}"
    assert describe_losses(rows[:1], path) == "0 of 1 clips lost"
    write_ledger(path, rows, 3)
    shard = tmp_path / "toy/shards/train/00000.json"
    assert first_loss(shard) == f"'b', corrupt: no moov atom ({path})"
