"""How many shards a reader keeps open."""

import errno
import os
import resource
from pathlib import Path

import pytest

from pipeline_src.shards.reader import ShardReader, max_open_shards, raise_open_files


def num_open() -> int:
    return len(list(Path("/dev/fd").iterdir()))


@pytest.fixture
def few_files(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (12, 4096))


def test_most_of_the_files_that_a_process_may_open_stay_free(tmp_path, few_files):
    shards = [tmp_path / f"{n}.tar" for n in range(5)]
    for shard in shards:
        shard.write_bytes(b"")
    before = num_open()
    reader = ShardReader()
    for shard in shards * 2:
        reader._open(shard)
    assert num_open() - before == max_open_shards() == 3
    reader.close()


def test_a_limit_that_is_none_is_not_read_as_a_number(monkeypatch):
    """RLIM_INFINITY is -1 in Python."""
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY,) * 2)
    assert max_open_shards() == 4096


def test_a_process_without_files_left_is_no_damage_of_a_shard(tmp_path, monkeypatch):
    """Another reader of the process had them, and the advice was to delete a good manifest."""
    first, second = tmp_path / "0.tar", tmp_path / "1.tar"
    first.write_bytes(b"")
    second.write_bytes(b"")
    reader, usual = ShardReader(), os.open
    reader._open(first)

    def one_at_a_time(path, flags):
        if reader._descriptors:
            raise OSError(errno.EMFILE, "Too many open files")
        return usual(path, flags)

    monkeypatch.setattr("pipeline_src.shards.reader.os.open", one_at_a_time)
    assert reader._open(second) > 0
    assert list(reader._descriptors) == [second]
    reader.close()


@pytest.mark.parametrize(
    ("limits", "set_to"),
    [
        ((1024, 1 << 20), [(16384, 1 << 20)]),
        ((1024, resource.RLIM_INFINITY), [(16384, resource.RLIM_INFINITY)]),
        ((256, 4096), [(4096, 4096)]),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), []),
        ((1 << 20, 1 << 20), []),
    ],
)
def test_loader_processes_may_open_more_files_where_the_system_allows_it(
    monkeypatch, limits, set_to
):
    found = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda which, new: found.append(new))
    raise_open_files()
    assert found == set_to
