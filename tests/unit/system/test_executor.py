"""Where trainings go: to the cluster that the other jobs go to."""

from pipeline_src.system.executor import announce_executor, pick_cluster


def test_training_goes_where_the_other_jobs_go(monkeypatch):
    monkeypatch.delenv("PIPELINE_EXECUTOR", raising=False)
    assert pick_cluster("auto") == "local"
    for executor, cluster in (("slurm", "slurm"), ("local", "local"), ("cluster-generic", "local")):
        monkeypatch.setenv("PIPELINE_EXECUTOR", "local")  # restored afterwards
        announce_executor(executor)
        assert pick_cluster("auto") == cluster
    assert pick_cluster("slurm") == "slurm"
