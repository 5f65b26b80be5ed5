"""The words of the field that every room speaks: modalities, heads, kinds of labels."""

from typing import Literal

LabelKind = Literal["multiclass", "multilabel"]  # one label a clip, or any number
Modality = Literal["audio", "video"]
MODALITIES: tuple[Modality, ...] = ("audio", "video")
Head = Literal["audio", "video", "audio_video"]  # what classifies, or is scored: one or both
HEADS: tuple[Head, ...] = ("audio", "video", "audio_video")
INPUTS: dict[str, set[Modality]] = {  # of each head
    "audio": {"audio"},
    "video": {"video"},
    "audio_video": {"audio", "video"},
}
