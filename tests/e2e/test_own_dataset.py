"""A data set of one's own, outside the repository: two files and no code, from clips to metrics."""

import json
import subprocess

import pytest

from pipeline_src.transcode.ffmpeg import find_ffmpeg
from tests.workspace import Workspace

pytestmark = pytest.mark.e2e

# Sound and picture are linked: each class has its own pitch and its own colour.
CLASSES = {"red": 300, "lime": 700, "blue": 1500, "yellow": 3000}
PER_CLASS = {"train": 6, "val": 2, "test": 2}


def write_data_set(folder):
    rows, number = [], 0
    for split, count in PER_CLASS.items():
        for colour, pitch in CLASSES.items():
            for _ in range(count):
                name = f"clip {number}.mp4"
                make_clip(folder / "videos" / name, colour, pitch + number, noise_seed=number)
                rows.append(f"my/{number}.x,{name},,,{colour},{split}")
                number += 1
    header = "clip_id,source,start_seconds,end_seconds,labels,split\n"
    (folder / "list.csv").write_text(header + "\n".join(rows) + "\n")
    path = folder / "colours.yaml"
    path.write_text(
        "name: colours\ntask: multiclass\nclip_list: list.csv\nroot: videos\n"
        "licence: made by a test\n"
    )
    return path


def make_clip(path, colour, pitch, *, noise_seed):
    path.parent.mkdir(exist_ok=True)
    video = f"color={colour}:s=48x36:r=10:d=1,noise=alls=20:all_seed={noise_seed}"
    sound = f"sine=frequency={pitch}:sample_rate=16000:duration=1"
    command = [find_ffmpeg(), "-loglevel", "error", "-f", "lavfi", "-i", video]
    command += ["-f", "lavfi", "-i", sound, "-c:v", "mpeg4", "-c:a", "aac", f"file:{path}"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=60)


@pytest.mark.exhaustive
def test_two_files_are_enough(built, tmp_path):
    dataset = write_data_set(tmp_path)
    settings = (f'datasets=["{dataset.name}"]', "results=results/own", "finetune={epochs: 30}")
    own = Workspace(tmp_path, built.env)
    project = ("--snakefile", str(built.root / "Snakefile"), "--workflow-profile", "test")
    output = own.snakemake(*project, "--config", *settings, "--", "all")
    results = own.root / "results/own"
    assert output.splitlines()[-1] == "Report: results/own/report/index.html"
    assert not (built.root / "results/own").exists()
    metrics = json.loads((results / "avsiam_tiny/eval/colours/metrics.json").read_text())
    assert metrics["num_clips"] == metrics["num_clips_in_list"] == 8
    assert metrics["dataset"] == "colours"
    index = json.loads((results / "colours/shards/test/index.json").read_text())
    assert index["class_names"] == sorted(CLASSES)
    assert (results / "colours/classes.csv").read_text().splitlines()[1] == "0,blue,blue"
    assert metrics["video"]["accuracy"]["value"] >= 0.75
    assert (results / "report/index.html").is_file()
