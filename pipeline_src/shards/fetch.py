"""The index of shards that lie elsewhere: fetched with its manifests, the shards stay there."""

import logging
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline_src.config.data import RemoteConfig
from pipeline_src.datasets.dataset import load_dataset
from pipeline_src.errors import ManifestError, shown
from pipeline_src.manifest.chunks import read_chunk
from pipeline_src.manifest.schema import parse_json
from pipeline_src.shards.files import shard_files
from pipeline_src.shards.shard_set import BASE_URL, check_index
from pipeline_src.shards.transfer import Transfer
from pipeline_src.system.atomic import write_bytes, write_json

logger = logging.getLogger(__name__)
MANIFEST_NAME = re.compile(r"\d{5}\.json")


def fetch_index(*, index_path: Path, dataset_path: Path, split: str, remote: RemoteConfig) -> None:
    """Write the index of a split of a data set with ``index_urls``, and its chunks' manifests.

    Raises:
        ManifestError: the address does not answer, or what it holds is not of this data set.
    """
    dataset = load_dataset(dataset_path)
    url = dataset.index_urls[split]
    transfer = Transfer(remote)
    index = _parse_index(url, _read(transfer, url))
    expected = {"task": dataset.task, "modalities": list(dataset.modalities)}
    for key, value in expected.items():
        if index[key] != value:
            raise ManifestError(f"{url}: {key} is {index[key]}, {dataset_path} says {value}")
    base = url.rpartition("/")[0]
    names = dict.fromkeys(shard["manifest"] for shard in index["shards"])
    for name in names:
        if not MANIFEST_NAME.fullmatch(name):
            raise ManifestError(f"{url}: {shown(name)} is no manifest's name, e.g. 00000.json")
    with ThreadPoolExecutor(remote.num_connections) as threads:
        texts = threads.map(lambda name: _read(transfer, f"{base}/{name}"), names)
        for name, text in zip(names, texts, strict=True):
            _write_manifest(index_path.parent / name, text)
    write_json(index_path, {**index, "dataset": dataset.name, "split": split, BASE_URL: base})
    logger.info("%s: %d clips of %s", index_path, index["num_clips"], url)


def _read(transfer: Transfer, url: str) -> bytes:
    if urlsplit(url).scheme:
        return transfer.attempt(url, lambda: transfer.whole(url))
    try:
        return Path(url).read_bytes()
    except OSError as error:
        raise ManifestError(f"{url}: not readable: {error.strerror}; see index_urls") from error


def _parse_index(url: str, text: bytes) -> Mapping[str, Any]:
    return check_index(parse_json(text, url, "index.json of packed shards"), url)


def _write_manifest(path: Path, text: bytes) -> None:
    """Write a fetched manifest; refuse one that names files elsewhere."""
    write_bytes(path, text)
    try:
        shard_files(read_chunk(path, "pack"))
    except ManifestError:
        path.unlink()
        raise
