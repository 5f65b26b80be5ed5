"""Pictures become frames as video's do; hostile ones are refused."""

import io
import struct

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


def write_tiff(path, packed, *, bits, photometric=1, signed=False):
    """Write a grey TIFF of 8 by 8 pixels in one strip, the tags as given."""
    entries = [
        *((256, 8), (257, 8), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1)),
        *((278, 8), (279, len(packed)), (339, 2 if signed else 1)),
    ]
    table = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in entries)
    head = b"II*\0" + struct.pack("<I", 8 + len(packed))
    path.write_bytes(head + packed + struct.pack("<H", len(entries)) + table + bytes(4))


@pytest.mark.parametrize(
    ("packed", "options", "shown"),
    [
        (b"\xff" * 96, {"bits": 12}, 255),  # two pixels in three bytes
        (b"\x80\x08\x00" * 32, {"bits": 12}, 128),
        (b"\xff\xff" * 64, {"bits": 16}, 255),
        (b"\xff\xff" * 64, {"bits": 16, "photometric": 0}, 0),  # the larger the darker
        (b"\x00\x00" * 64, {"bits": 16, "photometric": 0}, 255),
    ],
)
def test_a_tiff_is_as_bright_as_its_tags_say(tmp_path, packed, options, shown):
    write_tiff(tmp_path / "a.tif", packed, **options)
    seen = np.asarray(Image.open(io.BytesIO(read_still(tmp_path / "a.tif", MEDIA))))
    assert np.abs(seen.astype(int) - shown).max() <= 1


def test_signed_pixels_are_refused(tmp_path):
    write_tiff(tmp_path / "a.tif", bytes(128), bits=16, signed=True)
    with pytest.raises(MediaError, match="signed pixels") as caught:
        read_still(tmp_path / "a.tif", MEDIA)
    assert caught.value.reason == "unsupported"


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
