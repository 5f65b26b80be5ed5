"""The lines that a person sees of a workflow, through Snakemake's own handler of the terminal."""

import io
import logging
import subprocess
import sys
from types import SimpleNamespace

import pytest
from snakemake.logging import ColorizingTextHandler, DefaultFormatter
from snakemake.persistence import ParamsChange
from snakemake_interface_logger_plugins.common import LogEvent

from pipeline_src.config import Config, default_config
from pipeline_src.config.changes import describe_changes, section_keys
from pipeline_src.errors import ConfigError
from pipeline_src.system.joblog import last_error, log_to_file
from pipeline_src.workflow.terminal import Names, shorten_messages, shorten_reason

SINGLES = {"evaluate_pretrained": {"report.num_examples": 3, "a.switch": True}}
NAMES = Names(section_keys(Config()), SINGLES)


class Screen:
    """Snakemake's handler with our lines, and what it showed."""

    def __init__(self):
        self.stream = io.StringIO()
        self.handler = ColorizingTextHandler(stream=self.stream, formatter=DefaultFormatter())
        shorten_messages(self.handler, NAMES, lambda: False)

    def log(self, event, message="", level=logging.INFO, **fields):
        record = logging.LogRecord("snakemake", level, __file__, 1, message, (), None)
        record.__dict__.update(fields, event=event)
        self.handler.emit(record)

    def start(self, jobid, rule, reason="", **wildcards):
        self.log(LogEvent.JOB_INFO, jobid=jobid, rule_name=rule, reason=reason, wildcards=wildcards)

    def fail(self, jobid, rule, *logs):
        self.log(LogEvent.JOB_ERROR, level=logging.ERROR, jobid=jobid, rule_name=rule, log=logs)

    @property
    def lines(self):
        """What was shown, without clocks."""
        return [line.split("] ", 1)[-1] for line in self.stream.getvalue().splitlines()]


def test_a_job_is_two_lines():
    screen = Screen()
    screen.log(None, "Select jobs to execute...")
    screen.log(LogEvent.WORKFLOW_STARTED)
    screen.start(3, "transcode_clips", dataset="digits", split="train", chunk="00001")
    screen.start(4, "report_results", "Missing output files: results/report/index.html")
    for jobid, done in ((4, 1), (3, 2)):
        screen.log(LogEvent.JOB_FINISHED, job_id=jobid)
        screen.log(LogEvent.PROGRESS, done=done, total=8)
    assert screen.lines == [
        "transcode_clips digits/train/00001",
        "report_results",
        "report_results done, 1 of 8 steps (12%)",
        "transcode_clips digits/train/00001 done, 2 of 8 steps (25%)",
    ]


def changed(old, new):
    """The reason that Snakemake gives where these params differ."""
    change = ParamsChange(only_old={repr(v) for v in old}, only_new={repr(v) for v in new})
    return f"Params have changed since last execution: {change}"


FINETUNE = default_config().finetune.model_dump(mode="json")


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        (changed([FINETUNE], [FINETUNE | {"lr": 5e-4}]), "finetune.lr 0.001 -> 0.0005"),
        (
            changed([FINETUNE, 2], [FINETUNE | {"augment": {"mirror": True}}, 3]),
            "version 2 -> 3",
        ),
        (changed([2], [3]), "version 2 -> 3"),
        (changed(["/a"], ["/b"]), "path /a -> /b"),
        (changed([{"model": {"size": 1}}], [{"model": {"size": 2}}]), "model.size 1 -> 2"),
        (changed([], [FINETUNE]), "its settings changed"),
        ("Missing output files: a, b", ""),
        ("Missing output files: a; Input files updated by another job: b, c", ""),
        ("Missing output files: a; Code has changed since last execution", "Code has changed"),
        ("Updated input files: results/x.json", "Updated input files: results/x.json"),
    ],
)
def test_a_reason_names_the_key_that_changed(reason, shown):
    text = shorten_reason(reason, "transcode_clips", NAMES, is_forced=False)
    assert shown in text
    assert bool(text) == bool(shown)
    assert len(text) <= 200


@pytest.mark.parametrize(
    ("is_forced", "shown"), [(False, "it was interrupted"), (True, "Forced execution")]
)
def test_what_nobody_forced_was_interrupted(is_forced, shown):
    found = shorten_reason("Forced execution", "transcode_clips", NAMES, is_forced=is_forced)
    assert found == shown


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        (2, 3, "report.num_examples 2 -> 3"),
        (4, 5, "version 4 -> 5"),
        (False, True, "a.switch False -> True"),
    ],
)
def test_a_single_setting_is_no_version(old, new, shown):
    found = shorten_reason(changed([old], [new]), "evaluate_pretrained", NAMES, is_forced=False)
    assert found == shown


def test_many_changes_are_counted():
    new = dict.fromkeys(list(FINETUNE)[:9], 0)
    reason = changed([FINETUNE], [FINETUNE | new])
    text = shorten_reason(reason, "finetune_model", NAMES, is_forced=False)
    assert "more" in text
    assert len(text) <= 200


def test_changes_of_nested_keys_and_of_keys_that_came_or_went():
    old, new = {"a": {"b": 1, "c": [1]}, "d": 1}, {"a": {"b": 2, "c": [1]}, "e": "x" * 100}
    found = describe_changes(old, new, "s")
    assert found == ["s.a.b 1 -> 2", "s.d is gone", f"s.e is new: {'x' * 57}..."]


def write_failure(path, error):
    def job():
        logging.getLogger("pipeline_src.x").error("an error on the way")
        logging.getLogger("pipeline_src.x").info("continued")
        raise error

    with pytest.raises((SystemExit, RuntimeError)), log_to_file(str(path)):
        job()


def test_a_failed_workflow_ends_with_the_sentence_that_matters(tmp_path, capsys):
    screen = Screen()
    paths = {name: tmp_path / f"{name}.log" for name in ("user", "defect", "silent")}
    write_failure(paths["user"], ConfigError("lr = -1: give\na positive one"))
    write_failure(paths["defect"], RuntimeError("unforeseen"))
    for number, (name, path) in enumerate(paths.items()):
        screen.start(number, "pack_shard", chunk=name)
        screen.fail(number, "pack_shard", f"{path} (check log file(s) for error details)")
    screen.log(None, "At least one job did not complete successfully.", logging.ERROR)
    assert screen.lines[-4:] == [
        "pack_shard user: ConfigError: lr = -1: give",
        "a positive one",
        f"pack_shard defect: RuntimeError: unforeseen (a defect; the traceback is in "
        f"{paths['defect']})",
        f"pack_shard silent: it failed without a message of its own; see {paths['silent']}",
    ]


def test_an_interrupt_is_said_as_such(tmp_path):
    screen = Screen()
    screen.start(0, "finetune_model", run="a")
    screen.log(None, "Terminating processes on user request, this might take some time.")
    screen.log(None, "RuleException:\nCalledProcessError in file a.smk", logging.ERROR)
    screen.fail(0, "finetune_model", str(tmp_path / "none.log"))
    screen.log(None, "At least one job did not complete successfully.", logging.ERROR)
    assert screen.lines[-3:] == [
        "Interrupted: trainings save their state, other jobs end and begin again ...",
        "finetune_model a stopped",
        "Interrupted. The same command continues.",
    ]


def died(signal, rule="pack_shard"):
    return (
        "RuleException:\nCalledProcessError in file a.smk, line 22:\n"
        f"Command 'set -euo pipefail;  python tmpx_1.{rule}.py' died with <Signals.{signal}: 1>."
    )


FAILED = "At least one job did not complete successfully."
ENDS_EARLY = "Will exit after finishing currently running jobs (scheduler)."


def test_a_workflow_that_sigterm_ended_was_stopped(tmp_path):
    """Its jobs were said to have failed without a message, the first with Snakemake's command."""
    screen = Screen()
    for number in range(2):
        screen.start(number, "pack_shard", chunk=str(number))
        screen.log(None, ENDS_EARLY)
        screen.log(None, died("SIGTERM"), logging.ERROR)
        screen.fail(number, "pack_shard", str(tmp_path / "none.log"))
    screen.log(None, FAILED, logging.ERROR)
    assert [line for line in screen.lines if line not in ("", ENDS_EARLY)] == [
        *("pack_shard 0", "pack_shard 0 stopped", "pack_shard 1", "pack_shard 1 stopped"),
        "Stopped before the end. The same command continues.",
    ]


def ended(status, rule="pack_shard"):
    """What Snakemake says of a job that handles the signal itself, as every one of ours does."""
    return died("SIGTERM", rule).partition("died with")[0] + (
        f"returned non-zero exit status {status}."
    )


@pytest.mark.slow
@pytest.mark.parametrize("alone", [False, True])
def test_jobs_that_log_the_sigterm_of_a_workflow_were_stopped(tmp_path, alone):
    screen, logs = Screen(), [tmp_path / f"{number}.log" for number in range(2)]
    for path in logs:
        code = (
            "import os, signal, time\nfrom pipeline_src.system.joblog import log_to_file\n"
            f"with log_to_file({str(path)!r}):\n"
            "    os.kill(os.getpid(), signal.SIGTERM)\n    time.sleep(300)\n"
        )
        assert exit_code(code) == 143
    for number in range(2):
        screen.start(number, "pack_shard", chunk=str(number))
    if not alone:
        screen.log(None, ENDS_EARLY)
    for _ in logs:  # Snakemake's threads say this first
        screen.log(None, ended(143), logging.ERROR)
    for number, path in enumerate(logs):
        screen.fail(number, "pack_shard", str(path))
    screen.log(None, FAILED, logging.ERROR)
    if alone:
        assert screen.lines[-1].startswith("pack_shard 1: stopped by SIGTERM, as at a time limit")
    else:
        assert screen.lines[-4:] == [
            ENDS_EARLY,
            *("pack_shard 0 stopped", "pack_shard 1 stopped"),
            "Stopped before the end. The same command continues.",
        ]


def test_jobs_of_one_rule_that_end_at_once_keep_their_signals(tmp_path):
    """One entry a rule: the others were said to have failed without a message."""
    screen, log = Screen(), str(tmp_path / "none.log")
    for number in range(3):
        screen.start(number, "pack_shard", chunk=str(number))
    for text in (died("SIGKILL"), ended(1), died("SIGBUS")):
        screen.log(None, text, logging.ERROR)
    for number in range(3):
        screen.fail(number, "pack_shard", log)
    screen.log(None, FAILED, logging.ERROR)
    assert [line.split("; see")[0] for line in screen.lines[-3:]] == [
        "pack_shard 0: ended by SIGKILL, as a system without memory to spare does",
        "pack_shard 1: it failed without a message of its own",
        "pack_shard 2: ended by SIGBUS",
    ]


def test_a_failure_that_was_tried_again_is_not_the_last_word(tmp_path):
    screen, log = Screen(), str(tmp_path / "none.log")
    for _ in range(2):
        screen.start(0, "pack_shard", chunk="0")
        screen.log(None, ended(1), logging.ERROR)
        screen.fail(0, "pack_shard", log)
    screen.start(0, "pack_shard", chunk="0")
    screen.log(None, ENDS_EARLY)
    screen.log(None, FAILED, logging.ERROR)
    assert screen.lines[-1] == "Stopped before the end. The same command continues."


def test_output_that_is_missing_is_no_stop():
    screen = Screen()
    screen.start(0, "pack_shard", chunk="0")
    screen.log(None, ENDS_EARLY)
    screen.log(None, "MissingOutputException in rule pack_shard in file a.smk", logging.ERROR)
    screen.log(None, FAILED, logging.ERROR)
    assert screen.lines[-1] == FAILED


def test_a_workflow_that_was_stopped_between_its_jobs_says_so():
    screen = Screen()
    screen.log(None, ENDS_EARLY)
    screen.log(None, FAILED, logging.ERROR)
    assert screen.lines[-1] == "Stopped before the end. The same command continues."


def test_a_job_that_fails_beside_a_signal_is_still_named(tmp_path):
    screen, path = Screen(), tmp_path / "a.log"
    write_failure(path, ConfigError("lr = -1"))
    for number, log in enumerate((path, tmp_path / "none.log")):
        screen.start(number, "pack_shard", chunk=str(number))
        screen.log(None, died("SIGTERM" if number == 0 else "SIGKILL"), logging.ERROR)
        screen.fail(number, "pack_shard", str(log))
    screen.log(None, FAILED, logging.ERROR)
    assert screen.lines[-2:] == [
        "pack_shard 0: ConfigError: lr = -1",
        "pack_shard 1: ended by SIGKILL, as a system without memory to spare does; see "
        f"{tmp_path / 'none.log'}",
    ]


def test_a_job_that_somebody_else_ended_is_named(tmp_path):
    """SIGTERM of a system short of memory, or of a person, ends one job and not the workflow."""
    screen = Screen()
    screen.start(0, "pack_shard", chunk="0")
    screen.log(None, died("SIGTERM"), logging.ERROR)
    screen.fail(0, "pack_shard", str(tmp_path / "none.log"))
    screen.log(None, ENDS_EARLY)
    screen.log(None, FAILED, logging.ERROR)
    assert screen.lines[-1] == f"pack_shard 0: ended by SIGTERM; see {tmp_path / 'none.log'}"


def test_of_jobs_that_fail_at_once_each_gets_its_own_signal(tmp_path):
    screen, log = Screen(), str(tmp_path / "none.log")
    screen.start(0, "pack_shard")
    screen.start(1, "extract_logmel")
    screen.log(None, died("SIGKILL"), logging.ERROR)
    screen.log(None, "RuleException:\nValueError in file b.smk", logging.ERROR)
    screen.fail(1, "extract_logmel", log)
    screen.fail(0, "pack_shard", log)
    screen.log(None, FAILED, logging.ERROR)
    assert screen.lines[-2:] == [
        f"extract_logmel: it failed without a message of its own; see {log}",
        f"pack_shard: ended by SIGKILL, as a system without memory to spare does; see {log}",
    ]


def test_a_log_that_a_full_disk_kept_empty_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=0))
    screen = Screen()
    screen.start(0, "pack_shard")
    screen.fail(0, "pack_shard", str(tmp_path / "none.log"))
    screen.log(None, FAILED, logging.ERROR)
    assert screen.lines[-1].startswith(f"pack_shard: disk full: {tmp_path}; free space and run")


def test_an_interrupted_job_ends_without_a_traceback(tmp_path):
    path = tmp_path / "a.log"
    with pytest.raises(SystemExit) as end, log_to_file(str(path)):
        raise KeyboardInterrupt
    assert end.value.code == 130
    assert path.read_text() == ""


def exit_code(code):
    """Run it in a process of its own, which a signal may end."""
    return subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode


@pytest.mark.slow
def test_a_job_at_its_time_limit_says_that_it_was_stopped(tmp_path):
    """It failed without a message of its own, and left its temporary files."""
    path = tmp_path / "a.log"
    code = (
        "import os, pathlib, signal, time\n"
        "from pipeline_src.system.atomic import atomic_path\n"
        "from pipeline_src.system.joblog import log_to_file\n"
        f"target = pathlib.Path({str(tmp_path / 'b')!r})\n"
        f"with log_to_file({str(path)!r}), atomic_path(target) as part:\n"
        "    part.touch()\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(300)\n"
    )
    assert exit_code(code) == 143
    assert last_error(path) == "stopped by SIGTERM, as at a time limit; the same command continues"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_the_second_signal_of_a_time_limit_leaves_no_temporary_files(tmp_path):
    """Slurm sends two, a tenth of a second apart; the second killed while files were removed."""
    path = tmp_path / "a.log"
    code = (
        "import os, pathlib, signal, threading, time\n"
        "from pipeline_src.system.atomic import atomic_path\n"
        "from pipeline_src.system.joblog import log_to_file\n"
        f"target = pathlib.Path({str(tmp_path / 'b')!r})\n"
        "terminate = lambda: os.kill(os.getpid(), signal.SIGTERM)\n"
        f"with log_to_file({str(path)!r}), atomic_path(target) as part:\n"
        "    part.touch()\n"
        "    threading.Timer(0.1, terminate).start()\n"
        "    try:\n"
        "        terminate()\n"
        "        time.sleep(300)\n"
        "    finally:\n"
        "        time.sleep(0.5)\n"
    )
    assert exit_code(code) == 143
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_a_job_that_waits_for_others_at_its_time_limit_ends_soon(tmp_path):
    code = (
        "import os, signal, threading, time, pipeline_src.system.joblog as joblog\n"
        "joblog.CLEARING_SECONDS = 0.5\n"
        "thread = threading.Thread(target=time.sleep, args=[300])\n"
        f"with joblog.log_to_file({str(tmp_path / 'a.log')!r}):\n"
        "    thread.start()\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        time.sleep(300)\n"
        "    finally:\n"
        "        thread.join()\n"
    )
    assert exit_code(code) == 143
    assert "stopped by SIGTERM" in last_error(tmp_path / "a.log")


def test_a_log_without_an_error_says_nothing(tmp_path):
    (tmp_path / "a.log").write_text("2026-01-01 10:00:00,000 INFO x: fine\n")
    assert last_error(tmp_path / "a.log") == last_error(tmp_path / "none.log") == ""
