"""What a person sees of a training job's progress."""

import io
import json
import re

from pipeline_src.submit.progress import TrainingProgress, last_training_row
from pipeline_src.system.progress import CLEAR_LINE


def row(step, seconds, **values):
    base = {"step": step, "num_steps": 100, "samples_seen": step * 50, "seconds": seconds}
    return json.dumps({**base, "loss": 1.5, **values}) + "\n"


def write_rows(folder, *rows):
    (folder / "metrics.jsonl").write_text("".join(rows))


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def last_line(stream):
    return stream.getvalue().rstrip("\n").split(CLEAR_LINE)[-1]


def test_progress_gives_rate_time_left_loss_and_the_last_validation(tmp_path):
    stream = Terminal()
    progress = TrainingProgress("pretrain x", tmp_path, stream)
    progress.show()
    assert last_line(stream) == "pretrain x: starting"
    write_rows(tmp_path, row(10, 5.0))
    progress.show()
    val = json.dumps({"step": 20, "val": {"audio": 0.5, "audio_video": 0.75}}) + "\n"
    write_rows(tmp_path, row(10, 5.0), row(20, 10.0), val)
    progress.close()
    assert re.fullmatch(
        r"pretrain x: 20%\|.*\| 20/100 steps, .*steps/s, .* left, "
        r"100 clips/s, loss 1\.500, val audio_video 0\.750",
        last_line(stream),
    ), last_line(stream)
    assert stream.getvalue().endswith("\n")


def test_rows_of_an_earlier_configuration_are_not_shown(tmp_path):
    write_rows(tmp_path, row(100, 50.0, loss=0.1))
    stream = Terminal()
    progress = TrainingProgress("finetune x", tmp_path, stream)
    progress.show()
    assert "loss" not in stream.getvalue()
    write_rows(tmp_path, row(1, 1.0))
    progress.show(now=True)
    assert "1/100 steps" in last_line(stream)
    assert "0.100" not in stream.getvalue()


def test_what_it_waits_for_is_said_once_where_nobody_watches(tmp_path, caplog):
    progress = TrainingProgress("finetune x", tmp_path, io.StringIO())
    with caplog.at_level("INFO"):
        for state in ("PENDING", "PENDING", "RUNNING"):
            progress.show(waiting=state)
    assert caplog.messages == ["finetune x: PENDING", "finetune x: RUNNING"]


def test_the_last_row_is_the_last_whole_one_with_a_loss(tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    val = json.dumps({"step": 20, "val": {"audio": 0.5}}) + "\n"
    metrics.write_text(row(20, 2.0) + val + '{"step": 30, "lo')
    assert last_training_row(metrics)["step"] == 20
    assert last_training_row(tmp_path / "none") is None
