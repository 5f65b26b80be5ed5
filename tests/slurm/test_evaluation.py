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
NUM_LOADERS = 2  # evaluate.num_workers of config/test/tiny.yaml; its batches are for both of them
# Both evaluations are queued, and disturbed, together: of what this costs, most is the waiting.
BOTH = (*SLURM, "--retries", "0", "--", *SCORES.values())


def take_scores(workspace, rule: str) -> dict:
    """What was written but for how long it took; afterwards it is to be made again."""
    path = workspace.root / SCORES[rule]
    written = json.loads(path.read_text())
    path.unlink()
    return {key: value for key, value in written.items() if key != "seconds"}


@pytest.fixture(scope="module")
def undisturbed(prepared):
    """The scores of the built run, which are to be made again from here on."""
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
    cluster.run("scancel", evaluation.environ()["SLURM_JOB_ID"])


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(
            {FINETUNED: kill_a_loader, PRETRAINED: kill_a_loader}, marks=pytest.mark.exhaustive
        ),
        {FINETUNED: cancel_its_job, PRETRAINED: kill_it},
    ],
    ids=["dead loaders", "cancelled and killed"],
)
def test_a_disturbed_evaluation_ends_whole(prepared, cluster, undisturbed, faults):
    workflow = prepared.start(*BOTH)
    stopped = {rule: stopped_with_loaders(prepared, rule) for rule in faults}
    for rule, fault in faults.items():
        evaluation, loaders = stopped[rule]
        fault(cluster, evaluation, loaders)
        _, left = psutil.wait_procs([evaluation, *loaders], timeout=30)
        assert not left
    workflow.communicate(timeout=TIMEOUT_SECONDS)
    assert workflow.returncode != 0
    for rule, fault in faults.items():
        assert not (prepared.root / SCORES[rule]).exists()
        if fault is kill_a_loader:
            log = prepared.root / f"results/test/logs/{rule}/avsiam_tiny/digits.log"
            died = f"loader process {stopped[rule][1][0].pid} was killed by SIGKILL"
            assert died in log.read_text()


def test_the_same_command_makes_the_scores_of_an_undisturbed_run(prepared, undisturbed):
    prepared.snakemake(*BOTH)
    assert {rule: take_scores(prepared, rule) for rule in SCORES} == undisturbed
    assert [its_processes(prepared, rule) for rule in SCORES] == [[], []]
