"""The report's comparison of runs, what each reaches and costs; weights from elsewhere."""

import json

import numpy as np
import pytest

from pipeline_src.evaluate.records import EvalMetrics, ProbeMetrics, read_record
from pipeline_src.report.arms import ArmFigures, find_arms, pair_seeds
from pipeline_src.report.blocks import Charts, Table
from pipeline_src.report.load import Problems
from pipeline_src.report.sections.methods import methods_section
from pipeline_src.report.sections.training import training_section
from tests.report_files import write_evaluation, write_json, write_probe, write_training

pytestmark = pytest.mark.slow
CONFIG = """model: {{size: {size}}}
pretrain: {{seed: {seed}}}
finetune: {{init: pretrain, seed: {seed}}}
"""


def write_done(folder, flops):
    cost = {"parameters": 1_500_000, "flops_per_clip": 1e8, "flops": flops, "memory_bytes": 6e7}
    done = {"step": 300, "samples_seen": 15000, "seconds": 90.0, "cost": cost}
    return write_json(folder / "done.json", done)


def write_run(root, run, *, pretrain=15e12, finetune=33e12, config=""):
    path = write_evaluation(root, run)
    write_training(root, run)
    write_done(root / run / "pretrain", pretrain)
    write_done(root / run / "finetune" / "digits", finetune)
    if config:
        (root / run / "config.yaml").write_text(config)
    return path


def lift_clips(path, seed, num_right):
    """Let a run be right about its first clips, and of the others about some that a seed draws."""
    file = path.with_name("predictions.npz")
    arrays, record = dict(np.load(file)), json.loads(path.read_text())
    labels = arrays["targets"].argmax(1)
    is_right = np.arange(len(labels)) < num_right
    is_right[20:] = np.random.default_rng(seed).random(len(labels) - 20) < 0.5
    guess = np.where(is_right, labels, (labels + 1) % arrays["targets"].shape[1])
    np.savez(file, **(arrays | {"audio": np.eye(arrays["targets"].shape[1])[guess]}))
    record["audio"]["accuracy"] = {"value": is_right.mean(), "low": 0, "high": 1}
    path.write_text(json.dumps(record))


def make_section(*paths, probes=()):
    evaluations = [(path, read_record(path, EvalMetrics, "rule")) for path in paths]
    return methods_section(find_arms(Problems(), evaluations), ArmFigures(), probes)


def compare(*paths):
    """Return the section, its sentence, the cells of each column, and the charts."""
    section = make_section(*paths)
    assert section is not None
    text = section.blocks[0]
    tables = [block for block in section.blocks if isinstance(block, Table)][:2]
    columns = {
        name: [row[place] for row in table.rows]
        for table in tables
        for place, name in enumerate(table.head)
    }
    charts = [
        chart for block in section.blocks if isinstance(block, Charts) for chart in block.charts
    ]
    return section, text.text, columns, charts


def test_one_run_is_no_comparison(tmp_path):
    path = write_run(tmp_path, "alone")
    assert make_section(path) is None


@pytest.mark.parametrize(
    "start",
    [
        "finetune: {{checkpoint_run: {name}}}\n",
        "pretrain: {{checkpoint_run: {name}, seed: 5}}\n",
        "pretrain: {{teacher_run: {name}, seed: 5}}\n",
    ],
)
def test_seeds_of_the_runs_that_are_started_from_or_followed_count(tmp_path, start):
    """Runs that differ in the seed of another run's pre-training were two arms."""
    paths = []
    for seed in range(2):
        write_run(tmp_path, f"first_seed{seed}", config=CONFIG.format(size="tiny", seed=seed))
        config = start.format(name=f"first_seed{seed}")
        paths.append(write_run(tmp_path, f"next_seed{seed}", config=config))
    evaluations = [(path, read_record(path, EvalMetrics, "rule")) for path in paths]
    (arms,) = find_arms(Problems(), evaluations).values()
    assert [len(arm.runs) for arm in arms] == [2]
    assert len(pair_seeds(arms[0], arms[0])) == 2


def test_a_run_costs_the_pretraining_of_the_run_that_it_names_whatever_that_one_starts_from(
    tmp_path,
):
    """a is fine-tuned from b's pre-training, and b's fine-tuning from c's: a costs b's, not c's."""
    write_run(tmp_path, "c", pretrain=15e12)
    for rest in ("checkpoint_run: c", "init: scratch"):
        write_run(tmp_path, "b", pretrain=30e12, config=f"finetune: {{{rest}}}\n")
        paths = [
            write_run(tmp_path, "a", config="finetune: {checkpoint_run: b}\n"),
            write_run(tmp_path, "own", pretrain=30e12),
        ]
        _, text, rows, _ = compare(*paths)
        assert text.startswith("At equal cost")
        assert [cell.text for cell in rows["TFLOP, pre-training"]] == ["30.0", "30.0"]


def test_what_a_named_run_did_not_train_itself_is_not_missed(tmp_path):
    """The page asked for done.json of a pre-training that came from a converted folder."""
    start = write_run(tmp_path, "start", config="pretrain: {checkpoint: elsewhere}\n")
    (tmp_path / "start/pretrain/done.json").unlink()
    path = write_run(tmp_path, "probe", config="finetune: {checkpoint_run: start}\n")
    assert make_section(start, path).problems.messages == []


def test_runs_of_equal_cost_are_said_to_be_so(tmp_path):
    paths = write_run(tmp_path, "one"), write_run(tmp_path, "two", finetune=33.5e12)
    section, text, rows, charts = compare(*paths)
    assert text.startswith("At equal cost: ")
    assert "pre-training by 0.0 % and in fine-tuning by 1.5 %" in text
    assert section.problems.messages == []
    assert [cell.text for cell in rows["TFLOP, pre-training"]] == ["15.0", "15.0"]
    assert rows["TFLOP, both"][1].sub.startswith("1.01")
    assert [cell.text for cell in rows["Time, fine-tuning"]] == ["1 min 30 s"] * 2
    assert rows["Accuracy, %, audio"][0].sub
    assert len(charts) == 4
    assert "two, audio: 0.0" in charts[0].alt
    assert "one from" in charts[1].alt
    assert "two from" in charts[1].alt


def test_several_seeds_are_drawn_as_means_and_as_paired_differences(tmp_path):
    """The second arm is right about ten more clips for every seed, so what is left are seeds."""
    paths, probes = [], []
    for seed in range(3):
        for name, size in (("base", "tiny"), ("better", "small")):
            run = f"{name}_seed{seed}"
            paths.append(write_run(tmp_path, run, config=CONFIG.format(size=size, seed=seed)))
            lift_clips(paths[-1], seed, num_right=10 + 10 * (name == "better"))
            probes.append(read_record(write_probe(tmp_path, run), ProbeMetrics, "rule"))
    section = make_section(*paths, probes=probes)
    assert section.problems.messages == []
    (wide,) = [block for block in section.blocks if getattr(block, "is_wide", False)]
    means, differences = wide.charts
    assert means.title == "Accuracy, mean over seeds"
    assert differences.title == "Accuracy, difference to base, paired by seed and clip"
    assert "base, " not in differences.alt
    table = section.blocks[1]
    better = dict(zip(table.head, table.rows[1], strict=True))
    gain, low, high = better["Over the first, audio"].values
    assert (gain, low > 0) == (pytest.approx(100 / 6), True)
    (drawn,) = [series.points for series in differences.hover.series if series.name == "audio"]
    assert drawn[0][0] == pytest.approx(gain)
    assert f"better, audio: {gain:.1f} ({low:.1f} to {high:.1f})" in differences.alt
    _, own_low, own_high = better["Accuracy, %, audio"].values
    assert high - low < own_high - own_low  # what the seeds and the hard clips share is gone
    assert all(cell.sub for name, cell in better.items() if name.startswith("R@10"))
    (before,) = [b for b in section.blocks if getattr(b, "caption", "").startswith("Before any")]
    assert [row[0].text for row in before.rows] == ["base", "better"]
    assert before.head[1:3] == ["Linear probe, %, audio", "Error on hidden patches, MSE, audio"]
    assert before.rows[0][1].text == "50.0"
    assert before.rows[0][1].sub == "45.0\u2009\u2013\u200955.0"
    assert all(cell.sub for cell in before.rows[1][1:])


def test_a_run_without_a_probe_leaves_its_row_empty(tmp_path):
    paths = [write_run(tmp_path, name) for name in ("one", "two")]
    probes = [read_record(write_probe(tmp_path, "two"), ProbeMetrics, "rule")]
    blocks = make_section(*paths, probes=probes).blocks
    (table,) = [b for b in blocks if getattr(b, "caption", "").startswith("Before any")]
    assert {cell.text for cell in table.rows[0][1:]} == {"\u2013"}
    assert "\u2013" not in {cell.text for cell in table.rows[1]}


def test_runs_are_compared_clip_by_clip(tmp_path):
    paths = write_run(tmp_path, "one"), write_run(tmp_path, "two"), write_run(tmp_path, "three")
    other = paths[2].with_name("predictions.npz")
    arrays = dict(np.load(other))
    np.savez(other, **(arrays | {"audio": arrays["audio"] + 2 * arrays["targets"]}))
    section, _, rows, _ = compare(*paths)
    assert section.problems.messages == []
    first, same, better = rows["Over the first, audio"]
    assert (first.text, same.text, same.tone) == ("\u2013", "0.0", "")
    assert (better.tone, better.sub != "") == ("good", True)
    paths[1].with_name("predictions.npz").unlink()
    section, _, rows, _ = compare(*paths)
    assert rows["Over the first, audio"][1].text == "\u2013"
    assert "predictions.npz is not there" in section.problems.messages[0]


def test_a_small_cost_is_not_shown_as_nothing(tmp_path):
    paths = write_run(tmp_path, "one", pretrain=1.23e9), write_run(tmp_path, "two", pretrain=0)
    rows = compare(*paths)[2]
    assert [cell.text for cell in rows["TFLOP, pre-training"]] == ["0.0012", "0.00"]


def test_runs_of_unequal_cost_are_not_called_equal(tmp_path):
    paths = write_run(tmp_path, "one"), write_run(tmp_path, "dear", pretrain=16e12)
    assert compare(*paths)[1].startswith("Not at equal cost")


@pytest.mark.parametrize(
    ("config", "note", "total"),
    [
        ("finetune: {init: scratch}", "from scratch", "33.0"),
        ("finetune: {checkpoint_run: one}", "shared with one", "48.0"),
        ("pretrain: {checkpoint: mine}", "weights from elsewhere", "\u2013"),
    ],
)
def test_where_a_pretraining_comes_from_decides_its_cost(tmp_path, config, note, total):
    paths = write_run(tmp_path, "one"), write_run(tmp_path, "two", config=config)
    (tmp_path / "two" / "pretrain" / "done.json").unlink()
    section, _, rows, _ = compare(*paths)
    assert rows["TFLOP, pre-training"][1].sub == note
    assert rows["TFLOP, both"][1].text == total
    assert section.problems.messages == []


def test_a_cost_that_was_not_recorded_is_asked_for(tmp_path):
    paths = write_run(tmp_path, "one"), write_run(tmp_path, "old")
    done = tmp_path / "old" / "finetune" / "digits" / "done.json"
    write_json(done, {key: v for key, v in json.loads(done.read_text()).items() if key != "cost"})
    section, text, rows, _ = compare(*paths)
    assert "not known" in text
    assert rows["TFLOP, fine-tuning"][1].text == "\u2013"
    assert "--forcerun finetune_model" in section.problems.messages[0]


def test_converted_weights_have_no_curves_and_the_page_says_so(tmp_path):
    config = "pretrain: {checkpoint: models/pre}\nfinetune: {checkpoint: models/fine}\n"
    write_run(tmp_path, "published", config=config)
    for log in (tmp_path / "published").rglob("metrics.jsonl"):
        log.unlink()
    run_dir = tmp_path / "published"
    section = training_section([run_dir], [(run_dir, "digits")])
    assert section.problems.messages == []
    texts = [fold.blocks[0].text for fold in section.blocks]
    assert len(texts) == 2
    for text, folder in zip(texts, ("models/pre", "models/fine"), strict=True):
        assert text.startswith("Nothing was trained here")
        assert folder in text
