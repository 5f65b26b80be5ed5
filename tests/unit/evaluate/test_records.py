"""metrics.json: one schema for who writes it and who reads it, of this version and the last."""

import json

import pytest
from pydantic import ValidationError

from pipeline_src.errors import StageError
from pipeline_src.evaluate.records import EvalMetrics, ProbeMetrics, read_record, write_metrics
from pipeline_src.evaluate.summary import summarise_evaluation
from tests.report_files import interval, write_evaluation, write_json, write_probe

RULE = "the rule evaluate_finetuned"


def test_what_is_written_is_read_back_with_its_keys_in_order(tmp_path):
    values = json.loads(write_evaluation(tmp_path, "run").read_text())
    values["heads"] = ["audio", "video", "audio_video"]
    path = tmp_path / "results/run/eval/digits/metrics.json"
    write_metrics(path, EvalMetrics, values, summarise_evaluation)
    assert path.read_text() == json.dumps(values, indent=1) + "\n"
    record = read_record(path, EvalMetrics, RULE)
    assert record.headline("video").value == values["video"]["accuracy"]["value"]
    summary = json.loads(path.with_name("summary.json").read_text())
    assert summary["accuracy"]["video"] == round(values["video"]["accuracy"]["value"], 4)


@pytest.mark.parametrize("inside", [False, True])
def test_a_key_that_the_schema_lacks_is_not_written_but_read_past(tmp_path, inside):
    path = write_evaluation(tmp_path, "run")
    values = json.loads(path.read_text())
    (values["audio"] if inside else values)["novelty"] = interval(0.5, 0.1)
    with pytest.raises(ValidationError, match="novelty"):
        write_metrics(tmp_path / "metrics.json", EvalMetrics, values, summarise_evaluation)
    assert not (tmp_path / "metrics.json").exists()
    write_json(path, values)
    assert read_record(path, EvalMetrics, RULE).run == "run"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("num_clips", "many", r"metrics\.json: num_clips: .*, not 'many'; run the rule eval"),
        ("task", "guess", r"task: .*'multiclass' or 'multilabel', not 'guess'; run"),
        ("heads", ["smell"], r"heads\.0: .*, not 'smell'; run"),
        ("audio", {"mAP": {"low": 0}}, r"audio\.mAP\.value: Field required; run"),
    ],
)
def test_a_damaged_file_is_told_with_key_value_and_what_to_run(tmp_path, key, value, message):
    path = write_evaluation(tmp_path, "run")
    write_json(path, json.loads(path.read_text()) | {key: value})
    with pytest.raises(StageError, match=message) as error:
        read_record(path, EvalMetrics, RULE)
    assert "\n" not in str(error.value)


def test_a_probe_without_what_later_versions_record_is_read(tmp_path):
    probe = read_record(write_probe(tmp_path, "run"), ProbeMetrics, RULE)
    assert probe.probes["pretrained"]["audio"].linear.value == 0.5
    assert (probe.config_sha256, probe.versions) == ("", {})
