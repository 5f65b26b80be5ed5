"""A disk that fills up in a stage: the reason is said, nothing half-written stays, it continues."""

import os
import shutil
import subprocess

import pytest

from tests.workspace import Workspace

pytestmark = pytest.mark.e2e
TINY = ("--workflow-profile", "test")
ROOMY = "64m"


@pytest.fixture
def small_disk(tmp_path, shell_env):
    """A copy whose results lie on a file system of a chosen size; sizes it anew when called."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root, which CI has")
    workspace = Workspace.make(tmp_path, shell_env)
    folder = workspace.root / "results/test"
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("root may not mount a tmpfs in this container; .ci/run's machine allows it")

    def resize(size):
        subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)

    yield workspace, resize
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def used_kib(folder):
    return int(
        subprocess.run(["du", "-sk", folder], capture_output=True, text=True).stdout.split()[0]
    )


@pytest.mark.parametrize(
    "stage", [pytest.param("transcode", marks=pytest.mark.exhaustive), "pretrain"]
)
def test_a_full_disk_is_named_and_the_run_continues_when_there_is_room(small_disk, built, stage):
    workspace, resize = small_disk
    folder = workspace.root / "results/test"
    resize(ROOMY)
    target, room_kib = {
        "transcode": ("shards_digits", 150),
        "pretrain": ("pretrain", 1500),  # for the code, not for a checkpoint
    }[stage]
    if stage == "transcode":
        workspace.snakemake(*TINY, "download_digits")
    else:
        built.copy_results_to(workspace)
        shutil.rmtree(folder / "avsiam_tiny")
    resize(f"{used_kib(folder) + room_kib}k")
    output = workspace.snakemake(*TINY, target, fails=True)
    assert "disk full: " in output
    assert "free space and run the same command again" in output
    assert not list(folder.rglob("*.part"))
    resize(ROOMY)
    workspace.snakemake(*TINY, target)
    for index in built.root.glob("results/test/digits/shards/*/index.json"):
        assert (
            folder / index.relative_to(built.root / "results/test")
        ).read_text() == index.read_text()
