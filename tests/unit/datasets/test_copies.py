"""Files of the same bytes under other names."""

from pipeline_src.datasets.copies import find_copies


def test_files_of_one_size_are_copies_by_all_their_bytes_alone(tmp_path):
    content = bytearray(200_000)
    for name, place in (("a", 0), ("b", 50_000), ("c", 50_000), ("d", 199_999)):
        changed = bytearray(content)
        changed[place] = 1
        (tmp_path / name).write_bytes(changed)
    for name in ("empty", "empty2"):
        (tmp_path / name).touch()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert find_copies(tmp_path, [*names, "gone"]) == {"c": "b"}
