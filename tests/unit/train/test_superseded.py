"""Where a training starts in a folder that another configuration has used."""

import json
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline_src.runs.spec import is_trained, saved_progress
from pipeline_src.system.atomic import file_sha256
from pipeline_src.train.superseded import recall

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


class KilledError(Exception):
    """The process ends in the middle of a move."""


@pytest.mark.parametrize("wanted", ["a", "b"])
@pytest.mark.parametrize("num_moves", range(14))
def test_a_move_that_was_cut_short_is_ended_by_the_next_start(
    tmp_path, monkeypatch, num_moves, wanted
):
    """Files of one training lay in two places, and every later start failed on what it missed."""
    fill(tmp_path, "a")
    recall(tmp_path, "b")
    fill(tmp_path, "b", step=1, published=False)
    rename, left = Path.rename, [num_moves]

    def killed(path, target):
        if not left[0]:
            raise KilledError
        left[0] -= 1
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        try:  # twelve: three of b and seven of a, and their folders'
            recall(tmp_path, "a")
        except KilledError:
            pass
        else:
            assert num_moves >= 12
    recall(tmp_path, wanted)
    assert set(owners(tmp_path).values()) == {wanted}
    assert len(owners(tmp_path)) == (7 if wanted == "a" else 3)
    (other,) = (tmp_path / "superseded").iterdir()
    assert other.name.isdecimal()


def fill_with_two(folder):
    """Write what version 0.1 left: published by a, and b's checkpoints and log."""
    fill(folder, "a")
    shutil.rmtree(folder / "checkpoints")
    fill(folder / "b", "b", step=1, published=False)
    shutil.copytree(folder / "b", folder, dirs_exist_ok=True)
    shutil.rmtree(folder / "b")


@pytest.mark.parametrize("between", ["", "c", "as one"])
@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("a", ["checkpoint/model.safetensors", "done.json", "history.csv", "validation.csv"]),
        ("b", ["checkpoints/step_00000001/model.safetensors", "loggers.json", "metrics.jsonl"]),
    ],
)
def test_weights_that_a_later_training_was_started_beside_do_not_get_its_curve(
    tmp_path, wanted, between, expected
):
    """Another configuration may come between, and older code may have set both aside as one."""
    if between == "as one":
        fill_with_two(tmp_path / "superseded/000")
    else:
        fill_with_two(tmp_path)
    if between == "c":
        recall(tmp_path, "c")
        fill(tmp_path, "c", step=2, published=False)
    recall(tmp_path, wanted)
    found = owners(tmp_path)
    assert sorted(found) == expected
    assert set(found.values()) == {wanted}


def test_somebodys_own_files_stay_where_they_were_set_aside(tmp_path):
    fill(tmp_path, "a")
    recall(tmp_path, "b")
    (tmp_path / "superseded/000/notes.txt").write_text("mine")
    recall(tmp_path, "a")
    assert saved_progress(tmp_path, "a") == (3, 3)
    assert (tmp_path / "superseded/000/notes.txt").read_text() == "mine"


def test_of_two_that_were_set_aside_the_whole_one_is_brought_back(tmp_path):
    for step in (3, 2):
        fill(tmp_path, "a", step=step, published=step == 3)
        recall(tmp_path, "b")
    assert is_trained(tmp_path, "a")  # so that nobody asks for a GPU to move files
    recall(tmp_path, "a")
    assert saved_progress(tmp_path, "a") == (3, 3)
    assert is_trained(tmp_path, "a")


def test_of_two_that_were_set_aside_the_one_with_whole_weights_is_brought_back(tmp_path):
    """The end, whose weights are gone, was brought back, and all steps made again."""
    fill(tmp_path, "a")
    for path in tmp_path.rglob("model.safetensors"):
        path.unlink()
    recall(tmp_path, "b")
    fill(tmp_path, "a", step=2, published=False)
    recall(tmp_path, "b")
    recall(tmp_path, "a")
    assert saved_progress(tmp_path, "a") == (2, 3)


@pytest.fixture
def other_disk(tmp_path):
    """A folder on another file system than ``tmp_path``."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system here: /dev/shm is on Linux, as CI is")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def test_what_was_set_aside_may_lie_on_another_disk(tmp_path, other_disk):
    folder = tmp_path / "run"
    fill(folder, "a")
    (folder / "superseded").symlink_to(other_disk)
    whole = owners(folder)
    recall(folder, "b")
    assert owners(folder) == {}
    fill(folder, "b", step=1, published=False)
    recall(folder, "a")
    assert owners(folder) == whole


@pytest.mark.parametrize("num_steps", range(0, 40, 3))
@pytest.mark.parametrize("step_of", ["set aside", "taken back"])
def test_a_kill_between_two_disks_loses_nothing(
    tmp_path, other_disk, monkeypatch, num_steps, step_of
):
    """Half a copy was taken for a training of its own."""
    folder = tmp_path / "run"
    fill(folder, "a")
    whole = owners(folder)
    (folder / "superseded").symlink_to(other_disk)
    if step_of == "taken back":
        recall(folder, "b")
    rename, copy, remove, left = Path.rename, shutil.copy2, shutil.rmtree, [num_steps]

    def counted(function):
        def call(*arguments, **options):
            if not left[0]:
                raise KilledError
            left[0] -= 1
            return function(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", counted(rename))
        patch.setattr(shutil, "copy2", counted(copy))
        patch.setattr(shutil, "rmtree", counted(remove))
        with suppress(KilledError):
            recall(folder, "b" if step_of == "set aside" else "a")
    recall(folder, "a")
    assert owners(folder) == whole
    assert not list(other_disk.iterdir())


def test_a_relative_link_leads_to_the_same_place_from_where_it_is_set_aside(tmp_path):
    """It led nowhere, and the training began again without a word."""
    folder = tmp_path / "run"
    fill(folder, "a", step=2, published=False)
    (folder / "checkpoints").rename(tmp_path / "scratch")
    (folder / "checkpoints").symlink_to("../scratch")
    recall(folder, "b")
    assert saved_progress(folder / "superseded/000", "a") == (2, 3)
    recall(folder, "a")
    assert saved_progress(folder, "a") == (2, 3)


@pytest.mark.parametrize("moved", ["checkpoints", "checkpoints/step_00000002", "metrics.jsonl"])
@pytest.mark.parametrize("place", ["bulk", "superseded/kept"])
def test_a_link_to_a_folder_of_the_run_that_stays_leads_there_afterwards(tmp_path, moved, place):
    """Also one that lies in what is moved; and what a link leads to is not looked into."""
    folder = tmp_path / "run"
    fill(folder, "a", step=2, published=False)
    link, there = folder / moved, folder / place / "it"
    there.parent.mkdir(parents=True)
    link.rename(there)
    if there.is_dir():
        (there / "newest").symlink_to("state.json")
    link.symlink_to(os.path.relpath(there, link.parent))
    before = saved_progress(folder, "a"), (folder / "metrics.jsonl").read_text()
    recall(folder, "b")
    assert saved_progress(folder, "a") == (0, 1)
    recall(folder, "a")
    assert (saved_progress(folder, "a"), (folder / "metrics.jsonl").read_text()) == before
    if there.is_dir():
        assert (there / "newest").readlink() == Path("state.json")


def test_a_link_to_what_moves_along_stays_relative(tmp_path):
    folder = tmp_path / "run"
    fill(folder, "a", step=2, published=False)
    (folder / "tensorboard").symlink_to("checkpoints")
    recall(folder, "b")
    assert (folder / "superseded/000/tensorboard").readlink() == Path("checkpoints")


def test_links_go_to_another_disk_and_back(tmp_path, other_disk):
    """Neither a folder that is a link nor one with a link to nowhere in it could be moved."""
    folder, scratch = tmp_path / "run", tmp_path / "scratch"
    fill(folder, "a")
    (folder / "checkpoints").rename(scratch)
    (folder / "checkpoints").symlink_to(scratch)
    (folder / "tensorboard").mkdir()
    (folder / "tensorboard/latest").symlink_to("gone")
    (folder / "superseded").symlink_to(other_disk)
    whole = owners(folder)
    recall(folder, "b")
    assert not (folder / "checkpoints").is_symlink()
    fill(folder, "b", step=1, published=False)
    recall(folder, "a")
    assert owners(folder) == whole
    assert (folder / "checkpoints").readlink() == scratch
    assert (folder / "tensorboard/latest").is_symlink()


@pytest.mark.parametrize("ending", ["whole", "back"])
def test_a_move_that_was_cut_short_before_others_trained_here_is_given_up(tmp_path, ending):
    """Two files of one name ended every later start."""
    moving = tmp_path / f"superseded/000.{ending}"
    fill(moving, "a")
    fill(tmp_path, "b")
    recall(tmp_path, "b")
    assert set(owners(tmp_path).values()) == {"b"}
    recall(tmp_path, "a")
    assert set(owners(tmp_path).values()) == {"a"}
    assert saved_progress(tmp_path / "superseded/001", "b") == (3, 3)
