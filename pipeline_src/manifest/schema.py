"""What the JSON files between the stages must hold, so that a damaged one is one sentence.

Types are strict: ``1`` is no ``true`` and ``"1"`` no number. Further keys are left alone.
"""

import json
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    TypeAdapter,
    ValidationError,
    with_config,
)
from typing_extensions import TypedDict

from pipeline_src.config.data import AudioConfig
from pipeline_src.errors import ManifestError, shown
from pipeline_src.manifest.ledger import REASONS
from pipeline_src.modalities import LabelKind, Modality

STRICT = ConfigDict(strict=True, extra="allow")
CLOSED = ConfigDict(strict=True, extra="forbid")
MAX_PROBLEM_CHARS = 300


def _known_reason(value: str) -> str:
    if value not in (*REASONS, "duplicate"):
        raise ValueError(f"is none of {', '.join(REASONS)}")
    return value


def _audio_section(value: dict[str, Any]) -> dict[str, Any]:
    AudioConfig.model_validate(value)
    return value


Count = Annotated[int, Field(ge=0, le=1 << 60)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{0,64}$")]
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,120}$")]
Audio = Annotated[dict[str, Any], AfterValidator(_audio_section)]
Reason = Annotated[str, AfterValidator(_known_reason)]


@with_config(CLOSED)
class Bulk(TypedDict):
    file: str
    bytes: Count
    sha256: Sha256


@with_config(STRICT)
class DroppedClip(TypedDict):
    clip_id: str
    reason: Reason


@with_config(STRICT)
class AnyClip(TypedDict):
    clip_id: str
    key: Key
    labels: list[Count]


@with_config(STRICT)
class FetchedClip(AnyClip):
    path: str
    source: str
    start_seconds: FiniteFloat | None
    end_seconds: FiniteFloat | None


@with_config(STRICT)
class DecodedClip(AnyClip):
    source: str
    start_seconds: FiniteFloat
    end_seconds: FiniteFloat
    duration_seconds: FiniteFloat
    fps: FiniteFloat
    frame_seconds: list[FiniteFloat]
    audio_codec: str
    video_codec: str
    flags: list[str]


@with_config(STRICT)
class PackedClip(AnyClip):
    flags: list[str]
    content: str


@with_config(STRICT)
class ChunkHead(TypedDict):
    """What every chunk manifest has."""

    stage: str
    dataset: str
    split: str
    chunk: str
    version: int
    origin: str
    num_in: Count
    num_ok: Count
    num_skipped: Count
    num_failed: Count
    tar: Bulk | None
    settings: dict[str, Any]
    lost: list[DroppedClip]


@with_config(STRICT)
class FetchedChunk(ChunkHead):
    clips: list[FetchedClip]


@with_config(STRICT)
class DecodedChunk(ChunkHead):
    clips: list[DecodedClip]


@with_config(CLOSED)
class Shard(TypedDict):
    file: str
    num_samples: Count
    bytes: Count
    sha256: Sha256


@with_config(CLOSED)
class StoredMoments(TypedDict):
    count: Count
    mean: FiniteFloat
    m2: FiniteFloat


# key, labels, clip_id, offset_bytes, size_bytes, crc32
SampleRow = Annotated[
    tuple[Key, list[Count], str, Count, Count, Annotated[int, Field(ge=0, lt=1 << 32)]],
    Field(strict=False),  # JSON has lists alone
]


@with_config(STRICT)
class PackedChunk(ChunkHead):
    clips: list[PackedClip]
    shards: NotRequired[list[Shard]]  # not in those of older versions, which are refused later
    samples: NotRequired[list[SampleRow]]
    logmel: NotRequired[StoredMoments]


@with_config(STRICT)
class IndexShard(TypedDict):
    manifest: str
    file: NotRequired[str]
    num_samples: NotRequired[Count]
    bytes: NotRequired[Count]
    sha256: NotRequired[Sha256]


@with_config(STRICT)
class Index(TypedDict):
    """What readers take from the index.json of a split."""

    dataset: NotRequired[str]
    split: NotRequired[str]
    task: LabelKind
    modalities: list[Modality]
    class_names: list[str]
    num_clips: Count
    num_clips_in_list: NotRequired[Count]
    clip_ids_sha256: NotRequired[str]
    reasons: NotRequired[dict[str, Count]]
    logmel_mean: FiniteFloat
    logmel_std: Annotated[FiniteFloat, Field(gt=0)]
    num_mel_bins: Annotated[int, Field(gt=0, le=1 << 16)]
    sample_rate_hz: Annotated[int, Field(gt=0)]
    frame_size: NotRequired[Count]
    audio: Audio
    duplicates: list[list[str]]
    excludes_duplicates: bool
    shards: list[IndexShard]
    base_url: NotRequired[str]


CHUNKS = {
    "download": TypeAdapter(FetchedChunk),
    "transcode": TypeAdapter(DecodedChunk),
    "logmel": TypeAdapter(DecodedChunk),
    "pack": TypeAdapter(PackedChunk),
}
INDEX = TypeAdapter(Index)


def read_json(path: Path, what: str) -> Any:
    """Read the value of a JSON file.

    Raises:
        ManifestError: it cannot be read, or is not JSON.
    """
    try:
        return parse_json(path.read_bytes(), path, what)
    except OSError as error:
        raise ManifestError(
            f"{path}: {what} not readable: {error.strerror}; run again what makes it"
        ) from error


def parse_json(text: bytes, where: object, what: str) -> Any:
    """Parse the bytes of a JSON file; NaN and infinity are no numbers.

    Raises:
        ManifestError: not JSON.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:  # of UnicodeDecodeError and JSONDecodeError too
        raise ManifestError(
            f"{where}: no {what}, or a damaged one: {shown(error)}; delete it and run again"
        ) from None


def check_json(schema: "TypeAdapter[Any]", value: Any, where: object, what: str) -> None:
    """Refuse a value that has not the schema's keys and types.

    Raises:
        ManifestError: names the first place that is wrong.
    """
    try:
        schema.validate_python(value)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(shown(part).strip("'") for part in problem["loc"])
        said = problem["msg"].removeprefix("Value error, ")[:MAX_PROBLEM_CHARS]
        raise ManifestError(
            f"{where}: damaged {what}: {place}: {shown(problem['input'])}: {said}; "
            "delete it and run again"
        ) from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
