"""Where a training starts: the same checkpoint on every rank."""

import threading
import time

import pytest
import torch

from pipeline_src.errors import CheckpointError
from pipeline_src.train import resume
from pipeline_src.train.distributed import Ranks
from tests.unit.runs.test_checkpoint import make_model, save

SECOND = Ranks(1, 2, torch.device("cpu"))


@pytest.fixture
def chosen_by_main(monkeypatch):
    """Rank 0 has chosen step 4."""
    monkeypatch.setattr(resume, "from_main", lambda value, ranks: 4)


def test_a_rank_waits_for_a_folder_that_its_file_system_does_not_show_yet(tmp_path, chosen_by_main):
    """Where not even the folder around it was seen, it failed at once."""
    parent = tmp_path / "checkpoints"

    def appear():
        time.sleep(0.5)
        parent.mkdir()
        save(parent, 4, make_model())

    writer = threading.Thread(target=appear)
    writer.start()
    found = resume.resume_point(parent, "f", SECOND)
    writer.join()
    assert found.step == 4


def test_a_folder_that_never_appears_is_named_with_what_to_look_at(
    tmp_path, monkeypatch, chosen_by_main
):
    monkeypatch.setattr(resume, "FOLDER_TIMEOUT_SECONDS", 0.1)
    with pytest.raises(CheckpointError, match=r"rank 0 sees it: is .* on a file system of all"):
        resume.resume_point(tmp_path / "checkpoints", "f", SECOND)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors"])
def test_a_file_that_a_rank_does_not_see_is_named_with_what_to_look_at(
    tmp_path, chosen_by_main, name
):
    parent = tmp_path / "checkpoints"
    save(parent, 4, make_model())
    next(parent.glob(f"*/{name}")).unlink()
    with pytest.raises(CheckpointError, match=rf"{name}: missing.*rank 0 sees it"):
        resume.resume_point(parent, "f", SECOND)
