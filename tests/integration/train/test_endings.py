"""A rank and a scoring with loader processes end, whatever happens to them, and leave nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

from pipeline_src.config import AudioConfig, FinetuneConfig, ModelConfig
from pipeline_src.errors import RunInUseError
from pipeline_src.runs import lease
from pipeline_src.runs.checkpoint import read_checkpoint
from pipeline_src.runs.spec import TrainSpec
from pipeline_src.system.parent import end_with_parent
from pipeline_src.train.log import read_log
from pipeline_src.train.run import run_training
from pipeline_src.train.stop import StopFlag
from tests import media
from tests.unit.train.test_run import make_model

pytestmark = pytest.mark.slow

END_SECONDS = 180  # of a machine that is busy; undisturbed it takes one
RECIPE = {
    "init": "scratch", "epochs": 2000, "batch_size": 2, "warmup_epochs": 0, "amp": False,
    "num_workers": 2, "log_every": 1, "num_frames": 2, "augment": {"noise": 0},
}  # fmt: skip


@pytest.fixture(scope="module")
def index_path(tmp_path_factory):
    """Four clips."""
    folder = tmp_path_factory.mktemp("endings")
    for number, name in enumerate("abcd"):
        media.make_clip(folder / f"{name}.mp4", tone=(0.2 * number, 0.2 * number + 0.3))
    clips = [{"clip_id": k, "source": f"{k}.mp4", "labels": str(n)} for n, k in enumerate("abcd")]
    return media.make_shards(folder, clips, AudioConfig(num_mel_bins=32))


def make_spec(index_path, run_dir, **changes):
    return TrainSpec(
        stage="finetune",
        run_dir=run_dir,
        model=make_model(),
        recipe=FinetuneConfig(**{**RECIPE, **changes}),
        train_indexes=(index_path,),
    )


def hear():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def start(root, *arguments, output=subprocess.PIPE):
    """A Python process that hears Ctrl-C."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=hear,
    )


def wait_until(condition, process):
    deadline = time.monotonic() + 2 * END_SECONDS
    while not condition():
        assert process.poll() is None, process.communicate()[0][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ended(process, children):
    """What it printed, once it and all of its children are gone."""
    try:
        output = process.communicate(timeout=END_SECONDS)[0]
        _, alive = psutil.wait_procs(children, timeout=END_SECONDS)
    finally:
        for left in (process, *children):
            if left.pid and psutil.pid_exists(left.pid):
                left.kill()
    assert not alive
    return output


def one_loader(children):
    children[0].suspend()  # a process that was stopped does not hold up the end either
    children[1].kill()


DISTURB = {
    "dead loader": lambda rank, children: one_loader(children),
    "SIGTERM": lambda rank, children: rank.terminate(),
    "SIGINT": lambda rank, children: rank.send_signal(signal.SIGINT),
    "SIGHUP": lambda rank, children: rank.send_signal(signal.SIGHUP),
    "SIGKILL": lambda rank, children: rank.kill(),
}


@pytest.mark.parametrize(
    "how",
    [
        *("dead loader", "SIGKILL", "SIGHUP"),
        *(pytest.param(how, marks=pytest.mark.exhaustive) for how in ("SIGTERM", "SIGINT")),
    ],
)
def test_a_disturbed_rank_ends_with_its_loaders(index_path, tmp_path, root, how):
    spec = make_spec(index_path, tmp_path)
    rank = start(root, "-m", "pipeline_src.train", spec.save())
    rows = tmp_path / "metrics.jsonl"
    wait_until(lambda: rows.exists() and len(rows.read_text().splitlines()) > 2, rank)
    children = psutil.Process(rank.pid).children()
    assert len(children) == 2
    DISTURB[how](rank, children)
    output = ended(rank, children)
    assert rank.returncode
    assert "Traceback" not in output
    if how == "dead loader":
        assert f"LoaderError: loader process {children[1].pid} was killed by SIGKILL" in output
        assert "Lower num_workers" in output
    elif how != "SIGKILL":
        assert f"{how}: stopping after this step" in output
        assert "state saved" in output
        assert list(tmp_path.glob("checkpoints/step_*/state.json"))


def test_a_rank_whose_loaders_stand_still_says_where_and_continues(index_path, tmp_path, root):
    spec = make_spec(index_path, tmp_path).model_copy(update={"stall_minutes": 0.02})
    said, rows = tmp_path / "said", tmp_path / "metrics.jsonl"
    with said.open("w") as stream:
        rank = start(root, "-m", "pipeline_src.train", spec.save(), output=stream)
    wait_until(lambda: rows.exists() and len(rows.read_text().splitlines()) > 2, rank)
    children = psutil.Process(rank.pid).children()
    assert len(children) == 2
    for loader in children:
        loader.suspend()
    wait_until(lambda: "(most recent call first)" in said.read_text(), rank)
    assert "(submit.stall_minutes), the last was: step " in said.read_text()
    assert "progress again" not in said.read_text()
    for loader in children:
        loader.resume()
    wait_until(lambda: "progress again: step " in said.read_text(), rank)
    rank.terminate()
    ended(rank, children)
    assert "state saved" in said.read_text()
    assert "pipeline_src/loader/processes.py" in said.read_text()  # what it waited for


def test_a_rank_that_diverges_ends_with_its_loaders(index_path, tmp_path, root):
    spec = make_spec(index_path, tmp_path, lr=1e30)
    rank = start(root, "-m", "pipeline_src.train", spec.save())
    output = ended(rank, [])
    assert rank.returncode
    assert "TrainingError: step " in output
    assert "Traceback" not in output


SCORE = """
import os, signal, sys
from pathlib import Path
from pipeline_src.config import RemoteConfig
from pipeline_src.loader.clip_format import ClipFormat
from pipeline_src.loader.dataset import ClipDataset
from pipeline_src.loader.batches import evaluation_batches
from pipeline_src.evaluate.predict import run_over
from pipeline_src.shards.shard_set import open_shards
import torch, psutil, multiprocessing
how = sys.argv[2]
if how == "spawn":
    multiprocessing.set_start_method("spawn")
print("started", flush=True)
wanted = ClipFormat(target_length=16, img_size=16, num_frames=2, logmel_mean=0.0, logmel_std=1.0,
                    training=False)
# More clips than the loaders are ahead: a dead one may not have done all of its work.
indexes = [Path(sys.argv[1])] * (1 if how == "spawn" else 4)
dataset = ClipDataset(open_shards(indexes, RemoteConfig()), wanted)
def step(batch):
    workers = psutil.Process().children()
    print("loaders", *(worker.pid for worker in workers), flush=True)
    if how == "raises": raise ValueError("a defect")
    if how == "dies": workers[0].kill()
    if how == "SIGTERM": os.kill(os.getpid(), signal.SIGTERM)
    return {"sum": batch["logmel"].sum((1, 2))}
if how == "forgotten":  # no context, and the interpreter ends while they run
    kept = evaluation_batches(dataset, batch_size=1, num_workers=2)
    step(next(kept))
    sys.exit("forgotten")
print("scored", len(run_over(dataset, step, batch_size=1, device=torch.device("cpu"),
                             num_workers=2)["sum"]))
"""


@pytest.mark.parametrize(
    "how",
    [
        *("dies", "SIGTERM"),
        *(pytest.param(h, marks=pytest.mark.exhaustive) for h in ("forgotten", "spawn", "raises")),
    ],
)
def test_scoring_ends_with_its_loaders(index_path, tmp_path, root, how):
    script = tmp_path / "score.py"  # as Snakemake runs one: nothing guards its lines
    script.write_text(SCORE)
    scoring = start(root, script, index_path, how)
    output = ended(scoring, [])
    said_pids = [line for line in output.splitlines() if line.startswith("loaders ")]
    pids = [int(pid) for line in said_pids for pid in line.split()[1:]]
    deadline = time.monotonic() + END_SECONDS
    while any(psutil.pid_exists(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if how == "spawn":
        assert output.count("started") == 1  # the script's own lines did not run in the loaders
        assert "scored 4" in output
        return
    assert len(pids) >= 2, output
    assert scoring.returncode
    said = {
        "raises": "ValueError: a defect",
        "dies": "LoaderError: loader process",
        "forgotten": how,
    }
    assert said.get(how, "") in output


WAIT = (
    "import os, sys, time; from pipeline_src.system.parent import end_with_parent\n"
    "end_with_parent(os.getppid(), asks_kernel={asks}); print(os.getpid(), flush=True)\n"
    "time.sleep(600)"
)
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"


@pytest.mark.parametrize("asks", [True, False])
def test_a_process_ends_with_its_parent_on_every_system(root, asks):
    parent = start(root, "-c", PARENT, WAIT.format(asks=asks))
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    assert child in psutil.wait_procs([child], timeout=END_SECONDS)[0]


def test_a_parent_that_was_gone_before_is_noticed(root):
    code = (
        "from pipeline_src.system.parent import end_with_parent; end_with_parent(1 << 22); input()"
    )
    child = start(root, "-c", code)
    ended(child, [])
    assert child.returncode == -signal.SIGKILL
    assert end_with_parent.__doc__


def test_another_number_of_threads_is_part_of_the_record_and_said(
    index_path, tmp_path, caplog, monkeypatch
):
    spec = make_spec(index_path, tmp_path, epochs=3, num_workers=0, save_every_seconds=1e-6)
    done = run_training(spec, StopFlag())
    newest = sorted(tmp_path.glob("checkpoints/step_*"))[-1]
    state = read_checkpoint(newest).state
    assert state["num_threads"] >= 1
    done.unlink()
    earlier = sorted(tmp_path.glob("checkpoints/step_*"))[-2]
    for folder in (newest, tmp_path / "checkpoint"):
        shutil.rmtree(folder)
    other = {**json.loads((earlier / "state.json").read_text()), "num_threads": 7}
    (earlier / "state.json").write_text(json.dumps(other))
    run_training(spec, StopFlag())
    assert f"{earlier} was saved by ranks of 7 CPU threads, this one has " in caplog.text
    assert len(read_log(tmp_path / "metrics.jsonl")) == 6


@pytest.fixture(scope="module")
def one_clip(tmp_path_factory):
    """A validation split of a single clip."""
    folder = tmp_path_factory.mktemp("one_clip")
    media.make_clip(folder / "v.mp4")
    clips = [{"clip_id": "v", "source": "v.mp4", "labels": "1"}]
    return media.make_shards(folder, clips, AudioConfig(num_mel_bins=32))


SYNC = ModelConfig(
    method="cav_mae_sync",
    size="tiny",
    img_size=32,
    target_length=32,
    overrides={**make_model().overrides, "clip_length": 64, "num_segments": 2},
)


@pytest.mark.parametrize(
    ("parallel", "model"), [("ddp", SYNC), ("fsdp", make_model())], ids=["ddp", "fsdp"]
)
def test_validation_of_fewer_clips_than_ranks_gives_a_score(
    index_path, one_clip, tmp_path, root, parallel, model
):
    """Ranks that share the network gather it together, so each takes as many batches.

    With all heads the second step of CAV-MAE Sync failed on every rank: one head has no gradient.
    """
    spec = make_spec(
        index_path,
        tmp_path,
        epochs=2,
        num_workers=1,  # the loader of the validation's clips is a process, too
        parallel=parallel,
        all_heads=True,
        num_frames=1 if model == SYNC else RECIPE["num_frames"],
    )
    spec = spec.model_copy(update={"val_indexes": (one_clip,), "model": model})
    options = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    output = ended(start(root, *options, "-m", "pipeline_src.train", spec.save()), [])
    assert (tmp_path / "done.json").exists(), output[-3000:]
    scores = [row["val"] for row in read_log(tmp_path / "metrics.jsonl") if "val" in row]
    assert scores
    assert set(scores[-1].values()) <= {0.0, 1.0}


def test_a_rank_by_hand_is_refused_where_somebody_trains(index_path, tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "GRACE_SECONDS", 0.1)
    spec = make_spec(index_path, tmp_path, num_workers=0)
    spec.save()
    (tmp_path / "metrics.jsonl").write_text("")
    with lease.held(tmp_path):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(RunInUseError, match=f"{tmp_path} is being trained by process"):
            run_training(spec, StopFlag())
        assert sorted(tmp_path.rglob("*")) == before
