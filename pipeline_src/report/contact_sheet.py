"""Small pictures of clips in one image, from the shards of their split."""

import base64
import io
import logging
import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from pipeline_src.errors import ManifestError, SampleError
from pipeline_src.report.blocks import Sheet
from pipeline_src.shards.reader import ShardReader
from pipeline_src.shards.samples import Sample
from pipeline_src.shards.shard_set import open_shards

logger = logging.getLogger(__name__)

SIDE = 48
QUALITY = 70


def contact_sheet(index_path: Path | None, clip_ids: Sequence[str]) -> Sheet | None:
    """Draw the middle frame of each clip, in order; None where the shards are not on this machine.

    They are no input of the report, so a copy of the results without them has no pictures.
    """
    try:
        samples = open_shards([index_path]).samples if index_path else ()
    except ManifestError as error:
        logger.info("no pictures of clips: %s", error)
        return None
    found = {sample.clip_id: sample for sample in samples if isinstance(sample.shard, Path)}
    columns = math.ceil(math.sqrt(len(clip_ids)))
    sheet = Image.new("RGB", (columns * SIDE, -(-len(clip_ids) // columns) * SIDE))
    reader, num_drawn = ShardReader(), 0
    for place, clip_id in enumerate(clip_ids):
        frame = _frame(reader, found[clip_id]) if clip_id in found else None
        if frame:
            sheet.paste(frame, (place % columns * SIDE, place // columns * SIDE))
            num_drawn += 1
    return Sheet(_uri(sheet), columns, SIDE) if num_drawn else None


def _frame(reader: ShardReader, sample: Sample) -> Image.Image | None:
    try:
        members = reader.read(sample)
        frames = sorted(name for name in members if name.startswith("frame_"))
        with Image.open(io.BytesIO(members[frames[len(frames) // 2]])) as image:
            image.draft("RGB", (SIDE, SIDE))
            return image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    except (ManifestError, SampleError, IndexError, OSError) as error:
        logger.info("no picture of clip %s: %s", sample.clip_id, error)
        return None


def _uri(sheet: Image.Image) -> str:
    stream = io.BytesIO()
    sheet.save(stream, "WEBP", quality=QUALITY)
    content = base64.b64encode(stream.getvalue()).decode("ascii")
    return f"data:image/webp;base64,{content}"
