"""The lock of the results, held by another process or out of reach: one sentence each."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline_src.errors import StageError
from pipeline_src.system.lock import hold_results, refuse_if_held

OTHER_USER = 65534
HOLD = (
    "import sys, pathlib, pipeline_src.system.lock as l; l.hold_results(pathlib.Path(sys.argv[1]))"
)


def hold_elsewhere(folder, root):
    code = HOLD + "; print('held', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.slow
def test_a_held_folder_is_refused_and_free_again_after_kill_9(tmp_path, root):
    holder = hold_elsewhere(tmp_path, root)
    with pytest.raises(StageError, match=f"in use by process {holder.pid} on .*--config results="):
        hold_results(tmp_path)
    holder.kill()
    holder.wait()
    hold_results(tmp_path)


@pytest.mark.parametrize("hold", [hold_results, refuse_if_held])
def test_results_below_a_file_are_refused(tmp_path, hold):
    (tmp_path / "file").touch()
    with pytest.raises(StageError, match=r"cannot be written: .* --config results=<folder>"):
        hold(tmp_path / "file" / "results")


@pytest.mark.slow
def test_a_lock_that_is_not_ones_own_names_its_owner(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o755)
    (tmp_path / "results").mkdir()
    (tmp_path / "results/.lock").touch()
    (tmp_path / "results/.lock").chmod(0o444)
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        if os.getuid() == 0:  # who may write anything
            os.setuid(OTHER_USER)
        try:
            hold_results(Path("results"))
        except StageError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as said:
        message = said.read()
    assert "results cannot be written: results/.lock is user " in message
    assert "--config results=<folder>" in message
