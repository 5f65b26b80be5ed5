"""The report page from files like those that the stages write, whole and with parts missing."""

import html
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest

from pipeline_src.config.evaluation import ReportConfig
from pipeline_src.errors import StageError
from pipeline_src.evaluate.records import EvalMetrics, read_record
from pipeline_src.report.build import build_report
from pipeline_src.report.table import format_table, print_results
from tests import report_files
from tests.report_files import (
    NAMES,
    interval,
    write_evaluation,
    write_index,
    write_json,
    write_probe,
    write_training,
)

pytestmark = pytest.mark.slow

CONFIG = SimpleNamespace(num_examples=2, tsne_clips=40)
# Whatever a browser would load; the script's own templates name no address.
EXTERNAL = re.compile(
    r"""(?:src|href)\s*=\s*["'](?!data:|#)|url\((?!#|"\$\{sheet)|@import|fetch\(|import\("""
)
ADDRESSES = re.compile(r"https?://(?!www\.w3\.org/)")


@pytest.fixture
def results(tmp_path):
    """A results folder with everything in it, and the arguments of ``build_report``."""
    root = tmp_path / "results"
    metrics = [write_evaluation(root, "avsiam_demo")]
    probes = [write_probe(root, "avsiam_demo")]
    write_training(root, "avsiam_demo")
    indexes = [
        write_index(root, "train", num_clips=300, reasons={"corrupt": 2, "no_audio": 5}),
        write_index(root, "test", reasons={"too_short": 2}),
    ]
    benchmark = root / "benchmarks" / "pack_shards" / "digits" / "train" / "00000.tsv"
    benchmark.parent.mkdir(parents=True)
    benchmark.write_text("s\th:m:s\tmax_rss\n12.5\t0:00:12\t181.25\n")
    return {
        "metrics_files": metrics,
        "probe_files": probes,
        "index_files": indexes,
        "output": root / "report" / "index.html",
        "config": CONFIG,
    }


def build(arguments):
    build_report(**arguments)
    return arguments["output"].read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Collect what a page shows, and check that its tags are closed."""

    VOID = ("meta", "img", "br")

    def __init__(self, page):
        super().__init__()
        self.open, self.images, self.charts, self.texts = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        attributes = dict(attrs)
        if tag == "img":
            self.images.append(attributes)
        if attributes.get("role") == "img":
            self.charts.append(attributes)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data.strip().replace("\u00a0", " "))

    @property
    def text(self):
        return " ".join(part for part in self.texts if part)


def test_page_is_whole_small_and_needs_nothing_else(results):
    page = build(results)
    reader = Reader(page)
    assert reader.open == []
    assert EXTERNAL.search(page) is None
    assert ADDRESSES.search(page) is None
    assert str(results["output"].parents[2]) not in page
    assert len(page) < 3_000_000
    assert "Missing or unusual" not in reader.text


def test_clips_that_two_splits_share_are_named(results):
    path = results["index_files"][0]
    index = json.loads(path.read_text())
    index["duplicates"] = [["a", "test", "b"], ["c", "train", "d"]]
    index["shared_files"] = {"test": 2}
    path.write_text(json.dumps(index))
    assert "digits / train: 2 clips are cut from files that test has" in Reader(build(results)).text
    assert (
        "digits / train: 1 clips have the content of a clip in test" in Reader(build(results)).text
    )
    path.write_text(json.dumps({**index, "excludes_duplicates": True}))
    assert "have the content" not in Reader(build(results)).text


def test_a_warning_of_an_evaluation_is_on_the_page(results):
    path = results["metrics_files"][0]
    path.write_text(json.dumps({**json.loads(path.read_text()), "warnings": ["learnt others"]}))
    assert "its checkpoint learnt others" in Reader(build(results)).text


def test_every_promised_part_is_on_the_page(results):
    reader = Reader(build(results))
    for expected in (
        "Accuracy, %", "mAP, %", "AUC", "d\u2032", "Top-5, %", "60 of 62", "ababababab",
        "R@10 / chance", "Chance", "Median rank", "Mean patch, MSE", "Pre-trained, %",
        "Feature spread", "Validation score", "Confusion, audio + video", "t-SNE",
        "corrupt 2", "no_audio 5", "short 3", "pack_shards", "12.5 s", "torch", "2.11.0",
        "0123456789", "dirty", "cdcdcdcdcd", "size: tiny", "five & <six>",
    ):  # fmt: skip
        assert expected in reader.text, expected
    assert len(reader.images) == 2 * 6
    assert len(reader.charts) >= 14
    for picture in reader.images:
        assert picture["alt"]
        assert picture["src"].startswith("data:image/")
    assert all(chart["aria-label"] for chart in reader.charts)


def test_same_inputs_give_the_same_bytes_on_one_day(results, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(86400 * 365))
    assert "1971-01-01" in Reader(build(results)).text
    assert build(results) == build(results)


def test_missing_files_are_named_and_the_rest_is_shown(results):
    root = results["output"].parents[1]
    lost = [
        "avsiam_demo/eval/digits/predictions.npz",
        "avsiam_demo/eval/digits/embeddings.npz",
        "avsiam_demo/probe/digits/reconstructions.npz",
        "avsiam_demo/pretrain/metrics.jsonl",
        "avsiam_demo/finetune/digits/metrics.jsonl",
        "avsiam_demo/config.yaml",
        "digits/shards/test/index.json",
    ]
    for name in lost:
        (root / name).unlink()
    text = Reader(build(results)).text
    for name in lost:
        assert f"{name} is not there" in text
    for shown in ("Accuracy, %", "R@10 / chance", "Mean patch, MSE", "no_audio 5", "torch"):
        assert shown in text


def test_missing_metrics_leave_data_and_training(results):
    for path in (*results["metrics_files"], *results["probe_files"]):
        path.unlink()
    text = Reader(build(results)).text
    assert "eval/digits/metrics.json is not there" in text
    assert "probe/digits/metrics.json is not there" in text
    for shown in ("No evaluation could be read", "Feature spread", "no_audio 5"):
        assert shown in text


def test_damaged_files_are_named(results):
    root = results["output"].parents[1] / "avsiam_demo"
    damaged = {
        "eval/digits/predictions.npz": b"PK\x03\x04 not a zip",
        "eval/digits/embeddings.npz": b"\x93NUMPY",
        "probe/digits/reconstructions.npz": b"",
        "pretrain/metrics.jsonl": b"{",
        "config.yaml": b"a: [",
    }
    for name, content in damaged.items():
        (root / name).write_bytes(content)
    text = Reader(build(results)).text
    for name in damaged:
        assert name in text


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_damaged_record_is_refused_by_name(tmp_path, content):
    path = tmp_path / "run" / "eval" / "digits" / "metrics.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(StageError, match=r"eval/digits/metrics\.json.*the rule again"):
        read_record(path, EvalMetrics, "the rule")


def test_wrong_key_is_named_with_the_rule_to_run(results):
    path = results["metrics_files"][0]
    record = json.loads(path.read_text())
    record["num_clips"] = "many"
    write_json(path, record)
    with pytest.raises(StageError, match=r"metrics\.json: num_clips: .* run evaluate again"):
        read_record(path, EvalMetrics, "evaluate")


def test_absent_figures_and_collapsed_retrieval_are_told(results):
    path = results["metrics_files"][0]
    record = json.loads(path.read_text())
    del record["audio_video"]
    record["retrieval"]["num_tied"]["audio_to_video"] = 60
    write_json(path, record)
    probe_path = results["probe_files"][0]
    probe = json.loads(probe_path.read_text())
    del probe["retrieval_untrained"]
    write_json(probe_path, probe)
    text = Reader(build(results)).text
    assert "no figures for audio + video" in text
    assert "60 of 60 queries are tied" in text
    assert "no retrieval figures of the untrained encoder" in text


def test_runs_on_different_clips_are_flagged_and_multilabel_has_map(results):
    root = results["output"].parents[1]
    other = write_evaluation(root, "from_scratch", seed=4)
    record = json.loads(other.read_text())
    record["clip_ids_sha256"] = "99" * 32
    write_json(other, record)
    tags = write_evaluation(root, "avsiam_demo", dataset="tags", task="multilabel")
    results["metrics_files"] += [other, tags]
    text = Reader(build(results)).text
    assert "not scored on the same clips" in text
    assert "mAP, tags" in text
    assert "tags: no index.json names its classes" in text


def test_run_from_scratch_is_not_asked_for_pretraining(results):
    root = results["output"].parents[1]
    results["metrics_files"].append(write_evaluation(root, "scratch"))
    write_training(root, "scratch")
    (root / "scratch" / "pretrain" / "metrics.jsonl").unlink()
    (root / "scratch" / "config.yaml").write_text("finetune:\n  init: scratch\n")
    assert "scratch/pretrain" not in Reader(build(results)).text


def test_nothing_to_report_is_refused(results):
    results |= {"metrics_files": [], "probe_files": [], "index_files": []}
    with pytest.raises(StageError, match="nothing to report"):
        build_report(**results)


def test_data_alone_makes_a_page(results):
    results |= {"metrics_files": [], "probe_files": []}
    text = Reader(build(results)).text
    assert "No evaluation could be read" in text
    assert "360 of 369 listed clips" in text


def test_plain_table(results, capsys):
    root = results["output"].parents[1]
    print_results(root)
    printed = capsys.readouterr().out
    assert printed == format_table(results["metrics_files"])
    lines = printed.splitlines()
    assert lines[0].split("  ")[0] == "run"
    assert re.search(r"audio_video +\d+\.\d \[\d+\.\d, \d+\.\d\] .* 60 of 62", printed)
    assert re.search(r"video_to_audio .* 16\.7 +60", printed)


def test_a_run_ends_with_the_figures_of_its_own_configuration(results, capsys):
    """Figures of another configuration stood among them without a mark."""
    path, root = results["metrics_files"][0], results["output"].parents[1]
    other = root / "earlier/eval/digits/metrics.json"
    other.parent.mkdir(parents=True)
    write_json(other, json.loads(path.read_text()) | {"run": "earlier"})
    print_results(root, {path})
    printed = capsys.readouterr().out
    assert printed.startswith(format_table([path]))
    assert f"other configurations beside them: 1 (av-pipeline table {root})" in printed
    print_results(root)
    assert "\nearlier " in capsys.readouterr().out


def test_the_single_frame_figure_has_a_column(results):
    path = results["metrics_files"][0]
    metrics = json.loads(path.read_text())
    assert "frame" not in Reader(build(results)).text.split("Clip list")[0].split("Input")[1]
    figure = {"accuracy": interval(0.4321, 0.01)}
    metrics["single_frame"] = {"num_frames": 1, "video": figure, "audio_video": figure}
    write_json(path, metrics)
    text = Reader(build(results)).text
    assert "Accuracy, %, 1 frame" in text
    assert "43.2" in text


def test_a_pretraining_scored_by_retrieval_alone(results, capsys):
    path = results["probe_files"][0]
    metrics = json.loads(path.read_text()) | {"reconstruction": {}, "probes": {}}
    metrics["retrieval"] |= {"trained_on": ["elsewhere"], "zero_shot": True}
    write_json(path, metrics)
    path.with_name("reconstructions.npz").unlink()
    results["metrics_files"][0].unlink()
    text = Reader(build(results | {"metrics_files": []})).text
    assert "after pretrain on elsewhere, zero-shot" in text
    for complaint in ("no reconstruction error", "no probe scores", "reconstructions.npz"):
        assert complaint not in text
    assert "No evaluation could be read" not in text
    print_results(results["output"].parents[1])
    assert re.search(r"avsiam_demo +digits/test +pretrain +video_to_audio", capsys.readouterr().out)


def test_plain_table_without_results(tmp_path):
    with pytest.raises(StageError, match=r"no evaluation found .* `snakemake all`"):
        print_results(tmp_path)


def test_report_needs_no_torch():
    code = "import sys, pipeline_src.report.build; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


@pytest.mark.parametrize(
    "names", [NAMES[:6], NAMES[11:17], ("\x1b[31mb", "\u202eabc", "\x0b", "\ufffe", "x" * 3000)]
)
def test_the_report_is_made_whatever_classes_and_warnings_are_called(tmp_path, monkeypatch, names):
    names = [*names, *(f"class {k}" for k in range(len(report_files.CLASS_NAMES) - len(names)))]
    monkeypatch.setattr(report_files, "CLASS_NAMES", names)
    root = tmp_path / "results"
    metrics = report_files.write_evaluation(root, "r1", num_clips=60)
    report_files.write_training(root, "r1")
    index = report_files.write_index(root, "test", names=names)
    value = json.loads(metrics.read_text())
    metrics.write_text(json.dumps(value | {"warnings": list(names)}))
    output = root / "report/index.html"
    config = ReportConfig()
    build_report(
        metrics_files=[metrics], probe_files=[], index_files=[index], output=output, config=config
    )
    page = output.read_text()
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e\ufffe]", page)
    assert html.escape(names[0].replace("\x1b", "\ufffd")) in page
    assert page.count("</script>") == page.count("<script") > 1  # no name ends one or begins one
    assert "x" * 700 not in re.sub(r"<t[dh].*?</t[dh]>", "", page)
