"""Which files are pieces of one recording, and the split of each."""

import pytest

from pipeline_src.datasets.folder import FolderFile
from pipeline_src.datasets.recordings import choose_splits, name_recordings
from pipeline_src.errors import ConfigError


@pytest.mark.parametrize(
    ("names", "pattern", "num_recordings"),
    [
        (["talk_part1", "talk_part2", "Talk 3"], "", 2),
        (["clip_1", "clip_2"], "", 2),
        (["x y z_000001_000011", "x y z_000011_000021"], "", 1),
        (["---g-f_I2yQ_000001", "---g-f_I2yQ_000050", "--0PQM4-hqg_000001"], "", 2),
        (["v_Run_g01_c01", "v_Run_g01_c02", "v_Run_g02_c01"], "", 2),
        (["anna-1", "anna-2", "bea-1"], "([a-z]+)-", 2),
    ],
)
def test_pieces_that_were_cut_before_belong_to_one_recording(names, pattern, num_recordings):
    files = [FolderFile(f"dog/{name}.mp4", "", "dog", "") for name in names]
    assert len(set(name_recordings(files, pattern).values())) == num_recordings


def test_folders_below_every_class_are_recordings():
    files = [FolderFile(f"a/r{r}/{n}.wav", "", "a", f"r{r}") for r in range(5) for n in range(4)]
    recordings = name_recordings(files)
    splits = choose_splits(files, recordings, {})
    assert len(splits) == 5
    assert sorted(splits.values()) == ["test", "train", "train", "train", "val"]


def test_a_class_of_one_recording_is_for_training():
    files = [FolderFile(f"{n}/a.mp4", "", str(n), "") for n in range(5)]
    splits = choose_splits(files, name_recordings(files), {})
    assert set(splits.values()) == {"train"}


def test_a_pattern_must_name_the_recording():
    for pattern, problem in [("(", "no regular expression"), ("a+", "has no group")]:
        with pytest.raises(ConfigError, match=problem):
            name_recordings([FolderFile("a.mp4", "", "x", "")], pattern)
