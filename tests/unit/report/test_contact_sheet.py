"""Pictures of clips in one image, from shards that may not be there."""

import base64
import io

import pytest
from PIL import Image

from pipeline_src.config.data import AudioConfig
from pipeline_src.report.contact_sheet import SIDE, contact_sheet
from tests import media

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def index_path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    for name in ("a", "b"):
        media.make_clip(folder / f"{name}.mp4")
    clips = [{"clip_id": name, "source": f"{name}.mp4", "labels": "0"} for name in ("a", "b")]
    return media.make_shards(folder, clips, AudioConfig())


def test_pictures_stand_in_the_order_asked_for(index_path):
    sheet = contact_sheet(index_path, ["elsewhere", "b", "a"])
    head, content = sheet.data_uri.split(",")
    assert head == "data:image/webp;base64"
    image = Image.open(io.BytesIO(base64.b64decode(content))).convert("L")
    assert (sheet.columns, sheet.side, image.size) == (2, SIDE, (2 * SIDE, 2 * SIDE))
    places = [(0, 0), (SIDE, 0), (0, SIDE)]
    brightest = [image.crop((x, y, x + SIDE, y + SIDE)).getextrema()[1] for x, y in places]
    assert brightest[0] < 16
    assert min(brightest[1:]) > 32


def test_without_shards_there_is_no_sheet(index_path):
    assert contact_sheet(None, ["a"]) is None
    assert contact_sheet(index_path, ["elsewhere"]) is None
    shard = next(index_path.parent.glob("*.tar"))
    shard.rename(shard.with_suffix(".away"))
    assert contact_sheet(index_path, ["a"]) is None
