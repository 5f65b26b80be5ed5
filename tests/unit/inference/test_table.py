"""Tables of results: what was begun is continued, what another made is refused."""

import csv
import json

import pytest

from pipeline_src.errors import ConfigError
from pipeline_src.inference.results import SourceSpan
from pipeline_src.inference.run import SPAN_COLUMNS
from pipeline_src.inference.table import ResultTable, plain_text


def rows_of(source, count=1, **more):
    return [SourceSpan(0, source, k, count, **more).row() | {"x": k} for k in range(count)]


def table(path, made_by="abc"):
    return ResultTable(path, [*SPAN_COLUMNS, "x"], made_by)


def read(path):
    if path.suffix == ".csv":
        with path.open(newline="") as stream:
            return [(row["source"], int(row["window"])) for row in csv.DictReader(stream)]
    rows = map(json.loads, path.read_text().splitlines())
    return [(row["source"], row["window"]) for row in rows]


@pytest.fixture(params=[".csv", ".jsonl"])
def path(request, tmp_path):
    return tmp_path / f"out/rows{request.param}"


def test_rows_of_a_cut_short_input_are_made_again(path):
    with table(path) as first:
        first.write(rows_of("a.mp4"))
        first.write(rows_of("b, c.mp4", reason="corrupt", detail='two\nlines, "quoted"'))
        first.write(rows_of("d.mp4", 3))
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])  # killed in the middle of a row
    with table(path) as second:
        assert second.done == {"a.mp4": "", "b, c.mp4": "corrupt"}
        second.write(rows_of("d.mp4", 3))
    assert path.read_bytes() == whole
    assert read(path)[2:] == [("d.mp4", 0), ("d.mp4", 1), ("d.mp4", 2)]


def test_a_name_in_another_encoding_is_done_once(path):
    """Each continuation added its rows again."""
    with table(path) as first:
        first.write(rows_of("b\udcff.wav"))
    with table(path) as second:
        assert plain_text("b\udcff.wav") in second.done
    assert read(path) == [("b\\udcff.wav", 0)]


def test_a_name_in_another_encoding_of_an_older_table_is_done(tmp_path):
    path = tmp_path / "rows.jsonl"
    with table(path) as first:
        first.write(rows_of("b\udcff.wav"))
    path.write_text(path.read_text().replace("b\\\\udcff", "b\\udcff"))  # JSON's own form
    with table(path) as second:
        assert plain_text("b\udcff.wav") in second.done


def test_what_was_refused_for_a_time_is_made_again(path):
    with table(path) as first:
        first.write(rows_of("a.mp4"))
        first.write(rows_of("https://host/b.mp4", reason="network"))
        first.write(rows_of("https://host/c.mp4", reason="timeout"))
        first.write(rows_of("d.mp4", reason="corrupt"))
        first.write(rows_of("e.mp4", 2))
    path.write_bytes(path.read_bytes()[:-9])  # and killed in the middle of a row
    with table(path) as second:
        assert second.done == {"a.mp4": "", "d.mp4": "corrupt"}
        second.write(rows_of("https://host/b.mp4"))
        # c is not asked for this time, and what is known of it stays
    kept = [("a.mp4", 0), ("https://host/c.mp4", 0), ("d.mp4", 0), ("https://host/b.mp4", 0)]
    assert read(path) == kept
    with table(path) as third:
        assert third.done == {"a.mp4": "", "d.mp4": "corrupt", "https://host/b.mp4": ""}
        third.write(rows_of("https://host/c.mp4", reason="network"))
    assert read(path) == kept


def test_rows_that_were_written_before_a_kill_replace_the_refusal(path):
    path.parent.mkdir()
    with table(path) as first:
        first.write(rows_of("https://host/b.mp4", reason="network"))
    refused = path.read_bytes()
    path.chmod(0o600)
    with table(path) as second:
        second.write(rows_of("https://host/b.mp4", 2))
    made = path.read_bytes()
    header = refused.index(b"\n") + 1 if path.suffix == ".csv" else 0
    path.write_bytes(refused + made[header:])  # a kill came before the refusal was dropped
    with table(path) as third:
        assert third.done == {"https://host/b.mp4": ""}
    assert path.read_bytes() == made
    assert path.stat().st_mode & 0o777 == 0o600


def test_rows_stay_where_those_that_replace_them_are_not_written(path, monkeypatch):
    rows = rows_of("a.mp4", 3)
    rows[1]["reason"] = "timeout"
    with table(path) as first:
        first.write(rows)
    before = path.read_bytes()

    def lost(_text):
        raise OSError("gone")

    def rewrite():
        with table(path) as second:
            monkeypatch.setattr(second, "_append", lost)
            second.write(rows_of("a.mp4", 3))

    with pytest.raises(OSError, match="gone"):
        rewrite()
    assert path.read_bytes() == before
    worse = rows_of("a.mp4", 3)
    worse[1]["reason"] = worse[2]["reason"] = "timeout"
    with table(path) as third:
        third.write(worse)
    assert path.read_bytes() == before


def test_a_name_that_no_file_can_have_is_none(path):
    with table(path) as first:
        first.write(rows_of("a" * 300, reason="unavailable"))
    with table(path) as second:
        assert second.done == {"a" * 300: "unavailable"}


def test_a_file_that_is_there_by_now_is_looked_at(path, tmp_path):
    late, gone = str(tmp_path / "late.mp4"), str(tmp_path / "gone.mp4")
    with table(path) as first:
        first.write(rows_of(late, reason="unavailable"))
        first.write(rows_of(gone, reason="unavailable"))
    (tmp_path / "late.mp4").touch()
    with table(path) as second:
        assert second.done == {gone: "unavailable"}
        second.write(rows_of(late))
    assert read(path) == [(gone, 0), (late, 0)]


def test_a_window_refused_for_a_time_makes_all_of_its_input_again(path):
    rows = rows_of("a.mp4", 3)
    rows[1]["reason"] = "disk_full"
    with table(path) as first:
        first.write(rows)
        first.write(rows_of("b.mp4", 2))
    with table(path) as second:
        assert second.done == {"b.mp4": ""}
        second.write(rows_of("a.mp4", reason="network"))
    assert [name for name, _ in read(path)] == ["a.mp4"] * 3 + ["b.mp4"] * 2  # the good ones stay
    with table(path) as third:
        third.write(rows_of("a.mp4", 3))
    assert [name for name, _ in read(path)] == ["b.mp4"] * 2 + ["a.mp4"] * 3


def test_good_rows_outlive_a_disk_that_is_away(path):
    rows = rows_of("a.mp4", 3)
    rows[1]["reason"] = "timeout"
    with table(path) as first:
        first.write(rows)
    before = path.read_bytes()
    with table(path) as second:
        second.write(rows_of("a.mp4", reason="unavailable"))
    assert path.read_bytes() == before


def test_a_reason_to_stay_replaces_one_that_passes(path):
    with table(path) as first:
        first.write(rows_of("a.mp4", reason="timeout"))
    with table(path) as second:
        second.write(rows_of("a.mp4", reason="corrupt"))
    with table(path) as third:
        assert third.done == {"a.mp4": "corrupt"}


def test_a_whole_file_stays_as_it_is(path):
    with table(path) as first:
        first.write(rows_of("a.mp4", 2))
    before = path.read_bytes()
    with table(path) as second:
        assert second.done == {"a.mp4": ""}
    assert path.read_bytes() == before


def test_a_table_that_another_process_writes_is_left_to_it(path):
    """Two commands at once wrote every row twice."""
    with table(path) as first:
        with pytest.raises(ConfigError, match="another process writes it"), table(path):
            pass
        first.write(rows_of("a.mp4"))
    with table(path) as second:
        assert second.done == {"a.mp4": ""}


def test_what_another_made_is_refused(path):
    with table(path) as first:
        first.write(rows_of("a.mp4"))
    with pytest.raises(ConfigError, match="other settings"), table(path, "def"):
        pass


def test_what_is_no_table_is_refused(path):
    path.parent.mkdir()
    path.write_text('{"a": 1}\n')
    with pytest.raises(ConfigError, match="delete it, or name another"), table(path):
        pass
    assert path.read_text() == '{"a": 1}\n'


@pytest.mark.parametrize(
    "content", ["a\n".encode("utf-16"), b"caf\xe9,b\n", b"\n", b"a" * 140_000 + b"\n"]
)
def test_a_table_in_another_encoding_is_refused(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="delete it, or name another"), table(path):
        pass
    assert path.read_bytes() == content


def test_a_folder_is_no_table(path):
    path.mkdir(parents=True)
    with pytest.raises(ConfigError, match="is a folder; name a file"), table(path):
        pass


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"allowed: \.csv, \.jsonl"):
        table(tmp_path / "a.xlsx")
