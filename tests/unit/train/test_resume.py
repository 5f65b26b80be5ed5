"""Where a training starts in a folder that another configuration has used."""

import json

import pytest

from pipeline_src.runs.spec import is_trained, saved_progress
from pipeline_src.system.atomic import file_sha256
from pipeline_src.train.resume import recall

FILES = ("done.json", "history.csv", "validation.csv", "metrics.jsonl", "loggers.json")


def fill(run_dir, fingerprint, *, step=3, published=True):
    """Write what a training of 3 steps leaves, its files marked with its fingerprint."""
    folders = [f"checkpoints/step_{step:08d}", *(["checkpoint"] if published else [])]
    for name in folders:
        folder = run_dir / name
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_text(fingerprint)
        hashes = {"model.safetensors": file_sha256(folder / "model.safetensors")}
        state = {"fingerprint": fingerprint, "step": step, "num_steps": 3, "sha256": hashes}
        (folder / "state.json").write_text(json.dumps(state))
    for name in FILES if published else FILES[-2:]:
        (run_dir / name).write_text(fingerprint)


def owners(run_dir):
    """Return whose each file of the folder is, apart from those set aside."""
    files = [path for path in run_dir.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(run_dir)): path.read_text()
        for path in files
        if "superseded" not in path.parts and path.name != "state.json"
    }


def test_a_configuration_that_is_taken_back_has_its_own_records(tmp_path):
    """A's weights were published with the log, and so the curve, of B that had begun meanwhile."""
    fill(tmp_path, "a")
    whole = owners(tmp_path)
    recall(tmp_path, "b")
    assert owners(tmp_path) == {}
    fill(tmp_path, "b", step=1, published=False)
    recall(tmp_path, "a")
    assert owners(tmp_path) == whole
    assert saved_progress(tmp_path, "a") == (3, 3)
    recall(tmp_path, "b")
    assert set(owners(tmp_path).values()) == {"b"}
    assert saved_progress(tmp_path, "b") == (1, 3)


def test_a_training_of_ones_own_is_left_where_it_is(tmp_path):
    fill(tmp_path, "a", step=2, published=False)
    before = owners(tmp_path)
    recall(tmp_path, "a")
    assert owners(tmp_path) == before
    assert not (tmp_path / "superseded").exists()


@pytest.mark.parametrize("damage", ["missing", "other bytes"])
def test_an_end_whose_weights_are_damaged_is_none(tmp_path, damage):
    """It was trained again where it was asked for: on the login node, without a GPU."""
    fill(tmp_path, "a")
    assert is_trained(tmp_path, "a")
    assert not is_trained(tmp_path, "b")
    for path in tmp_path.rglob("model.safetensors"):
        path.unlink() if damage == "missing" else path.write_text("b")
    assert not is_trained(tmp_path, "a")
