"""What a person sees of a running workflow: two short lines a job, and at the end what matters.

Snakemake's own account of each job, a block of ten lines and more, stays in its log file and is
shown with ``--verbose``.
"""

import ast
import logging
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from pipeline_src.config.changes import describe_changes
from pipeline_src.system.joblog import TERMINATED, TERMINATED_STATUS, last_error
from pipeline_src.system.progress import CLEAR_LINE

MAX_REASON_CHARS = 200
MAX_CHANGES = 4
PARAMS_CHANGED = re.compile(
    r"Params have changed since last execution: Union of exclusive params before and now across "
    r"all output: before: (?P<old>.*?) now: (?P<new>.*?) (?=;|$)",
    re.DOTALL,
)
NOT_MADE = re.compile(r"Missing output files: [^;]*(; )?")
FOLLOWS = re.compile(r"Input files updated by another job: [^;]*(; )?")
FORCED = "Forced execution"
KINDS = {int: "version", str: "path"}  # what params are that have no key of their own
SETTINGS = "settings "  # kind of a param that is a mapping; a step's version is said before it
# The last two would come after what a run ends with: a path, or the sentence that matters.
UNREMARKABLE = re.compile(
    r"Select jobs to execute|Execute \d+ jobs|Using shell|Rules claiming more"
    r"|Complete log\(s\): |Elapsed time: "
)
WORKFLOW_FAILED = "At least one job did not complete successfully."
RULE_FAILED = "RuleException"
INTERRUPTED = "Terminating processes on user request"
ENDS_EARLY = "Will exit after finishing currently running jobs"  # after SIGTERM
ENDED = re.compile(
    r"\.(?P<rule>\w+)\.py' (?:died with <Signals\.(?P<signal>\w+)"
    r"|returned non-zero exit status (?P<status>\d+))"
)
NO_OUTPUT = "MissingOutputException"
SIGTERM = "SIGTERM"
STOPPING = "SIGTERM with the workflow"
STOPPED = "Stopped before the end. The same command continues."
FULL_BYTES = 100_000  # a disk with less has no room for a log


class Names(NamedTuple):
    """What changed params are called.

    Args:
        sections: keys by name of each configuration section.
        singles: of each rule, the settings that are no section, key -> value.
    """

    sections: Mapping[str, set[str]]
    singles: Mapping[str, Mapping[str, Any]] = MappingProxyType({})

    def name(self, value: Any, rule: str, kind: str) -> str:
        """Name what a value is of: the smallest section that has all its keys, or one setting."""
        if isinstance(value, Mapping):
            fitting = [name for name, keys in self.sections.items() if value and set(value) <= keys]
            return min(fitting, key=lambda name: len(self.sections[name]), default="")
        singles = self.singles.get(rule, {}).items()
        alike = [key for key, now in singles if type(now) is type(value) and now == value]
        return alike[0] if alike else kind


def shorten_messages(handler: logging.Handler, names: Names, is_forced: Callable[[], bool]) -> None:
    """Give Snakemake's handler of the terminal our formatter on top of its own.

    Args:
        is_forced: tells whether jobs are forced by an option of this call.
    """
    assert handler.formatter is not None
    formatter = TerminalFormatter(handler, handler.formatter, names, is_forced)
    handler.setFormatter(formatter)


class TerminalFormatter(logging.Formatter):
    """One line when a job starts and one when it ends; reasons name the key that changed."""

    def __init__(
        self,
        handler: logging.Handler,
        plain: logging.Formatter,
        names: Names,
        is_forced: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._handler, self._plain = handler, plain
        self._names, self._is_forced = names, is_forced
        self._labels: dict[int, str] = {}
        self._ended: list[str] = []
        self._failures: dict[str, str] = {}  # by the job's label
        self._is_interrupted = self._ends_early = self._lacks_output = False
        # That ended jobs of a rule, which are about to be said to have failed, in this order.
        self._signals: dict[str, list[str]] = {}

    def format(self, record: logging.LogRecord) -> str:
        """Format one of Snakemake's records; empty = nothing is shown.

        Snakemake's handler puts an empty line before the first job after another message: it is
        told that a job's message has just been shown.
        """
        event = getattr(getattr(record, "event", None), "name", "")
        if event == "JOB_INFO":
            text = self._started(record)
        elif event == "WORKFLOW_STARTED":
            text = ""
        elif event == "JOB_FINISHED":
            label = self._labels.get(_field(record, "job_id"), record.getMessage())
            self._ended.append(label)
            self._failures.pop(label, None)  # of an earlier try
            text = ""
        elif event == "PROGRESS":
            text = self._progressed(record)
        elif event == "JOB_ERROR":
            text = self._failed(record)
        else:
            text = self._said(record)
        self._handler.last_msg_was_job_info = True  # type: ignore[attr-defined]
        # A job's renewing line may stand there.
        return CLEAR_LINE + text if text and self._handler.is_tty else text  # type: ignore[attr-defined]

    def _started(self, record: logging.LogRecord) -> str:
        why, rule = _field(record, "reason"), _field(record, "rule_name")
        reason = shorten_reason(why, rule, self._names, is_forced=self._is_forced())
        place = "/".join(map(str, _field(record, "wildcards").values()))
        label = f"{rule} {place}".rstrip()
        self._labels[_field(record, "jobid")] = label
        self._failures.pop(label, None)  # it is tried again
        return f"{_clock()} {label}" + (f": {reason}" if reason else "")

    def _progressed(self, record: logging.LogRecord) -> str:
        ended, self._ended = self._ended, []
        done, total = _field(record, "done"), _field(record, "total")
        share = f"{done} of {total} steps ({done / total:.0%})"
        return f"{_clock()} {', '.join(ended)} done, {share}" if ended else share

    def _failed(self, record: logging.LogRecord) -> str:
        label = self._labels.get(_field(record, "jobid")) or str(_field(record, "rule_name"))
        signals = self._signals.get(_field(record, "rule_name"))
        signal = signals.pop(0) if signals else ""
        logs = [str(path).split(" ")[0] for path in _field(record, "log")]
        said = next((text for path in logs if (text := last_error(Path(path)))), "")
        if self._is_interrupted or (signal == STOPPING and said in ("", TERMINATED)):
            return f"{_clock()} {label} stopped"
        self._failures[label] = f"{label}: {said or _without_words(signal, logs)}"
        return f"{_clock()} {label} failed (log: {', '.join(logs) or 'none'})"

    def _said(self, record: logging.LogRecord) -> str:
        text = self._plain.format(record)
        self._ends_early = self._ends_early or text.startswith(ENDS_EARLY)
        is_asked_for = self._is_interrupted
        self._lacks_output = self._lacks_output or NO_OUTPUT in text
        if ended := ENDED.search(text):
            # With the workflow, or the job alone by somebody else: which is said nowhere else.
            signal = ended["signal"] or SIGTERM * (ended["status"] == str(TERMINATED_STATUS))
            with_all = self._ends_early and signal == SIGTERM
            self._signals.setdefault(ended["rule"], []).append(STOPPING if with_all else signal)
            is_asked_for = is_asked_for or with_all
        if UNREMARKABLE.match(text) or (is_asked_for and text.startswith(RULE_FAILED)):
            return ""
        if INTERRUPTED in text:
            self._is_interrupted = True
            record.levelno, record.levelname = logging.INFO, "INFO"  # what was asked is no error
            return "Interrupted: trainings save their state, other jobs end and begin again ..."
        if WORKFLOW_FAILED in text:
            return self._summary(record)
        return text

    def _summary(self, record: logging.LogRecord) -> str:
        """Return the last words of a workflow that did not succeed."""
        if self._is_interrupted:
            record.levelno, record.levelname = logging.INFO, "INFO"
            return "Interrupted. The same command continues."
        if self._ends_early and not self._failures and not self._lacks_output:
            return STOPPED
        return "\n".join(dict.fromkeys(self._failures.values())) or WORKFLOW_FAILED


def _without_words(signal: str, logs: Sequence[str]) -> str:
    """Say what is known of a job that failed and whose log does not say why."""
    where = f"see {', '.join(logs) or 'above'}"
    if signal:
        why = ", as a system without memory to spare does" if signal == "SIGKILL" else ""
        return f"ended by {signal}{why}; {where}"
    folders = [folder for log in logs if (folder := Path(log).parent).is_dir()]
    if folders and shutil.disk_usage(folders[0]).free < FULL_BYTES:
        return f"disk full: {folders[0]}; free space and run the same command again"
    return f"it failed without a message of its own; {where}"


def _field(record: logging.LogRecord, name: str) -> Any:
    return getattr(record, name)


def _clock() -> str:
    return time.strftime("[%H:%M:%S]")


def shorten_reason(reason: str, rule: str, names: Names, *, is_forced: bool) -> str:
    """Say why a job runs in a line; empty where it was simply not made yet."""
    changed = PARAMS_CHANGED.search(reason)
    rest = PARAMS_CHANGED.sub("", reason) if changed else reason
    rest = FOLLOWS.sub("", NOT_MADE.sub("", rest)).strip("; ")
    if rest == FORCED and not is_forced:
        rest = "it was interrupted"  # what is incomplete is forced by the profiles
    parts = [*(_changes(changed["old"], changed["new"], rule, names) if changed else ()), rest]
    text = ", ".join(part for part in parts if part)
    return text if len(text) <= MAX_REASON_CHARS else text[: MAX_REASON_CHARS - 3] + "..."


def _changes(old: str, new: str, rule: str, names: Names) -> list[str]:
    """Return the keys that differ between the params of before and now, given as reprs."""
    before, now = (_values(text) for text in (old, new))
    said: list[str] = []
    for name, values in sorted(now.items(), key=lambda item: item[0].startswith(SETTINGS)):
        for place, value in enumerate(values):
            same_kind = before.get(name, [])
            if place < len(same_kind):
                said += describe_changes(same_kind[place], value, names.name(value, rule, name))
    if not said:
        return ["its settings changed"]
    more = [f"and {len(said) - MAX_CHANGES} more"] if len(said) > MAX_CHANGES else []
    return said[:MAX_CHANGES] + more


def _values(text: str) -> dict[str, list[Any]]:
    """Return the values of a joined list of reprs, by what kind each is."""
    try:
        values = ast.literal_eval(f"[{text}]")
    except (ValueError, SyntaxError):
        return {}
    found: dict[str, list[Any]] = {}
    for value in values:
        kind = KINDS.get(type(value), type(value).__name__)
        if isinstance(value, Mapping):
            kind = SETTINGS + " ".join(sorted(map(str, value))[:3])
        found.setdefault(kind, []).append(value)
    return found
