"""Tar files of the same bytes for the same content."""

import io
import tarfile

import pytest

from pipeline_src.manifest.tars import MEMBER_MODE, build_tar, read_members

MEMBERS = {
    "abc.flac": b"f" * 1000,
    "abc.frame_00.jpg": b"j" * 512,
    "empty.cls": b"",
    "übung☃.jpg": b"x",
    "n" * 150 + ".jpg": b"long names need a second header",
}


@pytest.mark.parametrize("count", [0, 1, len(MEMBERS)])
def test_the_bytes_are_those_of_the_library(tmp_path, count):
    members = dict(list(MEMBERS.items())[:count])
    theirs = tmp_path / "theirs.tar"
    with tarfile.open(theirs, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), MEMBER_MODE
            tar.addfile(info, io.BytesIO(data))
    ours = tmp_path / "ours.tar"
    with build_tar(ours) as tar:
        for name, data in members.items():
            tar.add(name, data)
    assert ours.read_bytes() == theirs.read_bytes()
    assert dict(read_members(ours)) == members


def test_a_tar_that_could_not_be_finished_is_not_there(tmp_path):
    with pytest.raises(TypeError), build_tar(tmp_path / "a.tar") as tar:
        tar.add("a.cls", None)  # pyright: ignore[reportArgumentType]
    assert list(tmp_path.iterdir()) == []
