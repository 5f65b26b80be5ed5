"""Code that changes without its step's version is noticed, and code beside it is not."""

import ast
import re
import shutil

import pytest

from pipeline_src import versions
from pipeline_src.catalog.steps import STEPS
from pipeline_src.dvc import reached
from pipeline_src.dvc.reached import ENTRY_POINTS, code_text, problems, step_hash


def texts(source, **how):
    return [code_text(source, part, **how) for part in ast.parse(source).body]


def units_of(step):
    return reached.reached(reached._entries(step))


@pytest.mark.slow
def test_the_code_that_each_step_reaches_is_as_recorded():
    assert list(problems()) == []


def test_every_step_with_a_version_is_watched_and_every_script_with_one_is_named(root):
    assert set(ENTRY_POINTS) == {name for name in vars(versions) if name.isupper()}
    for path in sorted((root / "workflow/rules").glob("*.smk")):
        for rule in path.read_text().split("\nrule ")[1:]:
            if step := re.search(r"catalog\.params\(\"(\w+)\"\)", rule):
                script = re.search(r"scripts/(\w+\.py)", rule)[1]
                assert script in ENTRY_POINTS[STEPS[step[1]].version], script


@pytest.mark.parametrize(
    ("step", "module"),
    [
        ("DOWNLOAD", "download.http"),
        ("TRANSCODE", "transcode.ffmpeg_command"),
        ("LOGMEL", "logmel.fbank"),
        ("PACK", "manifest.tars"),
        ("PRETRAIN", "methods.mavil.network"),
        ("PRETRAIN", "methods.mavil.objective"),
        ("PRETRAIN", "methods.cav_mae.weights"),
        ("PRETRAIN", "methods.common.contrast"),
        ("PRETRAIN", "methods.avsiam.config"),
        ("PRETRAIN", "methods.common.config"),
        ("PRETRAIN", "config.training"),
        ("FINETUNE", "loader.mixup"),
        ("EVALUATE", "evaluate.metrics"),
        ("REPORT", "report.charts"),
    ],
)
def test_what_makes_a_result_is_reached(step, module):
    assert module in {unit.module for unit in units_of(step)}


def test_steps_do_not_share_what_only_one_uses():
    assert not [unit for unit in units_of("LOGMEL") if unit.module.startswith("shards")]
    assert not [unit for unit in units_of("PACK") if unit.module == "logmel.fbank"]


BEFORE = '''
def f(a, b):
    """What it does."""
    # why
    return a + b  # sum

class C(Section):
    """Words."""
    key: int = Field(default=1, description="words")
    def g(self):
        return "# no comment"
'''
AFTER = '''
def f(a, b):

    return a + b


class C(Section):
    key: int = Field(default=2, description="other words")
    other: str = Field(default="")
    def g(self):
        """More words."""
        return "# no comment"
'''


def test_comments_docstrings_layout_and_what_is_in_params_are_no_code():
    assert texts(BEFORE, in_params=True) == texts(AFTER, in_params=True)
    assert texts(BEFORE) != texts(AFTER)
    assert texts(BEFORE)[0] == "def f(a, b): return a + b"
    assert '"# no comment"' in texts(BEFORE)[1]


FIELD = 'class C(NetworkConfig):\n    depth: int = Field({default}, ge=1, description="{words}")\n'
LAID_OUT = (
    "class C(NetworkConfig):\n    depth: int = Field(\n        6,\n        ge=1,\n"
    '        description="one word "\n        "and another",\n    )\n'
)
LATE = FIELD.replace(")\n", ", json_schema_extra=LATER)\n")


@pytest.mark.parametrize(("source", "how"), [(FIELD, {}), (LATE, {"in_params": True})])
def test_a_default_that_no_params_hold_is_code_and_its_description_is_not(source, how):
    before = texts(source.format(default=6, words="words"), **how)
    assert texts(source.format(default=8, words="words"), **how) != before
    assert texts(source.format(default=6, words="other words"), **how) == before
    assert how or texts(LAID_OUT) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [("a + b", "a - b"), ("f(a", "f(z"), ("1.0", "1.5"), ("@cache", "@lru_cache"), ("'x'", "'y'")],
)
def test_every_change_of_code_is_seen(old, new):
    source = "@cache\ndef f(a, b):\n    '''Words.'''\n    return a + b, 1.0, 'x'\n"
    assert old in source
    assert texts(source) != texts(source.replace(old, new))


@pytest.fixture
def copied(root, tmp_path, monkeypatch):
    """A copy of the package that the module looks at; nothing in it is imported."""
    shutil.copytree(root / "pipeline_src", tmp_path / "pipeline_src")
    shutil.copytree(root / "workflow/scripts", tmp_path / "workflow/scripts")
    monkeypatch.setattr(reached, "CHECKOUT", tmp_path)
    monkeypatch.setattr(reached, "RECORD", tmp_path / "pipeline_src/dvc/reached.json")
    monkeypatch.setattr(
        reached, "ENTRY_POINTS", {key: ENTRY_POINTS[key] for key in ("LOGMEL", "PACK")}
    )
    reached.read_module.cache_clear()
    yield tmp_path
    reached.read_module.cache_clear()


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    reached.read_module.cache_clear()


def test_a_step_whose_code_changed_is_named_until_it_is_marked_or_raised(copied, monkeypatch):
    reached.record(reached.ENTRY_POINTS)
    assert list(problems()) == []
    path = copied / "pipeline_src/logmel/fbank.py"
    edit(path, "def log_mel(", "def unused() -> int:\n    return 1\n\n\ndef log_mel(")
    assert list(problems()) == []  # beside what is reached
    path.write_text(path.read_text() + "\n\ndef num_window_samples():  # another\n    return 7\n")
    reached.read_module.cache_clear()
    (sentence,) = problems()
    assert sentence.startswith("LOGMEL: code that it reaches has changed, its version has not")
    assert reached.record([]) == ["LOGMEL"]
    assert list(problems())
    assert reached.record(["LOGMEL"]) == []
    assert list(problems()) == []
    edit(path, "return 7", "return 8")
    monkeypatch.setattr(versions, "LOGMEL", versions.LOGMEL + 1)
    assert next(problems()).startswith("LOGMEL: a new version")
    assert reached.record([]) == []
    assert list(problems()) == []


@pytest.mark.parametrize(
    ("unit", "old", "new", "counts"),
    [
        (("methods.avsiam.config", "AVSiamConfig"), "Field(6, ge=1", "Field(8, ge=1", True),
        (("methods.common.config", "NetworkConfig"), "Field(4.0, gt", "Field(2.0, gt", True),
        (("methods.common.config", "NetworkConfig"), '"MLP hidden', '"hidden', False),
        (("config.training", "PretrainConfig"), 'default="sqrt"', 'default="linear"', True),
        (("config.training", "PretrainConfig"), "default=0.05, gt", "default=0.1, gt", False),
    ],
)
def test_of_settings_what_params_do_not_hold_is_code(copied, unit, old, new, counts):
    unit = reached.Unit(*unit)
    before = reached._unit_texts(unit)
    edit((copied / "pipeline_src").joinpath(*unit.module.split(".")).with_suffix(".py"), old, new)
    assert (reached._unit_texts(unit) != before) == counts


@pytest.mark.slow
def test_what_a_page_is_made_of_is_code_of_the_report(copied, monkeypatch):
    monkeypatch.setattr(reached, "ENTRY_POINTS", {"REPORT": ENTRY_POINTS["REPORT"]})
    before = step_hash("REPORT")
    edit(copied / "pipeline_src/report/templates/page.js", "", "// a script\n")
    assert step_hash("REPORT") != before


def test_a_script_is_code_of_its_step(copied):
    before = step_hash("PACK")
    edit(copied / "workflow/scripts/pack_shard.py", "with log_to_file", "x = 1\nwith log_to_file")
    assert step_hash("PACK") != before


def test_an_entry_that_does_not_exist_is_no_entry_that_reaches_nothing(monkeypatch):
    """The averaging of folds was named wrongly, so no change of it was ever seen."""
    assert ("evaluate.folds", "average_folds") in units_of("EVALUATE")
    assert ("shards.fetch", "fetch_index") in units_of("INDEX")
    monkeypatch.setitem(ENTRY_POINTS, "INDEX", ("shards.index:write_indices",))
    with pytest.raises(ValueError, match=r"no write_indices in pipeline_src\.shards\.index"):
        step_hash("INDEX")
