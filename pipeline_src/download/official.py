"""Fetch the lists and archives that publishers of data sets offer, where they are missing.

A file without a known sha256 is pinned when it is fetched first: ``<file>.lock.json`` beside it
says from where, how many bytes, which sha256 and when; fetched again, it must be the same.
"""

import json
import shutil
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from pipeline_src.config.data import DownloadConfig, RateLimitConfig
from pipeline_src.datasets.classes import format_classes
from pipeline_src.datasets.clip_lists import derive_classes
from pipeline_src.datasets.dataset import DatasetConfig, OfficialFile, missing_list
from pipeline_src.download.http import fetch_http, open_session
from pipeline_src.download.secrets import read_secrets
from pipeline_src.download.sources import Fetched
from pipeline_src.download.store import part_path
from pipeline_src.errors import ManifestError, MediaError, shown
from pipeline_src.manifest.ledger import PERMANENT_REASONS
from pipeline_src.system.atomic import fsync, write_json, write_text

MAX_UNPACKED_BYTES = 20_000_000_000
Say = Callable[[str], None]


def fetch_official(
    dataset: DatasetConfig, download: DownloadConfig, rate_limits: RateLimitConfig, say: Say
) -> list[Path]:
    """Fetch the published files of a data set that are missing; return what was written.

    Raises:
        ManifestError: one cannot be fetched, or is not what was published.
    """
    missing = [one for one in dataset.official if _is_missing(dataset, one)]
    if missing:
        say(f"{dataset.name}: published files are fetched; licence: {dataset.licence or 'unknown'}")
    session = open_session(1, read_secrets())
    made = []
    for file in missing:
        if not file.path.is_file():
            _fetch(dataset, file, session, download, rate_limits, say)
        if file.unpack:
            _unpack(dataset, file, say)
        made.append(_target(dataset, file))
    if not dataset.derives_classes and _lacks_classes(dataset):
        made += _write_classes(dataset, say)
    return made


def _lacks_classes(dataset: DatasetConfig) -> bool:
    return dataset.classes_from_list and not dataset.class_names.exists()


def _is_missing(dataset: DatasetConfig, file: OfficialFile) -> bool:
    """Tell whether it was never fetched; an empty root was made by hand and is none."""
    target = _target(dataset, file)
    return not target.exists() or (file.unpack and not any(target.iterdir()))


def _target(dataset: DatasetConfig, file: OfficialFile) -> Path:
    return dataset.root if file.unpack else file.path


def _fetch(
    dataset: DatasetConfig,
    file: OfficialFile,
    session: requests.Session,
    download: DownloadConfig,
    rate_limits: RateLimitConfig,
    say: Say,
) -> None:
    say(f"{file.url} -> {file.path}, at most {file.max_bytes / 1e6:g} MB")
    limited = download.model_copy(update={"max_bytes": file.max_bytes})
    file.path.parent.mkdir(parents=True, exist_ok=True)
    attempt = 1
    while True:
        try:
            fetched = fetch_http(session, file.url, file.path, limited, is_media=False)
        except MediaError as error:
            if error.reason in PERMANENT_REASONS or attempt == download.max_attempts:
                raise ManifestError(
                    f"{missing_list(dataset, file.path)}. It could not be fetched: {error}"
                ) from None
            time.sleep(rate_limits.backoff_seconds * 2 ** (attempt - 1))
            attempt += 1
        else:
            return _pin(file, fetched, say)


def _pin(file: OfficialFile, fetched: Fetched, say: Say) -> None:
    """Compare a file with what is known of it, note what it is, and give it its name.

    Raises:
        ManifestError: its sha256 is not the one that is known.
    """
    body = part_path(file.path)
    found = {"url": file.url, "bytes": fetched.bytes, "sha256": fetched.sha256}
    lock = file.path.with_name(f"{file.path.name}.lock.json")
    pinned = _read_lock(lock).get("sha256", "")
    expected = file.sha256 or pinned
    if expected and found["sha256"] != expected:
        body.unlink()
        where = "its data set's YAML" if file.sha256 else lock
        raise ManifestError(
            f"{file.url} has the sha256 {found['sha256']}, {where} says {expected}: it was "
            "published anew, or is not what was published; look at it, then change or delete the "
            "sum to take it"
        )
    if not pinned:
        write_json(lock, {**found, "fetched": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})
    fsync(body)
    body.replace(file.path)
    state = "as known" if expected else f"not known before, pinned in {lock.name}"
    say(f"{file.path}: {fetched.bytes} bytes, sha256 {found['sha256']} ({state})")


def _read_lock(lock: Path) -> dict[str, Any]:
    try:
        value = json.loads(lock.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ManifestError(f"{lock}: damaged ({shown(error)}); delete it") from None
    if not isinstance(value, dict) or not isinstance(value.get("sha256"), str):
        raise ManifestError(f"{lock}: damaged: no sha256 in it; delete it")
    return value


def _unpack(dataset: DatasetConfig, file: OfficialFile, say: Say) -> None:
    """Make the data set's root of an archive, whole or not at all.

    Raises:
        ManifestError: it cannot be unpacked.
    """
    say(f"{file.path} -> {dataset.root}")
    folder = dataset.root.with_name(f".{dataset.root.name}.part")
    shutil.rmtree(folder, ignore_errors=True)  # of a killed one
    try:
        folder.mkdir(parents=True)
        _extract(file.path, folder)
        (folder / file.folder).rename(dataset.root)
    except (OSError, tarfile.TarError, zipfile.BadZipFile, EOFError, ValueError) as error:
        raise ManifestError(
            f"{file.path}: cannot be unpacked into {dataset.root}: {shown(error)}; delete it and "
            "run again, or unpack it there yourself"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _extract(archive: Path, folder: Path) -> None:
    """Extract files and folders below ``folder``; refuse all else, and archive bombs.

    By hand: tarfile's own filter of members came with Python 3.11.4.
    """
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as packed:
            _check_total(sum(info.file_size for info in packed.infolist()))
            packed.extractall(folder)
        return
    with tarfile.open(archive) as packed:
        total = 0
        for member in packed:
            _check_total(total + member.size)
            total += _extract_member(packed, member, folder)  # a link's size is 0
            _check_total(total)


def _extract_member(packed: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> int:
    """Write one member, of a link a copy of the member that it names; return how many bytes.

    Raises:
        ValueError: it leads out of the archive, or is neither file nor folder of it.
    """
    path = folder / member.name.lstrip("/")  # as tar itself does
    if ".." in path.relative_to(folder).parts:
        raise ValueError(f"{member.name!r} leads out of the archive")
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return 0
    try:  # of a link to a file of the archive, that file
        content = None if member.isdev() else packed.extractfile(member)
    except KeyError:
        content = None
    if content is None:
        raise ValueError(f"{member.name!r} is no file and no folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    with content, path.open("wb") as target:
        shutil.copyfileobj(content, target)
        return target.tell()


def _check_total(num_bytes: int) -> None:
    if num_bytes > MAX_UNPACKED_BYTES:
        raise ValueError(f"more than {MAX_UNPACKED_BYTES} bytes unpacked")


def _write_classes(dataset: DatasetConfig, say: Say) -> list[Path]:
    classes = derive_classes(dataset)
    write_text(dataset.class_names, format_classes(classes))
    say(f"{dataset.class_names}: {len(classes.names)} classes of the list, sorted by name")
    return [dataset.class_names]
