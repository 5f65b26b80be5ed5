"""A line with rate and remaining time every ten seconds."""

import logging
import time

LOGGER_NAME = __name__
LOGGER = logging.getLogger(LOGGER_NAME)
INTERVAL_SECONDS = 10.0


class Progress:
    """Count clips of one chunk; call ``update`` from one thread."""

    def __init__(self, stage: str, num_clips: int) -> None:
        self.stage = stage
        self.num_clips = num_clips
        self.num_done = 0
        self.started = self.reported = time.monotonic()

    def update(self, count: int = 1) -> None:
        """Note that ``count`` more clips are done."""
        self.num_done += count
        now = time.monotonic()
        if now - self.reported < INTERVAL_SECONDS:
            return
        self.reported = now
        clips_per_second = self.num_done / (now - self.started)
        LOGGER.info(
            "%s: %d of %d clips, %.1f clips/s, %.0f s left",
            self.stage,
            self.num_done,
            self.num_clips,
            clips_per_second,
            (self.num_clips - self.num_done) / clips_per_second,
        )
