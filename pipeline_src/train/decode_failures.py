"""Clips of a training that could not be decoded and were replaced: named, counted, bounded."""

import logging

import torch.distributed as dist

from pipeline_src.errors import ManifestError
from pipeline_src.loader.batches import Batch
from pipeline_src.loader.dataset import DECODE_FAILURES
from pipeline_src.shards.shard_set import ShardSet
from pipeline_src.train.distributed import Ranks

logger = logging.getLogger(__name__)
MAX_NAMED = 8


class DecodeFailures:
    """Different clips since this job began; a clip that fails again in a later epoch counts once.

    Args:
        limit: ``max_decode_errors``; 0 = nothing is replaced, so there is nothing to count.
    """

    def __init__(self, shards: ShardSet, limit: int, ranks: Ranks) -> None:
        self._shards, self._limit, self._ranks = shards, limit, ranks
        self._indices: set[int] = set()

    def take(self, batch: Batch) -> Batch:
        """Note the clips that a batch lacks; return it without that note, its shapes unchanged."""
        if DECODE_FAILURES not in batch:
            return batch
        found = set(batch[DECODE_FAILURES].flatten().tolist()) - {-1} - self._indices
        for index in sorted(found):
            sample = self._shards.samples[index]
            logger.warning(
                "clip %s cannot be decoded and is replaced: %s, sample %s",
                sample.clip_id,
                sample.shard,
                sample.key,
            )
        self._indices |= found
        return {name: value for name, value in batch.items() if name != DECODE_FAILURES}

    def count(self) -> dict[str, int]:
        """Count ``decode_errors`` over all ranks, which must all ask; empty where none is allowed.

        Raises:
            ManifestError: there are more than the limit.
        """
        if not self._limit:
            return {}
        if self._ranks.world_size > 1:
            gathered: list[set[int]] = [set() for _ in range(self._ranks.world_size)]
            dist.all_gather_object(gathered, self._indices)
            self._indices = set().union(*gathered)
        if len(self._indices) > self._limit:
            clips = [self._shards.samples[index].clip_id for index in sorted(self._indices)]
            raise ManifestError(
                f"{len(clips)} training clips cannot be decoded, max_decode_errors allows "
                f"{self._limit}: {', '.join(clips[:MAX_NAMED])}"
                f"{', ...' if len(clips) > MAX_NAMED else ''}. The log names their shards; "
                "av-pipeline verify checks them all"
            )
        return {"decode_errors": len(self._indices)}
