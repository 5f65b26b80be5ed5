"""Where processes start by spawn and no core can be counted, as on macOS, everything works too."""

import json
import subprocess
import sys

import pytest

from pipeline_src.system.cores import num_cores
from pipeline_src.train.run import run_training
from pipeline_src.train.stop import StopFlag
from tests.unit.train.test_run import index_path, pretrain_spec, rows  # noqa: F401

pytestmark = pytest.mark.slow

# Linux with what macOS lacks taken away, before anything of ours is imported.
SCRIPT = """
import multiprocessing, os, sys
del os.sched_getaffinity
from pathlib import Path

def main():
    multiprocessing.set_start_method("spawn")
    from pipeline_src.loader import batches as loader
    loader.CAN_SHARE = False  # follows sys.platform
    from pipeline_src.config import SubmitConfig
    from pipeline_src.runs.spec import load_spec
    from pipeline_src.shards.verify import verify
    from pipeline_src.submit.request import JobRequest
    from pipeline_src.submit.run import run_and_wait
    from pipeline_src.train.run import run_training
    from pipeline_src.train.stop import StopFlag
    by_hand, as_a_job = (load_spec(Path(path)) for path in sys.argv[1:])
    run_training(by_hand, StopFlag())
    assert list(verify(by_hand.train_indexes, num_decoded=-1, num_workers=1)) == []
    run_and_wait(as_a_job, SubmitConfig(cluster="local"), JobRequest(), threads=1)

if __name__ == "__main__":
    main()
"""


@pytest.mark.exhaustive
def test_training_verify_and_waiter_work_where_processes_are_spawned(index_path, tmp_path):  # noqa: F811
    specs = [
        pretrain_spec(index_path, tmp_path / name, num_workers=num_workers, log_every=1)
        for name, num_workers in (("here", 0), ("spawned", 2), ("job", 0))
    ]
    run_training(specs[0], StopFlag())
    paths = []
    for spec in specs[1:]:
        spec.run_dir.mkdir()
        paths.append(spec.save())
    script = tmp_path / "as_on_macos.py"
    script.write_text(SCRIPT)
    subprocess.run([sys.executable, script, *paths], check=True, timeout=300)
    curves = [[row["loss"] for row in rows(spec.run_dir)] for spec in specs]
    assert curves[0] == curves[1] == curves[2]
    hashes = {json.loads((s.run_dir / "done.json").read_text())["sha256"] for s in specs}
    assert len(hashes) == 1


def test_cores_are_counted_where_no_affinity_is_known(monkeypatch):
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert num_cores() == 1
