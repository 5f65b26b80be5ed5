"""Shards, manifests and ledgers that are damaged or forged: one sentence, or a decode error."""

import io
import json
import random
import shutil
import tarfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline_src.config.data import AudioConfig
from pipeline_src.errors import ManifestError, MediaError, PipelineError, SampleError
from pipeline_src.loader.clip_format import ClipFormat
from pipeline_src.loader.dataset import ClipDataset
from pipeline_src.loader.decode import decode_frame
from pipeline_src.loader.sampler import Draw
from pipeline_src.manifest.chunks import read_chunk
from pipeline_src.manifest.ledger import count_retried, read_ledger
from pipeline_src.manifest.rows import FetchRow
from pipeline_src.shards.members import load_array
from pipeline_src.shards.reader import parse_members
from pipeline_src.shards.samples import Sample
from pipeline_src.shards.shard_set import open_shards
from pipeline_src.shards.verify import verify
from pipeline_src.transcode import audio
from tests import media

AUDIO = AudioConfig(num_mel_bins=32)
NUM_FLIPS = 120


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """The index of two packed clips; tests damage copies of it."""
    folder = tmp_path_factory.mktemp("packed")
    for number, name in enumerate("ab"):
        media.make_clip(folder / f"{name}.mp4", seconds=1, tone=(0.2 * number, 0.9))
    clips = [{"clip_id": k, "source": f"{k}.mp4", "labels": "1"} for k in "ab"]
    return media.make_shards(folder, clips, AUDIO)


@pytest.fixture
def index(packed, tmp_path):
    """A copy that may be damaged."""
    shutil.copytree(packed.parent.parent, tmp_path / "results")
    return tmp_path / "results" / packed.parent.name / packed.name


def dataset_of(index, *, replaces=False, num_frames=2):
    wanted = ClipFormat(
        target_length=96,
        img_size=32,
        num_frames=num_frames,
        logmel_mean=0,
        logmel_std=1,
        training=False,
    )
    return ClipDataset(open_shards([index]), wanted, replaces=replaces)


def members_of(sample):
    """(offset of the header, offset of the content, size) by extension."""
    with tarfile.open(sample.shard) as tar:
        own = [member for member in tar if member.name.startswith(f"{sample.key}.")]
    return {m.name.partition(".")[2]: (m.offset, m.offset_data, m.size) for m in own}


def put_sample(dataset, place, sample):
    samples = [*dataset.shards.samples]
    samples[place] = sample
    dataset.shards = replace(dataset.shards, samples=samples)


def flip(path, position, mask=0x10):
    data = bytearray(path.read_bytes())
    data[position] ^= mask
    path.write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("extension", ["logmel.npy", "frame_01.jpg", "json", "flac"])
@pytest.mark.parametrize("place", ["header", "first", "middle"])
def test_one_flipped_bit_is_found_when_it_is_read(index, extension, place):
    sample = open_shards([index]).samples[0]
    header, first, size = members_of(sample)[extension]
    flip(
        sample.shard, {"header": header + 5, "first": first + 1, "middle": first + size // 2}[place]
    )
    with pytest.raises(SampleError, match=rf"{sample.shard}: clip 'a' .*run again"):
        dataset_of(index)[Draw(0, 0)]
    batch = dataset_of(index, replaces=True)[Draw(0, 0)]
    assert batch["decode_failures"].tolist()[0] == 0
    assert batch["index"].item() == 1


@pytest.mark.slow
def test_a_clip_reads_the_same_with_its_sum_compared(index):
    dataset = dataset_of(index)
    assert dataset[Draw(0, 0)]["frames"].shape == (2, 3, 32, 32)
    sample = dataset.shards.samples[1]
    put_sample(dataset, 1, sample._replace(crc32=sample.crc32 ^ 1))
    with pytest.raises(SampleError, match="CRC-32"):
        dataset[Draw(1, 0)]


def header_of(name, size, kind=b"0"):
    """A tar header with the right sum."""
    header = bytearray(512)
    header[: len(name)] = name
    header[124 : 124 + len(size)] = size
    header[156:157] = kind
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


FIVE = b"00000000005\0"
HELLO = b"hello".ljust(512, b"\0")


def parse(data):
    return parse_members(Sample(Path("s"), "k", 0, len(data), (0,), "c"), memoryview(data))


@pytest.mark.parametrize(
    "record", [b"15 mtime=1.500\n", b"15 mtime=1.500\n14 path=k.json\n", b"14 path=k.json\n"]
)
def test_a_pax_header_may_name_the_member_or_not(record):
    head = header_of(b"PaxHeaders/k", b"%011o\0" % len(record), b"x") + record.ljust(512, b"\0")
    assert {k: bytes(v) for k, v in parse(head + header_of(b"k.json", FIVE) + HELLO).items()} == {
        "json": b"hello"
    }


@pytest.mark.parametrize(
    "data",
    [
        header_of(b"k.\xff\xfe", FIVE) + HELLO,
        header_of(b"\xffk.json", FIVE) + HELLO,
        header_of(b"x", b"00000000020\0", b"x")
        + b"16 path=k.\xff\xff\n".ljust(512, b"\0")
        + header_of(b"k.json", FIVE)
        + HELLO,
        header_of(b"k.json", b"-0000001000\0") + bytes(512),
        header_of(b"k.json", b"+0000000005\0") + HELLO,
        header_of(b"k.json", b"0_0000005\0") + HELLO,
        header_of(b"k.json", b"0o000000005\0") + HELLO,
        header_of(b"k.json", b"00000000009\0") + HELLO,
        header_of(b"k.json", b"\x80\0\0\0\0\0\0\0\0\0\0\x05") + HELLO,
        header_of(b"k.json", b"77777777777\0"),
        header_of(b"k.json", b"00000000000\0", b"2"),
        header_of(b"k.json", b"00000000000\0", b"3"),
        header_of(b"k.json", b"00000000000\0", b"L"),
        (header_of(b"k.json", FIVE) + HELLO) * 2,
        b"",
        header_of(b"k.json", FIVE)[:100],
        header_of(b"j.json", FIVE) + HELLO,
        header_of(b"", FIVE) + HELLO,
        bytes(512),
    ],
)
def test_members_of_hostile_bytes_are_damage(data):
    with pytest.raises(SampleError, match="clip 'c' "):
        parse(data)


def jpeg(height, width, **options):
    stream = io.BytesIO()
    Image.new("L", (width, height), 99).save(stream, "JPEG", quality=5, **options)
    return bytearray(stream.getvalue())


@pytest.mark.parametrize(
    "frame",
    [
        jpeg(9000, 9000),
        jpeg(1, 60_000),
        jpeg(60_000, 1),
        jpeg(32, 32, progressive=True),
        jpeg(32, 32)[:20],
        bytearray(),
        bytearray(b"\xff\xd8\xff\xe0\0\0" + bytes(30)),
        bytearray(b"\xff\xd8\xff\x01\0\x04" + bytes(30)),
    ],
)
def test_frames_that_packing_does_not_write_are_refused_before_they_are_decoded(frame):
    with pytest.raises(ValueError, match=r"pixels is not what packing writes|JPEG file"):
        decode_frame(memoryview(frame), 32)


@pytest.mark.parametrize("size", [(32, 32), (48, 2048), (2048, 2048), (33, 47)])
def test_frames_that_packing_writes_are_decoded(size):
    assert decode_frame(memoryview(jpeg(*size)), 32).shape == (3, 32, 32)


def npy(header):
    text = header.encode().ljust(118)
    return b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text + bytes(64)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f2', 'fortran_order': False, 'shape': (9999999999, 32), }",
        "{'descr': '<f2', 'fortran_order': False, 'shape': (-1, 32), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '<f2', 'fortran_order': False, 'shape': (1,), ",
        "{'descr': '<f2\", 'fortran_order': False}",
        "{{'descr': ('<f2', (1 << 40,))}",
        "[" * 90,
        "",
    ],
)
def test_headers_of_arrays_are_damage_and_nothing_more(header):
    with pytest.raises(ValueError):  # noqa: PT011  a dozen of numpy's own sentences
        load_array(memoryview(bytearray(npy(header))))


@pytest.mark.slow
def test_sound_that_unpacks_to_more_than_any_clip_is_refused(index, monkeypatch):
    dataset = dataset_of(index)
    flac = bytes(dataset._reader.read(dataset.shards.samples[0])["flac"])
    assert len(audio.read_flac(flac)) == 16_000
    monkeypatch.setattr(audio, "MAX_SAMPLES", 15_999)
    with pytest.raises(MediaError, match="more than 15999 samples"):
        audio.read_flac(flac)


@pytest.mark.slow
def test_random_bytes_in_a_sample_end_in_no_traceback(index):
    dataset = dataset_of(index, num_frames=4)
    sample = dataset.shards.samples[0]
    whole, rng = sample.shard.read_bytes(), random.Random(1)
    for _ in range(NUM_FLIPS):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            data[sample.offset_bytes + rng.randrange(sample.size_bytes)] = rng.randrange(256)
        own = data[sample.offset_bytes : sample.offset_bytes + sample.size_bytes]
        put_sample(dataset, 0, sample._replace(crc32=zlib.crc32(own)))  # forged with it
        sample.shard.write_bytes(data)
        try:
            assert torch.isfinite(dataset[Draw(0, 0)]["targets"]).all()
        except SampleError as error:
            assert "clip 'a'" in str(error)  # noqa: PT017  it may also be read


def flips(path, read):
    """Read a file with single bits flipped; the sentences of what was refused."""
    whole, rng, said = path.read_bytes(), random.Random(3), []
    for _ in range(NUM_FLIPS):
        flip(path, rng.randrange(len(whole)), 1 << rng.randrange(8))
        try:
            read()
        except PipelineError as error:
            said.append(str(error))
        path.write_bytes(whole)
    assert said
    assert all(str(path) in one or path.stem in one for one in said)
    return said


@pytest.mark.slow
def test_flipped_bits_in_index_and_manifests_end_in_one_sentence(index):
    said = flips(index, lambda: open_shards([index]))
    manifest = index.parent / "00000.json"
    said += flips(manifest, lambda: open_shards([index]))
    for stage in ("transcode", "logmel", "download"):
        path = index.parents[1] / stage / "00000.json"
        said += flips(path, lambda path=path, stage=stage: read_chunk(path, stage))
    assert all("run" in one for one in said), [one for one in said if "run" not in one]
    assert max(map(len, said)) < 1500


@pytest.mark.slow
def test_flipped_bits_in_ledgers_end_in_one_sentence(index):
    path = index.parents[1] / "download" / "00000.ledger.csv"
    said = flips(path, lambda: (read_ledger(path, FetchRow), count_retried(path)))
    assert all("run again" in one for one in said)
    path.unlink()
    with pytest.raises(ManifestError, match="no such ledger; delete its manifest and run again"):
        read_ledger(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1]", b"[" * 100_000, b"null", b"\xff\xfe", b'{"a": NaN}', b"1" * 5_000, b"{}"],
)
def test_files_that_are_no_index_or_manifest_end_in_one_sentence(index, content):
    for path in (index, index.parent / "00000.json"):
        whole = path.read_bytes()
        path.write_bytes(content)
        with pytest.raises(ManifestError, match=r"delete it and run") as error:
            open_shards([index])
        assert len(str(error.value)) < 600
        assert len(list(verify([index], num_decoded=0, num_workers=1))) == 1
        path.write_bytes(whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        lambda row: row.__setitem__(3, row[3] + (1 << 40)),
        lambda row: row.__setitem__(4, 1 << 50),
        lambda row: row.__setitem__(4, 0),
        lambda row: row.__setitem__(3, -512),
        lambda row: row.__setitem__(1, [7]),
        lambda row: row.__setitem__(1, [-1]),
        lambda row: row.__setitem__(1, [1.5]),
        lambda row: row.__setitem__(0, "../k"),
        lambda row: row.pop(),
    ],
)
def test_a_manifest_that_lists_what_cannot_be_is_refused(index, change):
    path = index.parent / "00000.json"
    value = json.loads(path.read_text())
    change(value["samples"][0])
    path.write_text(json.dumps(value))
    with pytest.raises(ManifestError, match="run again"):
        open_shards([index])


def test_arrays_are_read_without_a_copy():
    stream = io.BytesIO()
    np.save(stream, np.arange(6, dtype=np.float16).reshape(2, 3))
    data = bytearray(stream.getvalue())
    array = load_array(memoryview(data))
    data[-2:] = np.float16(9).tobytes()
    assert array.tolist() == [[0, 1, 2], [3, 4, 9]]
