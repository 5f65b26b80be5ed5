"""Which heads a fine-tuning trains and an evaluation scores on clips of given modalities."""

from collections.abc import Collection, Sequence

from pipeline_src.modalities import HEADS, INPUTS


def possible_shares(
    modality_probs: Sequence[float], modalities: Collection[str]
) -> tuple[float, float, float]:
    """Share ``finetune.modality_probs`` among the heads that clips with ``modalities`` allow.

    Raises:
        ValueError: none of the heads that are possible has a share.
    """
    pairs = zip(HEADS, modality_probs, strict=True)
    kept = [share if INPUTS[head] <= set(modalities) else 0.0 for head, share in pairs]
    total = sum(kept)
    if total <= 0:
        raise ValueError(
            f"modality_probs={list(modality_probs)} trains no head that clips with only "
            f"{' and '.join(modalities)} can train; set it to [1, 0, 0] for sound alone"
        )
    if total == sum(modality_probs):
        audio, video, audio_video = modality_probs
    else:
        audio, video, audio_video = (share / total for share in kept)
    return audio, video, audio_video


def scored_heads(
    modality_probs: Sequence[float],
    modalities: Collection[str],
    possible: Collection[str] = HEADS,
) -> tuple[str, ...]:
    """Return the heads whose figures mean something.

    A network that was fine-tuned on sound alone or on video alone has no other trained head; one
    that saw both is scored with every input that the clips have, as the field does.

    Args:
        possible: heads that the network has.
    """
    trained = [head for head, share in zip(HEADS, modality_probs, strict=True) if share > 0]
    if len(trained) == 1 and len(INPUTS[trained[0]]) == 1:
        return tuple(trained)
    return tuple(head for head in HEADS if INPUTS[head] <= set(modalities) and head in possible)
