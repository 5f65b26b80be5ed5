"""No setting is lost on its way: equal keys, repeated options, nulls, other folders."""

import shutil

import pytest
import yaml

from pipeline_src.config import load_config, merge_files, read_config, read_yaml
from pipeline_src.config.command_line import (
    lost_settings,
    profiles_in_force,
    refuse_repeated,
    refuse_unknown_profile,
)
from pipeline_src.config.yaml_files import parse_assignments, parse_yaml
from pipeline_src.datasets.dataset import load_dataset
from pipeline_src.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "key", "lines"),
    [
        ("finetune:\n  lr: 1\npretrain: {}\nfinetune:\n  epochs: 2\n", "finetune", (1, 4)),
        ("finetune:\n  lr: 1\n  epochs: 2\n  lr: 3\n", "lr", (2, 4)),
        ("runs: {a: {}, 'a': {}}\n", "a", (1, 1)),
        ("runs:\n  - {b: 1,\n     b: 2}\n", "b", (2, 3)),
        ('{"lr": 1,\n "lr": 2}', "lr", (1, 2)),
        ("a: &x {k: 1}\nb:\n  <<: *x\n  k: 2\n  k: 3\n", "k", (4, 5)),
        ("a: &x {k: 1}\nb:\n  <<: *x\n  <<: *x\n", "<<", (3, 4)),
        ("1: a\n0x1: b\n", "0x1", (1, 2)),
        ("1: a\n01: b\n", "01", (1, 2)),
        ("~: a\nnull: b\n", "null", (1, 2)),
    ],
    ids=[
        *("section", "key", "quoted", "in a list", "JSON", "after a merge", "merge", "hexadecimal"),
        *("octal", "null"),
    ],
)
def test_a_key_twice_is_refused_with_both_lines(tmp_path, text, key, lines):
    path = tmp_path / "overlay.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    expected = f"{path}: {key!r} stands twice, in line {lines[0]} and in line {lines[1]}"
    assert str(caught.value).startswith(expected)


def test_a_merged_key_may_be_set_anew():
    text = "a: &x {k: 1, l: 1}\nb:\n  <<: *x\n  k: 2\n"
    assert parse_yaml(text, "t")["b"] == {"k": 2, "l": 1}


def test_what_is_merged_into_what_is_merged_is_no_key_twice():
    text = """
pretrain: &p {lr: 1e-3}
runs:
  one:
    finetune: &base
      <<: *p
      lr: 3e-3
finetune:
  <<: *base
"""
    assert parse_yaml(text, "t")["finetune"] == {"lr": 0.003}


def test_a_data_set_with_a_key_twice_is_refused(root, tmp_path):
    shutil.copytree(root / "config/test", tmp_path / "test")
    path = tmp_path / "test/digits.yaml"
    path.write_text(path.read_text() + "task: multilabel\n")
    with pytest.raises(ConfigError, match=r"digits\.yaml: 'task' stands twice, in line \d+ and"):
        load_dataset(path)


def test_words_stay_words_and_numbers_become_numbers():
    values = parse_yaml("{a: no, b: 2024-01-01, c: 1e-3, d: true, e: ~, f: 1_000, g: on}", "t")
    assert values == {
        "a": "no", "b": "2024-01-01", "c": 0.001, "d": True, "e": None, "f": 1000, "g": "on",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        *[("010", 10), ("-07", -7), ("09", 9), ("0o10", 8), ("0x1F", 31), ("+1_000", 1000)],
        *[("1:30", "1:30"), ("1:30.5", "1:30.5"), ("0b11", "0b11"), ("0x", "0x"), ("0_x", "0_x")],
        *[("010.5", 10.5), (".5", 0.5), ("5.", 5.0), ("-1.5e3", -1500.0), ("1e3", 1000.0)],
        *[("-.inf", float("-inf")), ("1.2.3", "1.2.3"), ("_1", "_1"), (".", "."), ("1e", "1e")],
    ],
)
def test_a_number_is_what_is_written(text, meant):
    value = parse_yaml(f"a: {text}", "t")["a"]
    assert (value, type(value)) == (meant, type(meant))


@pytest.mark.parametrize(
    "value",
    [
        "1" * 5000,
        "0x" + "f" * 5000,
        "!!int x",
        "!!float x",
        "!!bool x",
        "!!timestamp x",
        "!!int []",
    ],
)
@pytest.mark.parametrize("text", ["seed: {}", "[{}]", "{}: a"])
def test_a_value_that_is_not_of_its_kind_is_a_sentence_with_its_line(tmp_path, text, value):
    path = tmp_path / "overlay.yaml"
    path.write_text("# a comment\n" + text.format(value))
    with pytest.raises(
        ConfigError, match=r"overlay\.yaml: not valid YAML: (?s:.*)line 2"
    ) as caught:
        read_yaml(path)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("assignment", "problem"),
    [
        ("runs={avsiam_tiny:null}", "'avsiam_tiny:null' has no blank behind its colon; write "),
        ("runs={a: {}, avsiam_tiny:null}", "'avsiam_tiny: null'"),
        ("finetune={lr:1e-3,epochs: 3}", "'lr: 1e-3'"),
        ("model={overrides:{depth:2}}", "'depth: 2'"),
    ],
)
def test_a_colon_without_a_blank_is_told(assignment, problem):
    with pytest.raises(ConfigError, match=f"--config .*: line 1: .*{problem}"):
        parse_assignments([assignment])


def test_colons_in_words_are_kept():
    text = '{a: "x:y", b: x:y, "c:d": 1, e:f: 2, "h":3, "i:j": }'
    assert parse_yaml(text, "t") == {
        "a": "x:y", "b": "x:y", "c:d": 1, "e:f": 2, "h": 3, "i:j": None,
    }  # fmt: skip
    assert parse_yaml("i:j:\n", "t") == {"i:j": None}


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words\n"])
def test_a_file_without_sections_is_refused(tmp_path, text):
    path = tmp_path / "overlay.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"overlay\.yaml: expected sections"):
        merge_files([path])


@pytest.mark.parametrize("null", ["null", "~", "Null", "NULL", "None", ""])
def test_nulls_on_the_command_line_are_null(null):
    assert parse_assignments([f"runs={{a: {null}, b: {{}}}}"]) == {"runs": {"a": None, "b": {}}}
    assert parse_assignments([f"x={null}"]) == {"x": None}


def test_types_on_the_command_line_are_those_of_a_file():
    values = parse_assignments(
        ["model={overrides: {patch_size: 8}}", "results=results/own", "y=1e-3"]
    )
    assert values == {
        "model": {"overrides": {"patch_size": 8}},
        "results": "results/own",
        "y": 0.001,
    }


def test_parts_of_a_section_are_joined_and_a_value_twice_is_refused():
    joined = parse_assignments(["finetune={lr: 1}", "finetune={epochs: 2}"])
    assert joined == {"finetune": {"lr": 1, "epochs": 2}}
    with pytest.raises(ConfigError, match=r"finetune\.lr is set twice"):
        parse_assignments(["finetune={lr: 1}", "finetune={lr: 2}"])
    for pair in (["a={b: 1}", "a=3"], ["a=3", "a={b: {c: 1}}"]):
        with pytest.raises(ConfigError, match=r"--config: a(\.b(\.c)?)? is set twice"):
            parse_assignments(pair)
    with pytest.raises(ConfigError, match="--config finetune: 'lr' stands twice"):
        parse_assignments(["finetune={lr: 1, lr: 2}"])


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["--config", "a=1", "-n", "--config", "b={c: 2}"], "--config a=1 'b={c: 2}' --"),
        (["-C", "a=1", "--config=b=2"], "--config a=1 b=2 --"),
        (["-Ca=1", "-C", "b=2"], "--config a=1 b=2 --"),
        (["--configfile", "x.yaml", "--configfiles", "y.yaml"], "--configfile x.yaml y.yaml --"),
        (["--configfile=x.yaml", "--configfile=y.yaml", "--", "all"], "x.yaml y.yaml --"),
    ],
)
def test_an_option_given_twice_is_refused_with_how_to_write_it(arguments, advice):
    with pytest.raises(ConfigError) as caught:
        refuse_repeated(["snakemake", *arguments])
    assert str(caught.value).endswith(advice)


def test_an_option_given_once_is_accepted():
    refuse_repeated(["snakemake", "--configfile", "a", "b", "--config", "c=1", "d=2", "--", "all"])
    refuse_repeated(["snakemake", "--config", "c=1", "--", "--config"])


def test_a_workflow_profile_that_is_not_there_is_refused(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"tst: no such profile.*did you mean 'test'"):
        refuse_unknown_profile(["snakemake", "--workflow-profile=tst", "all"], root)
    for name in ("none", "test", str(tmp_path)):
        refuse_unknown_profile(["snakemake", "--workflow-profile", name], root)
    refuse_unknown_profile(["snakemake", "--profile", "own", "--", "--workflow-profile", "a"], root)


def test_profiles_in_force_are_found_where_snakemake_looks(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    default = root / "profiles/default/profile.yaml"
    assert profiles_in_force([], {}, root) == [default]
    assert profiles_in_force(["--workflow-profile", "none"], {}, root) == []
    assert profiles_in_force(["--workflow-profile", "test", "all"], {}, root) == [
        root / "profiles/test/profile.yaml"
    ]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/config.yaml").write_text("cores: 1\n")
    mine = [(tmp_path / "mine/config.yaml").relative_to(tmp_path), default]
    assert profiles_in_force(["--profile=mine"], {}, root) == mine
    assert profiles_in_force([], {"SNAKEMAKE_PROFILE": "mine"}, root) == mine


def test_what_the_command_line_takes_from_a_profile_is_said(root):
    (sentence,) = lost_settings(
        ["--workflow-profile", "test", "--configfile", "more.yaml"], {}, root
    )
    assert "replaces the configfile of" in sentence
    assert "tiny.yaml" in sentence
    assert not list(lost_settings(["--workflow-profile", "test"], {}, root))
    both = ["--configfile", str(root / "config/test/tiny.yaml"), "more.yaml"]
    assert not list(lost_settings(["--workflow-profile", "test", *both], {}, root))


def test_a_profile_with_a_key_twice_is_refused(tmp_path):
    path = tmp_path / "profile.yaml"
    path.write_text("cores: 1\njobs: 2\ncores: 4\n")
    with pytest.raises(ConfigError, match="'cores' stands twice, in line 1 and in line 3"):
        list(lost_settings(["--profile", str(path)], {}, tmp_path))


def test_commands_read_the_projects_own_values_too(tmp_path, monkeypatch):
    project = tmp_path / "config.yaml"
    project.write_text("finetune: {lr: 0.0777}\n")
    monkeypatch.setattr("pipeline_src.config.load.PROJECT_FILE", project)
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("results: results/mine\n")
    config = read_config([overlay])
    assert (config.finetune.lr, config.results) == (0.0777, "results/mine")


def test_no_profile_lets_the_time_of_a_script_decide(root):
    for path in (root / "profiles").glob("*/profile.yaml"):
        triggers = yaml.safe_load(path.read_text())["rerun-triggers"]
        assert sorted(triggers) == ["input", "mtime", "params", "software-env"], path


def bomb(innermost, nest, levels=8):
    """Lines that mean ten times as much each."""
    lines = [f"k0: &k0 {innermost}"]
    for level in range(1, levels):
        lines.append(f"k{level}: &k{level} {nest(f'*k{level - 1}')}")
    return lines


@pytest.mark.slow
@pytest.mark.parametrize(
    "lines",
    [
        [*bomb("[x]", lambda alias: f"[{', '.join([alias] * 10)}]"), "name: *k7"],
        bomb("{x: 1}", lambda alias: f"{{{', '.join(f'{c}: {alias}' for c in 'abcdefghij')}}}"),
        bomb("{x: 1}", lambda alias: f"{{<<: [{', '.join([alias] * 10)}]}}"),
        ["name: &a [*a]"],
        ["name: &a {b: {c: *a}}"],
        ["name: [" + "[" * 5000 + "]" * 5000 + "]"],
        pytest.param(
            [f"name: [{', '.join(map(str, range(250_000)))}]"], marks=pytest.mark.exhaustive
        ),
    ],
)
def test_a_page_that_means_millions_of_values_is_one_sentence(tmp_path, lines):
    path = tmp_path / "bomb.yaml"
    path.write_text("\n".join(lines))
    for read in (load_dataset, read_yaml):
        with pytest.raises(ConfigError, match=r"bomb\.yaml: not valid YAML") as error:
            read(path)
        assert len(str(error.value)) < 400


def test_a_large_wrong_value_is_shown_in_part(tmp_path):
    path = tmp_path / "toy.yaml"
    lines = bomb("[x]", lambda alias: f"[{alias}, {alias}]", 14)
    path.write_text("\n".join([*lines, "name: *k13"]))
    with pytest.raises(ConfigError, match=r"toy\.yaml: .*name: \[\[\[.*\.\.\.") as error:
        load_dataset(path)
    assert len(str(error.value)) < 5000
    path.write_text("datasets: 5\nresults: " + repr(list(range(9000))))
    with pytest.raises(ConfigError, match=r"results = \[0, 1") as error:
        read_config([path])
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("assignment", ["finetune=null", "finetune={lr: null}", "datasets=null"])
def test_a_null_is_blamed_on_what_set_it(root, assignment):
    files = [root / "config/config.yaml"]
    with pytest.raises(ConfigError, match=r"configuration refused:\s+--config: "):
        load_config(merge_files(files, [assignment]), files, [assignment])


def test_an_unknown_override_is_told_with_the_one_that_is_meant(root):
    files = [root / "config/config.yaml"]
    assignments = ["model={overrides: {embed_dm: 64}}"]
    with pytest.raises(ConfigError, match="did you mean 'embed_dim'"):
        load_config(merge_files(files, assignments), files, assignments)


def test_what_is_done_to_a_value_that_was_read_stays_with_who_read_it():
    first = parse_yaml("a: {b: [1]}", "here")
    first["a"]["b"].append(2)
    assert parse_yaml("a: {b: [1]}", "there") == {"a": {"b": [1]}}


@pytest.mark.parametrize(
    ("overlay", "assignment"),
    [("runs: {avsaim_tiny: null, own: {}}", "x=1"), ("", "runs={avsaim_tiny: null}")],
    ids=["file", "--config"],
)
def test_a_null_of_a_run_that_nothing_lists_is_told(root, tmp_path, overlay, assignment):
    path = tmp_path / "overlay.yaml"
    path.write_text(overlay)
    where = path if overlay else "--config"
    message = rf"{where}: runs\.avsaim_tiny: null .*; did you mean 'avsiam_tiny'"
    with pytest.raises(ConfigError, match=message):
        merge_files([root / "config/config.yaml", path], [assignment])


def test_a_null_of_a_run_that_something_before_it_lists_removes_it(root, tmp_path):
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("runs: {avsiam_tiny: null, own: {}, other: {}}")
    second.write_text("runs: {own: null, avsiam_tiny: null}")
    files = [root / "config/config.yaml", first, second]
    assert load_config(merge_files(files), files).run_names == ("other",)
    # Without the project's file, of a package alone, the sections' own default is listed.
    assert merge_files([first])["runs"]["avsiam_tiny"] is None
