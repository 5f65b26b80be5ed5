"""Errors a user can act on, by cause. Each message names the thing, its value and the next step."""

import difflib
import errno
import logging
from collections.abc import Iterable
from reprlib import Repr
from typing import Any

logger = logging.getLogger(__name__)
MAX_MESSAGE_CHARS = 4000
TORCH_MEMORY = "DefaultCPUAllocator"
_REPR = Repr()
_REPR.maxlevel, _REPR.maxlist, _REPR.maxtuple, _REPR.maxdict = 3, 6, 6, 6
_REPR.maxstring = _REPR.maxother = 160


def shown(value: Any) -> str:
    """Return a value of a foreign file as a message shows it.

    Short, however large or nested it is.
    """
    return _REPR.repr(value)


class PipelineError(Exception):
    """Base of every error that is the user's to solve; shown without a traceback.

    A message is cut at a size that can be read: parts of it may come from foreign files.
    """

    def __init__(self, message: object = "", *rest: object) -> None:
        text = str(message)
        if len(text) > MAX_MESSAGE_CHARS:
            half = MAX_MESSAGE_CHARS // 2
            text = f"{text[:half]} ... ({len(text)} characters) ... {text[-half:]}"
        super().__init__(text, *rest)


class ConfigError(PipelineError):
    """A key or value in the configuration is not allowed."""


class ManifestError(PipelineError):
    """A data set description, clip list or chunk manifest is wrong or missing."""


class SampleError(ManifestError):
    """One sample of a shard is damaged; the others may be whole."""


class MediaError(PipelineError):
    """One clip cannot be fetched or decoded; carries a reason of the ledger's closed list."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class StageError(PipelineError):
    """A stage as a whole failed: too many bad clips, a shard missing, a disk full."""


class CheckpointError(PipelineError):
    """A checkpoint is missing, truncated, or belongs to another method, size or configuration."""


class TrainingError(PipelineError):
    """Training stopped: non-finite loss, or a job that died."""


class RunInUseError(TrainingError):
    """Another process trains in the run's folder."""


class LoaderError(PipelineError):
    """A process that loads batches died; not the training's fault, another attempt may succeed."""


def is_disk_full(error: BaseException) -> bool:
    """Tell whether writing failed for want of space; libraries not Python's say it in words."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "No space left on device" in str(error)


def as_clip_error(error: Exception, what: str) -> MediaError:
    """Return the loss of a clip whose step raised what nobody foresaw: corrupt, and why is logged.

    Args:
        what: the clip's name, or several.
    Raises:
        Exception: the given one, where it is not about the clip: a setting, the memory, the disk.
    """
    if isinstance(error, MediaError):
        return error
    is_memory = isinstance(error, MemoryError) or TORCH_MEMORY in str(error)
    if isinstance(error, PipelineError) or is_memory or is_disk_full(error):
        raise error
    logger.warning("%s: an unforeseen %s", what, type(error).__name__, exc_info=error)
    return MediaError("corrupt", f"unforeseen {type(error).__name__}: {error}")


def describe_disk_full(error: BaseException, folder: object) -> str:
    """Say where there was no room and what to do."""
    where = getattr(error, "filename", None) or folder
    return f"disk full: {where} could not be written; free space and run the same command again"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a question to put behind an unknown word; empty where nothing known is like it."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return f"; did you mean {by_lower[close[0]]!r}?" if close else ""
