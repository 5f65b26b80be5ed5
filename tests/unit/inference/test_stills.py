"""Pictures become frames as video's do; hostile ones are refused."""

import io

import numpy as np
import pytest
from PIL import Image

from pipeline_src.config.data import MediaConfig
from pipeline_src.errors import MediaError
from pipeline_src.inference.stills import frame_jpeg, read_still

MEDIA = MediaConfig(num_frames=4, frame_size=32, max_pixels=100_000)


def size_of(jpeg):
    return Image.open(io.BytesIO(jpeg)).size


@pytest.mark.parametrize(
    ("fit", "size"), [("crop", (32, 32)), ("stretch", (32, 32)), ("short_side", (64, 32))]
)
def test_a_picture_is_fitted_as_frames_are(fit, size):
    media = MEDIA.model_copy(update={"frame_fit": fit})
    assert size_of(frame_jpeg(Image.new("RGB", (128, 64)), media)) == size


def test_a_line_does_not_become_gigabytes():
    media = MEDIA.model_copy(update={"frame_fit": "short_side"})
    assert size_of(frame_jpeg(Image.new("RGB", (90_000, 1)), media)) == (1024, 32)


def test_a_picture_is_put_upright(tmp_path):
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16] = 255  # bright above
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path, exif=exif)
    shown = np.asarray(Image.open(io.BytesIO(read_still(path, MEDIA))))
    assert shown[:8].mean() < 50 < 200 < shown[-8:].mean()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_every_kind_of_colour_is_read(tmp_path, mode):
    path = tmp_path / "a.tif"
    Image.new(mode, (40, 50)).save(path)
    assert size_of(read_still(path, MEDIA)) == (32, 32)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_grey_of_16_bits_is_scaled(tmp_path, ending):
    """All above 255 was white."""
    grey = np.linspace(0, 65535, 4096).reshape(64, 64).astype(np.uint16)
    shown = []
    for name, pixels in (("wide", grey), ("narrow", (grey >> 8).astype(np.uint8))):
        path = tmp_path / f"{name}.{ending}"
        Image.fromarray(pixels).save(path)
        shown.append(np.asarray(Image.open(io.BytesIO(read_still(path, MEDIA)))))
    np.testing.assert_array_equal(*shown)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_without_a_known_white_are_refused(tmp_path, dtype):
    Image.fromarray(np.ones((64, 64), dtype)).save(tmp_path / "a.tif")
    with pytest.raises(MediaError, match="8 or 16 bits") as caught:
        read_still(tmp_path / "a.tif", MEDIA)
    assert caught.value.reason == "unsupported"


def test_hostile_pictures_are_refused(tmp_path):
    whole = io.BytesIO()
    Image.effect_noise((200, 200), 80).save(whole, "PNG")
    large = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(large, "PNG")
    contents = {
        "cut.png": (whole.getvalue()[:2000], "corrupt"),
        "large.png": (large.getvalue(), "unsupported"),
        "paper.pdf": (b"%PDF-1.4\n%%EOF\n", "unsupported"),
    }
    for name, (data, reason) in contents.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(MediaError) as caught:
            read_still(tmp_path / name, MEDIA)
        assert caught.value.reason == reason, name
