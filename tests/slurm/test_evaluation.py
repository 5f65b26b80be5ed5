"""What clusters do to an evaluation: it ends whole, and the same command finishes."""

import json
import time

import psutil
import pytest

from tests.slurm.training import SLURM, TIMEOUT_SECONDS

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

FINETUNED, PRETRAINED = "evaluate_finetuned", "evaluate_pretrained"
SCORES = {
    FINETUNED: "results/test/avsiam_tiny/eval/digits/metrics.json",
    PRETRAINED: "results/test/avsiam_tiny/probe/digits/metrics.json",
}
NUM_LOADERS = 2  # evaluate.num_workers of config/test/tiny.yaml; the batches are for both of them
ONCE = (*SLURM, "--retries", "0", "--config", "evaluate={batch_size: 2}", "--")


def take_scores(workspace, rule: str) -> dict:
    """What was written but for how long it took; afterwards it is to be made again."""
    path = workspace.root / SCORES[rule]
    written = json.loads(path.read_text())
    path.unlink()
    return {key: value for key, value in written.items() if key != "seconds"}


@pytest.fixture(scope="module")
def undisturbed(prepared):
    """The scores that every case must have."""
    for path in SCORES.values():
        (prepared.root / path).unlink()
    prepared.snakemake(*ONCE, *SCORES.values())
    return {rule: take_scores(prepared, rule) for rule in SCORES}


def its_processes(workspace, rule: str) -> list[psutil.Process]:
    """The evaluation's process and, forks of it, its loaders."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "cwd"])
        if process.info["cwd"] == str(workspace.root)
        and any(word.endswith(f"{rule}.py") for word in process.info["cmdline"] or [])
    ]


def stopped_with_loaders(workspace, rule: str) -> tuple[psutil.Process, list[psutil.Process]]:
    """Stop an evaluation as soon as it has its loaders: it would be done in no time."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        for process in its_processes(workspace, rule):
            try:
                loaders = process.children()
                if len(loaders) == NUM_LOADERS:
                    process.suspend()
                    return process, loaders
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.01)
    raise AssertionError("no evaluation with loaders was seen")


def kill_a_loader(cluster, evaluation, loaders) -> None:
    loaders[0].kill()
    evaluation.resume()


def kill_it(cluster, evaluation, loaders) -> None:
    evaluation.kill()


def cancel_its_job(cluster, evaluation, loaders) -> None:
    (job_id,) = cluster.jobs()
    cluster.run("scancel", job_id)


@pytest.mark.parametrize(
    ("rule", "fault"),
    [(FINETUNED, kill_a_loader), (FINETUNED, cancel_its_job), (PRETRAINED, kill_it)],
)
def test_an_evaluation_ends_and_is_made_again(prepared, cluster, undisturbed, rule, fault):
    workflow = prepared.start(*ONCE, SCORES[rule])
    evaluation, loaders = stopped_with_loaders(prepared, rule)
    fault(cluster, evaluation, loaders)
    _, left = psutil.wait_procs([evaluation, *loaders], timeout=30)
    assert not left
    workflow.communicate(timeout=TIMEOUT_SECONDS)
    assert workflow.returncode != 0
    assert not (prepared.root / SCORES[rule]).exists()
    if fault is kill_a_loader:
        log = prepared.root / f"results/test/logs/{rule}/avsiam_tiny/digits.log"
        assert f"loader process {loaders[0].pid} was killed by SIGKILL" in log.read_text()
    prepared.snakemake(*ONCE, SCORES[rule])
    assert take_scores(prepared, rule) == undisturbed[rule]
    assert its_processes(prepared, rule) == []
