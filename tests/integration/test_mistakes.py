"""docs/mistakes.md: what users get wrong and the sentence each gets, made by making the mistakes.

``MISTAKES_WRITE=1 pytest tests/integration/test_mistakes.py`` writes the table anew.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline_src.catalog import Catalog
from pipeline_src.catalog.check import check_training
from pipeline_src.catalog.targets import refuse_unknown
from pipeline_src.config import load_config, merge_files
from pipeline_src.config.command_line import refuse_repeated, refuse_unknown_profile
from pipeline_src.datasets.classes import load_classes
from pipeline_src.datasets.clip_lists import read_clips
from pipeline_src.datasets.dataset import load_dataset
from pipeline_src.errors import MAX_MESSAGE_CHARS, PipelineError, StageError, describe_disk_full
from pipeline_src.system.lock import hold_results
from pipeline_src.transcode.ffmpeg import find_ffmpeg

pytestmark = pytest.mark.slow

HEADER = "clip_id,source,start_seconds,end_seconds,labels,split\n"
ROW = "a,a.mp4,,,dog,train\n"
TITLE = """# Mistakes, and what is said of each
Written by `MISTAKES_WRITE=1 pytest tests/integration/test_mistakes.py`, which makes each mistake
but for the full disk, of which it writes the sentence alone; `tests/e2e/test_full_disk.py` fills
one. The same test fails where a sentence has changed. `<folder>` is a folder of the test.

| mistake | what is said |
|---|---|
"""


class Desk:
    """A folder in which mistakes are made."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder, self.root = folder, root

    def configure(self, *assignments: str, overlay: str = "") -> Catalog:
        files = [self.root / "config/config.yaml"]
        if overlay:
            files.append(self.write("over.yaml", overlay))
        config = load_config(merge_files(files, assignments), files, assignments)
        return Catalog(config, self.root / "config/datasets", looks_for_files=True)

    def write(self, name: str, text: str) -> Path:
        (self.folder / name).write_text(text)
        return self.folder / name

    def dataset(self, rows: str = "a,a.mp4,,,dog,train\n", yaml: str = "", header: str = HEADER):
        self.write("classes.csv", "index,id,display_name\n0,dog,Dog\n1,cat,Cat\n")
        self.write("list.csv", header + rows)
        head = "name: mine\ntask: multiclass\nclip_list: list.csv\nclass_names: classes.csv\n"
        return self.write("mine.yaml", head + yaml)

    def listed(self, rows: str = "a,a.mp4,,,dog,train\n", yaml: str = "", header: str = HEADER):
        return list(read_clips(load_dataset(self.dataset(rows, yaml, header)), max_seconds=600))

    def planned(self, rows: str, *assignments: str, yaml: str = "") -> Catalog:
        path = self.dataset(rows, yaml)
        results = f"results={self.folder / 'results'}"
        return self.configure(f'datasets=["{path}"]', results, *assignments)

    def touched(self, count: int) -> str:
        for number in range(count):
            self.write(f"{number}.mp4", "")
        return "".join(f"c{n},{n}.mp4,,,dog,train\n" for n in range(count))


def no_ffmpeg(desk):
    before = os.environ.get("PIPELINE_FFMPEG")
    os.environ["PIPELINE_FFMPEG"] = "/nowhere/ffmpeg"
    find_ffmpeg.cache_clear()
    try:
        find_ffmpeg()
    finally:
        os.environ.pop("PIPELINE_FFMPEG")
        if before:
            os.environ["PIPELINE_FFMPEG"] = before
        find_ffmpeg.cache_clear()


def classes_from_one(desk):
    desk.dataset()
    desk.write("classes.csv", "index,id,display_name\n1,dog,Dog\n2,cat,Cat\n")
    load_classes(load_dataset(desk.folder / "mine.yaml"))


def no_class_list(desk):
    desk.dataset()
    (desk.folder / "classes.csv").unlink()
    load_classes(load_dataset(desk.folder / "mine.yaml"))


def list_twice(desk):
    desk.dataset()
    desk.write("official.csv", "abc, 0.0, 10.0, dog\n")
    text = desk.folder.joinpath("mine.yaml").read_text() + "format: audioset\n"
    text = text.replace("list.csv", "{train: [official.csv, official.csv]}")
    list(read_clips(load_dataset(desk.write("mine.yaml", text)), max_seconds=600))


def two_at_once(desk):
    hold_results(desk.folder / "busy")
    hold_results(desk.folder / "busy")


def read_only(desk):
    desk.write("results", "a file stands where the folder would")
    hold_results(desk.folder / "results")


def wrong_folder(desk):
    """Snakemake's own sentence: no Snakefile of ours has been read yet."""
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "-n"]
    done = subprocess.run(command, cwd=desk.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    raise PipelineError(done.stdout + done.stderr)


def overlay_as_called(name, text=""):
    """Snakemake's own words: it reads an overlay before our Snakefile."""

    def make(desk):
        if text:
            desk.write(name, text)
        command = [sys.executable, "-m", "snakemake", "-n", "--snakefile", desk.root / "Snakefile"]
        command += ["--workflow-profile", "none", "--configfile", name]
        done = subprocess.run(command, cwd=desk.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        said = (done.stdout + done.stderr).strip()
        if "Traceback" in said:
            said = f"a traceback that ends with {said.splitlines()[-1]}"
        raise PipelineError(f"by Snakemake, which reads it first: {said}")

    return make


MISTAKES = {
    "key misspelt": lambda d: d.configure("finetune={ephocs: 3}"),
    "section misspelt": lambda d: d.configure("finetun={epochs: 3}"),
    "value not allowed": lambda d: d.configure("finetune={lr: -1}"),
    "data set misspelt": lambda d: d.configure('datasets=["avdigit"]'),
    "class misspelt": lambda d: d.listed("a,a.mp4,,,dgo,train\n"),
    "split misspelt": lambda d: d.listed("a,a.mp4,,,dog,trian\n"),
    "target misspelt": lambda d: refuse_unknown(["-n", "evel_mine"], ["all", "eval_mine"]),
    "profile misspelt": lambda d: refuse_unknown_profile(["--workflow-profile", "tset"], d.root),
    "run in the wrong folder": wrong_folder,
    "overlay missing": overlay_as_called("none.yaml"),
    "root missing": lambda d: d.planned("a,a.mp4,,,dog,train\n", yaml="root: videos\n").splits(
        "mine"
    ),
    "files missing": lambda d: d.planned(ROW).splits("mine"),
    "batch larger than the list": lambda d: check_training(
        d.planned(d.touched(18), "pretrain={batch_size: 64}"), "avsiam_tiny", "pretrain", "", 1
    ),
    "more frames than are stored": lambda d: d.configure(
        "pretrain={num_frames: 20}", "finetune={num_frames: 20}", "evaluate={num_frames: 20}"
    ),
    "initial weights misspelt": lambda d: check_training(
        d.planned(d.touched(18), "model={init: tim}"), "avsiam_tiny", "pretrain", "", 1
    ),
    "list with semicolons": lambda d: d.listed("", header=HEADER.replace(",", ";")),
    "column missing": lambda d: d.listed("", header=HEADER.replace(",split", "")),
    "clip_id twice": lambda d: d.listed("a,a.mp4,,,dog,train\na,b.mp4,,,dog,train\n"),
    "classes counted from 1": classes_from_one,
    "no test split": lambda d: d.planned(d.touched(2)).index("mine", "test"),
    "name of a data set not allowed": lambda d: load_dataset(
        d.write("x.yaml", "name: my set\ntask: multiclass\nclip_list: a\nclass_names: b\n")
    ),
    "overlay is no valid YAML": overlay_as_called("over.yaml", "finetune: {lr: [1\n"),
    "data set is no valid YAML": lambda d: load_dataset(d.write("x.yaml", "name: [1\n")),
    "key twice": lambda d: d.configure(overlay="finetune: {lr: 1}\nfinetune: {epochs: 1}\n"),
    "data set listed twice": lambda d: d.configure('datasets=["avdigits", "avdigits"]'),
    "clip list named twice": list_twice,
    "--config twice": lambda d: refuse_repeated(["--config", "a=1", "--config", "b=2"]),
    "results cannot be written": read_only,
    "wrong ffmpeg": no_ffmpeg,
    "two at once": two_at_once,
    "class list missing": no_class_list,
    "official list missing": lambda d: list(
        read_clips(load_dataset(d.root / "config/datasets/esc50.yaml"), max_seconds=600)
    ),
}


def sentence(desk, make):
    with pytest.raises(PipelineError) as caught:
        make(desk)
    text = " ".join(str(caught.value).split())
    text = text.replace(str(desk.folder), "<folder>").replace(str(desk.root), "<project>")
    text = re.sub(r"process \d+ on [\w-]+", "process <number> on <machine>", text)
    text = re.sub(r"allowed here: .*", "allowed here: ...", text)
    text = re.sub(r"\(allowed: [^)]*\)", "(allowed: ...)", text)
    if (relative := os.path.relpath(desk.root)) != ".":
        text = text.replace(relative, "<project>")
    return text.replace("<project>/", "").replace("|", r"\|")


def test_every_mistake_gets_the_sentence_that_the_table_shows(tmp_path, root, monkeypatch):
    monkeypatch.delenv("PIPELINE_FFMPEG", raising=False)
    rows = []
    for number, (name, make) in enumerate(MISTAKES.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        rows.append(f"| {name} | {sentence(Desk(folder, root), make)} |")
    rows.append(f"| disk full | {describe_disk_full(OSError(28, ''), '<folder>')} |")
    text = TITLE + "\n".join(rows) + "\n"
    page = root / "docs/mistakes.md"
    if os.environ.get("MISTAKES_WRITE"):
        page.write_text(text)
    assert page.read_text() == text


def test_a_message_is_cut_in_its_middle():
    message = str(StageError("begin" + "x" * 100_000 + "end"))
    assert MAX_MESSAGE_CHARS == 4000 <= len(message) < 4100
    assert (message[:5], message[-3:], "(100008 characters)" in message) == ("begin", "end", True)
