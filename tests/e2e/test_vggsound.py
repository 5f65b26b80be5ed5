"""``snakemake eval_vggsound``: the official list, first without any clip, then with a mirror."""

import csv
import json

import pytest

from tests.media import make_clip
from tests.workspace import Workspace

pytestmark = pytest.mark.e2e
NUM_CLASSES = 309
SMALL = ("--configfile", "config/test/tiny.yaml", "--config", "datasets=[vggsound]")
IMPATIENT = (
    "download={max_attempts: 1}",
    "rate_limits={host_requests_per_second: {youtube.com: 0}, requests_per_second: 0}",
)


@pytest.fixture(scope="module")
def listed(tmp_path_factory, shell_env):
    """A copy with lists of VGGSound's form: 20 clips of ten sounds, commas in the labels."""
    workspace = Workspace.make(tmp_path_factory.mktemp("vggsound"), shell_env)
    folder = workspace.root / "config/datasets"
    names = [f"sound {index}, of a kind" for index in range(NUM_CLASSES)]
    with (folder / "vggsound_classes.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["index", "mid", "display_name"])
        writer.writerows([index, f"/m/{index}", name] for index, name in enumerate(names))
    with (folder / "vggsound.csv").open("w", newline="") as stream:
        for number in range(20):
            split = "train" if number < 12 else "test"
            csv.writer(stream).writerow(
                [f"--id{number:02d}_-xyz", 10 * number, names[30 * (number % 10)], split]
            )
    return workspace


def test_clips_that_cannot_be_had_end_with_counts_and_reasons(listed):
    env = listed.env | {"PIPELINE_PROXY": "http://127.0.0.1:9"}  # nobody listens: nothing leaves
    cut_off = Workspace(listed.root, env)
    output = cut_off.snakemake(*SMALL, *IMPATIENT, "--", "eval_vggsound", fails=True)
    assert "StageError: vggsound/train: 12 of 12 clips lost: network 12" in output
    assert "Traceback" not in output


@pytest.mark.exhaustive
def test_a_folder_of_ready_cut_clips_gives_metrics(listed):
    folder = listed.root / "data/raw/vggsound"
    folder.mkdir(parents=True)
    for number in range(20):
        name = f"--id{number:02d}_-xyz_{10 * number:06d}.mp4"
        make_clip(folder / name, seconds=2, tone=(0.0, 0.1 + number / 10))
    listed.snakemake(*SMALL, "--forcerun", "download_clips", "--", "eval_vggsound")
    path = listed.root / "results/test/avsiam_tiny/eval/vggsound/metrics.json"
    metrics = json.loads(path.read_text())
    assert metrics["num_clips"] == metrics["num_clips_in_list"] == 8
    assert metrics["audio_video"]["accuracy"]["value"] <= 1
    assert metrics["retrieval"]["gallery_size"] == 8  # at most five of each class
    index = json.loads((listed.root / "results/test/vggsound/shards/test/index.json").read_text())
    assert len(index["class_names"]) == NUM_CLASSES
    assert index["retrieval_per_class"] == 5
