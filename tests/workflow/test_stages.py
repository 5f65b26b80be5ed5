"""dvc.yaml says the same as the rules: settings, inputs, outputs; it is current in the checkout."""

import inspect
import itertools
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import yaml
from snakemake.api import SnakemakeApi
from snakemake.exceptions import WorkflowError
from snakemake.settings.types import ConfigSettings, OutputSettings, Quietness, ResourceSettings

from pipeline_src import versions
from pipeline_src.catalog import Catalog
from pipeline_src.config import Config, FinetuneConfig, PretrainConfig, load_config
from pipeline_src.config.load import merge
from pipeline_src.config.section import LATER, is_recorded, section_of
from pipeline_src.dvc.render import render
from pipeline_src.errors import ConfigError
from tests.workspace import Workspace

WILDCARDS = SimpleNamespace(dataset="digits", run="avsiam_tiny", split="train", chunk="00000")
# The clip list is cut when the Snakefile is parsed.
NOT_IN_RULES = {"plan"}
SCRATCH = {"finetune": {"init": "scratch"}}
BY_RATE = {"media": {"num_frames": 0, "frame_rate": 8}}
CURRICULUM = {"shape": "linear", "start": 0.7, "end": 0.5}
SCHEDULED = {"pretrain": {"curriculum": CURRICULUM, "max_batch_size": 64}}
# Outputs that scripts write beside the one that the rule names.
BESIDE = {
    *("checkpoint", "history.csv", "validation.csv", "metrics.jsonl"),
    *("summary.json", "predictions.npz", "embeddings.npz", "reconstructions.npz", "retrieval.npz"),
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, shell_env) -> Workspace:
    return Workspace.versioned(tmp_path_factory.mktemp("tiny"), shell_env)


@pytest.fixture(scope="module")
def stages(tiny) -> dict[str, dict]:
    return yaml.safe_load((tiny.root / "dvc.yaml").read_text())["stages"]


@pytest.fixture
def in_tiny(tiny, monkeypatch):
    monkeypatch.chdir(tiny.root)
    monkeypatch.setenv("PYTHONPATH", "")
    return yaml.safe_load((tiny.root / "config/config.yaml").read_text())


def rules_of(stage: dict) -> set[str]:
    commands = stage["cmd"] if isinstance(stage["cmd"], list) else [stage["cmd"]]
    return set(re.search(r"--allowed-rules (.*?) -- ", commands[-1])[1].split())


def rule_params(config: dict) -> dict[str, dict]:
    """Rule -> its params for one data set and run, as Snakemake has them."""
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(config=config),
            snakefile=Path("Snakefile"),
        )._workflow
        return {
            rule.name: {key: param_value(value) for key, value in rule.params.items()}
            for rule in workflow.rules
        }


def param_value(param: Any) -> Any:
    """A function of wildcards, or of them and the rule's resources, or a plain value."""
    if not callable(param):
        return param
    others = [{} for name in inspect.signature(param).parameters if name == "resources"]
    return param(WILDCARDS, *others)


def changed_stages(stages: dict, before: dict, after: dict) -> set[str]:
    rules = {name for name in before if before[name] != after[name]}
    return {name for name, stage in stages.items() if rules & rules_of(stage)}


def leaves(tree: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        name = f"{prefix}.{key}".lstrip(".")
        if isinstance(value, dict) and key not in ("overrides", "runs"):
            yield from leaves(value, name)
        else:
            yield name, value


def other_values(key: str, value: object) -> list:
    """Values to try in place of ``value``; some are refused by the configuration."""
    if value is None:
        return [1]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1, value * 2, value / 2, value - 1, value + 0.01]
    if isinstance(value, dict):
        return [{**value, "embed_dim": 64}]
    if isinstance(value, list):
        return [[0.4, 0.3, 0.3], ["digits"], ["silent_audio"], [1, 2], value[:-1]]
    section: Any = Config()
    for name in key.split(".")[:-1]:
        section = getattr(section, name)
    choices = get_args(type(section).model_fields[key.split(".")[-1]].annotation)
    return [choice for choice in choices if choice != value] or ["timm", "avsiam_tiny"]


def overlay(key: str, value: object) -> dict:
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


def declared(stages: dict, file: str, key: str) -> set[str]:
    """Stages of dvc.yaml whose params in ``file`` cover ``key``."""
    covering = set()
    for name, stage in stages.items():
        keys = next(entry[file] for entry in stage["params"] if file in entry)
        if any(key == one or key.startswith(f"{one}.") for one in keys):
            covering.add(name)
    return covering


def test_dvc_yaml_of_the_checkout_is_current(fresh):
    fresh.run("python", "-m", "pipeline_src", "stages", "--check")


def test_every_setting_of_a_rule_is_a_parameter_of_its_stage_and_no_other(stages, in_tiny):
    unchanged = []
    configs = (in_tiny, *(merge(in_tiny, other) for other in (SCRATCH, SCHEDULED, BY_RATE)))
    bases = [(base, rule_params(base)) for base in configs]
    for key, value in leaves(in_tiny):
        if key.split(".")[0] in NOT_IN_RULES | {"runs"} or not counts(key):
            continue
        for (base, before), candidate in itertools.product(bases, other_values(key, value)):
            try:
                after = rule_params(merge(base, overlay(key, candidate)))
            except WorkflowError:
                continue
            found = changed_stages(stages, before, after)
            if found:
                assert found == declared(stages, "config/config.yaml", key), key
                break
        else:
            unchanged.append(key)
    # What names another run needs a second one.
    assert set(unchanged) <= {"pretrain.checkpoint_run", "pretrain.teacher_run"}


def counts(key: str) -> bool:
    """Whether neither the field nor a section around it is marked as one that does not count."""
    section: Any = Config
    for name in key.split("."):
        if not is_recorded(section, name):
            return False
        section = section_of(section, name)
    return True


def test_a_setting_that_does_not_count_is_in_no_rule_and_no_stage(stages, in_tiny):
    before = rule_params(in_tiny)
    marked = [(key, value) for key, value in leaves(in_tiny) if not counts(key)]
    assert {"submit.cluster", "pretrain.log_every", "evaluate.num_workers"} <= dict(marked).keys()
    moving = ("results", "datasets")  # other files: checked by what the stages read and write
    for key, value in marked:
        if key.startswith(moving):
            continue
        assert not declared(stages, "config/config.yaml", key), key
        for candidate in other_values(key, value):
            try:
                after = rule_params(merge(in_tiny, overlay(key, candidate)))
            except WorkflowError:
                continue
            assert after == before, key
            break


def test_what_counts_of_a_training_is_in_its_record_and_nothing_else():
    for section in (PretrainConfig(), FinetuneConfig()):
        recorded = dict(leaves(section.recipe_values()))
        for key, _ in leaves(section.model_dump(mode="json")):
            name = key.split(".")[0]
            if type(section).model_fields[name].json_schema_extra != LATER:
                assert (key in recorded) == is_recorded(type(section), name)


def test_a_run_that_writes_out_a_setting_that_does_not_count(in_tiny):
    values = {"pretrain": {"log_every": 3, "lr": 0.1}, "finetune": {"lr": 0.1}}
    merged = merge(in_tiny, {"runs": {"avsiam_tiny": values}})
    tree = yaml.safe_load(render(Catalog(load_config(merged), Path("config/datasets"))))
    params = tree["stages"]["pretrain_avsiam_tiny"]["params"][0]["config/config.yaml"]
    assert "runs.avsiam_tiny.pretrain.lr" in params
    assert not [key for key in params if "log_every" in key or key == "runs.avsiam_tiny.pretrain"]


@pytest.mark.parametrize(
    ("key", "value"),
    [("model.init", "timm"), ("pretrain.lr", 1.0), ("finetune.lr", 1.0), ("evaluate.seed", 3)],
)
def test_a_value_of_one_run_is_a_parameter_of_its_stages(stages, in_tiny, key, value):
    key = f"runs.avsiam_tiny.{key}"
    after = rule_params(merge(in_tiny, overlay(key, value)))
    assert changed_stages(stages, rule_params(in_tiny), after) == declared(
        stages, "config/config.yaml", key
    )


@pytest.mark.parametrize("step", [name for name in vars(versions) if name.isupper()])
def test_the_version_of_a_step_is_a_parameter_of_its_stages(stages, in_tiny, monkeypatch, step):
    before = rule_params(in_tiny)
    monkeypatch.setattr(versions, step, getattr(versions, step) + 1)
    found = changed_stages(stages, before, rule_params(in_tiny))
    expected = declared(stages, "pipeline_src/versions.py", step)
    assert found == (expected if step != "PLAN" else set())
    assert expected


def test_the_plan_belongs_to_the_download(stages):
    assert declared(stages, "config/config.yaml", "plan.chunk_size") == {"download_digits"}
    assert declared(stages, "config/config.yaml", "submit.nodes") == set()


def planned_files(tiny) -> dict[str, dict[str, set[str]]]:
    """Rule -> files that its jobs read and write, from a dry run that makes everything."""
    output = tiny.snakemake("-n", "--verbose", "--forceall", "--", "all")
    files: dict[str, dict[str, set[str]]] = {}
    for block in re.split(r"\n(?=(?:local)?rule )", output)[1:]:
        entry = files.setdefault(re.match(r"(?:local)?rule (\w+):", block)[1], {})
        for kind in ("input", "output"):
            found = re.search(rf"^    {kind}: (.*)$", block, re.MULTILINE)
            listed = found[1].split(", ") if found else []
            paths = {path.removeprefix(f"{tiny.root}/") for path in listed}
            paths = {str(Path(path).resolve()) if ".." in path else path for path in paths}
            entry.setdefault(kind, set()).update(paths)
    return files


def chunks_behind(deps) -> set[str]:
    """Manifests that an index among ``deps`` holds the hash of."""
    indexes = [Path(dep) for dep in deps if Path(dep).name == "index.json"]
    return {str(index.with_name(f"{n:05d}.json")) for index in indexes for n in range(4)}


def is_below(path: str, folders) -> bool:
    return any(Path(path).is_relative_to(folder) for folder in folders)


def test_inputs_and_outputs_of_the_rules_are_those_of_the_stages(tiny, stages):
    files = planned_files(tiny)
    for name, stage in stages.items():
        rules = [files[rule] for rule in rules_of(stage) if rule in files]
        written = {path for rule in rules for path in rule["output"]}
        read = {path for rule in rules for path in rule["input"]} - written
        outs = [next(iter(out)) if isinstance(out, dict) else out for out in stage["outs"]]
        outs += stage.get("metrics", [])
        assert written, name
        assert all(is_below(path, outs) for path in written), name
        named = {out for out in outs if Path(out).name not in BESIDE}
        assert all(any(is_below(path, [out]) for path in written) for out in named), name
        if name.startswith("download_"):  # the plan is cut from the list
            assert all("/plan/" in path for path in read)
            assert {Path(dep).suffix for dep in stage["deps"]} == {".yaml", ".csv", ".tar"}
            continue
        read -= chunks_behind(stage["deps"])
        assert all(is_below(path, stage["deps"]) for path in read), name
        assert all(any(is_below(path, [dep]) for path in read) for dep in stage["deps"]), name


def test_a_stage_may_only_run_its_own_rules(stages):
    seen: list[str] = [rule for stage in stages.values() for rule in rules_of(stage)]
    assert len(seen) == len(set(seen))
    assert all("--profile" not in str(stage["cmd"]) for stage in stages.values())


def test_a_changed_list_of_runs_ends_with_what_to_do(tmp_path, shell_env):
    workspace = Workspace.versioned(tmp_path, shell_env)
    workspace.set("runs.second", {"finetune": {"checkpoint_run": "avsiam_tiny"}})
    output = workspace.run("python", "-m", "pipeline_src", "stages", "--check", fails=True)
    assert "python -m pipeline_src stages --write" in output
    assert "Traceback" not in output
    workspace.run("python", "-m", "pipeline_src", "stages", "--write")
    stages = yaml.safe_load((workspace.root / "dvc.yaml").read_text())["stages"]
    second = stages["finetune_second_digits"]
    assert "results/avsiam_tiny/pretrain/done.json" in second["deps"]
    assert "runs.second" in second["params"][0]["config/config.yaml"]
    assert "pretrain_second" not in stages
    workspace.set("runs.second", {"pretrain": {"checkpoint_run": "avsiam_tiny"}})
    workspace.run("python", "-m", "pipeline_src", "stages", "--write")
    stages = yaml.safe_load((workspace.root / "dvc.yaml").read_text())["stages"]
    assert "results/avsiam_tiny/pretrain/done.json" in stages["pretrain_second"]["deps"]
    assert "results/second/pretrain/done.json" in stages["finetune_second_digits"]["deps"]


@pytest.mark.parametrize("results", ["my results", "ergebnisse/für mich"])
def test_odd_results_folders_are_quoted(monkeypatch, root, tmp_path, results):
    monkeypatch.chdir(tmp_path)
    config = Config(results=results)
    tree = yaml.safe_load(render(Catalog(config, root / "config/datasets")))
    commands = tree["stages"]["pretrain_avsiam_tiny"]["cmd"]
    assert shlex.split(commands)[-1] == f"{results}/avsiam_tiny/pretrain/done.json"


@pytest.mark.parametrize(
    "results",
    ["r;touch x;", "${item}", "a{b}", "$HOME/r", "~/r", "a'b", 'a"b', "a\nb", "a*", "<r>"],
)
def test_results_folders_that_a_tool_would_take_apart_are_refused(results):
    with pytest.raises(ConfigError, match="results"):
        load_config({"results": results})


def test_a_path_with_a_dollar_stays_a_path(monkeypatch, root, tmp_path):
    folder = tmp_path / "${item}"
    shutil.copytree(root / "config/test", folder)
    monkeypatch.chdir(tmp_path)
    config = Config(datasets=(str(folder / "digits.yaml"),))
    text = render(Catalog(config, root / "config/datasets"))
    assert "\\${item}/digits.yaml" in text
    assert "/${item}" not in text.replace("\\$", "\\")


def test_git_does_not_see_results_plots_or_a_link_to_them(tiny):
    for name in ("results", "results/x", "dvc_plots/index.html"):
        tiny.run("git", "check-ignore", "--quiet", "--no-index", name)


def test_a_stage_refuses_linked_results_before_anything_runs(tmp_path, tiny):
    linked = tiny.copied_to(tmp_path)
    (tmp_path / "scratch").mkdir()
    shutil.rmtree(linked.root / "results", ignore_errors=True)
    (linked.root / "results").symlink_to(tmp_path / "scratch")
    output = linked.run("dvc", "repro", fails=True)
    assert "results is a link to" in output
    assert "mount --bind" in output
    output = linked.run("env", "DVC_STAGE=pretrain_x", "snakemake", "pretrain", fails=True)
    assert "results is a link to" in output
    assert not list((tmp_path / "scratch").rglob("download"))


def test_a_dry_run_of_dvc_lists_the_stages_of_a_fresh_clone(tiny, stages):
    output = tiny.run("dvc", "repro", "--dry", "--force")
    assert [name for name in stages if f"Running stage '{name}':" not in output] == []
