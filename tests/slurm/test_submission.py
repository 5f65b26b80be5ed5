"""What a submitted job runs and inherits."""

import json

import pytest

from tests.slurm.training import SLURM, TWO_NODES, Training

pytestmark = [pytest.mark.slurm, pytest.mark.slow]
BROKEN = "raise RuntimeError('edited after the job was submitted')\n"


def test_a_queued_job_runs_the_code_that_it_was_submitted_with(prepared, cluster):
    training = Training(prepared, "frozen")
    edited = prepared.root / "pipeline_src/train/loop.py"
    source = edited.read_text()
    cluster.run("scontrol", "update", "PartitionName=main", "State=DOWN")
    try:
        workflow = training.start()
        training.wait_until(lambda: "PENDING" in cluster.jobs().values())
        training.wait_until((training.folder / "job.json").is_file)
        edited.write_text(BROKEN + source)
        cluster.run("scontrol", "update", "PartitionName=main", "State=UP")
        output = training.ends_well(workflow)
    finally:
        edited.write_text(source)
        cluster.run("scontrol", "update", "PartitionName=main", "State=UP")
    assert "PENDING (PartitionDown)" in output
    state = json.loads(next(training.folder.glob("checkpoints/*/state.json")).read_text())
    assert state["git_commit"] == "unknown"  # the copy has no git: the frozen answer, not a guess
    written = [path for path in training.folder.glob("jobs/*") if path.is_file()]
    assert {".out", ".sh", ".pkl"} <= {path.suffix for path in written}
    assert [path.name for path in written if path.stat().st_mode & 0o77] == []


@pytest.mark.exhaustive
def test_the_head_job_may_itself_be_a_job_of_an_array(prepared, cluster):
    """Its pinning, array number and ranks do not reach the jobs that it submits."""
    training = Training(prepared, "headed")
    leaks = {"SLURM_CPU_BIND": "mask_cpu:0x1", "SLURM_TRES_PER_TASK": "cpu:3", "RANK": "7"}
    exported = ",".join(["ALL", *(f"{name}={value}" for name, value in leaks.items())])
    submitted = prepared.run(
        "sbatch", "--parsable", "--array=4-4", f"--export={exported}", "--output=head.log",
        "profiles/slurm/head_job.sh", *training.command()[2:],
    )  # fmt: skip
    head = submitted.strip()
    training.wait_until(lambda: not any(name.startswith(head) for name in cluster.jobs()))
    log = (prepared.root / "head.log").read_text()
    assert (training.folder / "done.json").is_file(), log[-4000:]
    job = training.job_id()
    assert "_" not in job
    line = cluster.run("scontrol", "show", "job", "--oneliner", job)
    assert "NumNodes=2 " in line
    assert "JobState=COMPLETED" in line


def test_a_training_that_diverges_is_not_tried_again(prepared, cluster):
    runs = "runs={diverging: {pretrain: {lr: 1e30}}}"
    output = prepared.snakemake(*SLURM, *TWO_NODES, "--config", runs, "--", "pretrain", fails=True)
    assert "\nTrainingError: step " in output
    assert "is not finite; the step was not taken" in output
    assert "Traceback" not in output
    logs = prepared.root.glob("results/test/diverging/pretrain/jobs/*_0_log.out")
    assert len(list(logs)) == 1


def test_a_batch_that_the_ranks_cannot_share_is_refused(prepared):
    three = [word.replace("nodes=2", "nodes=3") for word in TWO_NODES]
    runs = "runs={uneven: {}}"
    output = prepared.snakemake(*SLURM, *three, "--config", runs, "--", "pretrain", fails=True)
    assert "pretrain.batch_size=8 is not divisible by 3 ranks (nodes=3" in output
    assert "Traceback" not in output


def test_a_node_whose_gpus_do_not_work_ends_the_training_by_name(prepared):
    overrides = ("submit={without_gpu: fail}", "runs={no_gpu: {}}")
    one_gpu = ("--set-resources", "pretrain_model:gpus_per_node=1")
    target = "results/test/no_gpu/pretrain/done.json"
    output = prepared.snakemake(*SLURM, *one_gpu, "--config", *overrides, "--", target, fails=True)
    assert "\nTrainingError: 1 GPUs were asked for, and none works on" in output
    assert "slurm_extra: --exclude" in output
    assert "pretrain_model goes without the Slurm profile's cpus_per_task, mem_mb" in output
    assert "Traceback" not in output
    logs = prepared.root.glob("results/test/no_gpu/pretrain/jobs/*_0_log.out")
    assert len(list(logs)) == 1  # not tried again


def test_what_slurm_refuses_is_said_in_its_words(prepared):
    runs = "runs={nowhere: {}}"
    nowhere = ("--set-resources", "pretrain_model:slurm_partition=nowhere")
    output = prepared.snakemake(*SLURM, *nowhere, "--config", runs, "--", "pretrain", fails=True)
    assert "slurm refused the job of results/test/nowhere/pretrain" in output
    assert "invalid partition specified: nowhere" in output
    assert "Traceback" not in output
