"""Shards made on the spot, as packing writes them, by the standard library alone."""

import io
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torchvision.io import encode_jpeg

from pipeline_src.shards.samples import Sample
from pipeline_src.shards.shard_set import ShardSet

NUM_STORED, IMG_SIZE = 10, 224
LOGMEL_FRAMES, NUM_MEL_BINS = 998, 128
MEAN, STD = -5.0, 4.5


def make_shards(folder: Path, num_clips: int) -> ShardSet:
    """Write one shard of clips of 10 s that share some pictures; return what it holds."""
    rng = np.random.default_rng(0)
    pictures = [_picture(seed) for seed in range(40)]
    path, samples = folder / "train-00000.tar", []
    with path.open("wb") as stream:
        for number in range(num_clips):
            logmel = rng.normal(MEAN, STD, (LOGMEL_FRAMES, NUM_MEL_BINS)).astype(np.float16)
            members = {"logmel.npy": _npy_bytes(logmel), "json": b"{}"}
            members |= {
                f"frame_{k:02d}.jpg": pictures[(7 * number + k) % len(pictures)]
                for k in range(NUM_STORED)
            }
            key, first = f"clip{number:06d}", stream.tell()
            data = _tar_bytes(key, members)
            stream.write(data)
            labels = (number % 10,)
            samples.append(Sample(path, key, first, len(data), labels, key, zlib.crc32(data)))
        stream.write(bytes(2 * tarfile.BLOCKSIZE))
    names = tuple(str(k) for k in range(10))
    return ShardSet(samples, "multiclass", names, NUM_MEL_BINS, MEAN, STD)


def _picture(seed: int) -> bytes:
    """A JPEG file of smooth shapes and some noise, about as large as a frame of a film."""
    noise = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 14, 14, generator=noise)
    smooth = torch.nn.functional.interpolate(coarse, size=(IMG_SIZE, IMG_SIZE), mode="bicubic")[0]
    image = smooth * 255 + 8 * torch.randn(smooth.shape, generator=noise)
    jpeg = encode_jpeg(image.clamp(0, 255).to(torch.uint8), quality=90)
    assert isinstance(jpeg, torch.Tensor)  # not a list: one picture went in
    return jpeg.numpy().tobytes()


def _npy_bytes(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _tar_bytes(key: str, members: Mapping[str, bytes]) -> bytes:
    """The headers and contents of one sample's members."""
    parts = []
    for name, content in sorted(members.items()):
        info = tarfile.TarInfo(f"{key}.{name}")
        info.size, info.mode = len(content), 0o444
        padding = bytes(-len(content) % tarfile.BLOCKSIZE)
        parts += [info.tobuf(tarfile.USTAR_FORMAT), content, padding]
    return b"".join(parts)
