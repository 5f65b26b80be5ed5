"""The one command: what it lists, what it imports, from where it works, and its older names."""

import os
import subprocess
import sys
import tomllib
from importlib import import_module

import pytest

from pipeline_src.commands.cli import COMMANDS, main


@pytest.mark.slow
def test_help_lists_every_command_without_torch(root, tmp_path):
    code = (
        "import sys; from pipeline_src.commands.cli import main\n"
        "try: main(['--help'])\n"
        "finally: assert not {'torch', 'pydantic', 'numpy'} & set(sys.modules)"
    )
    env = {**os.environ, "PYTHONPATH": str(root)}
    called = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert called.returncode == 0, called.stderr
    listed = {line.split()[0] for line in called.stdout.splitlines() if line.startswith("    ")}
    assert set(COMMANDS) <= listed


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    module = import_module(f"pipeline_src.commands.{name}")
    assert module.__doc__.splitlines()[0] in capsys.readouterr().out


def test_every_file_is_a_command_or_named_after_one(root):
    files = {path.stem for path in (root / "pipeline_src/commands").glob("[!_]*.py")}
    files -= {"cli"}
    assert set(COMMANDS) <= files
    assert {name.split("_")[0] for name in files} == set(COMMANDS)


def test_a_misspelt_command_is_told_apart(capsys):
    with pytest.raises(SystemExit):
        main(["estimat", "vggsound"])
    assert "unknown command 'estimat'; did you mean 'estimate'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "inputs"),
    [
        (["m", "--window", "whole", "a.mp4"], ["a.mp4"]),
        (["m", "a.mp4", "--window", "2", "b.mp4", "--frames", "3"], ["a.mp4", "b.mp4"]),
        (["--window", "2", "m", "a.mp4"], ["a.mp4"]),
        (["m", "--window", "2", "--", "-n.mp4"], ["-n.mp4"]),
        (["--window", "2", "--", "m", "-n.mp4", "b.mp4"], ["-n.mp4", "b.mp4"]),
        (["m", "--frames", "3"], []),
    ],
)
@pytest.mark.parametrize("name", ["embed", "classify"])
def test_inputs_may_stand_before_and_behind_options(monkeypatch, name, given, inputs):
    module, found = import_module(f"pipeline_src.commands.{name}"), []
    monkeypatch.setattr(module, "run", lambda options: found.append(options) or 0)
    assert main([name, *given]) == 0
    assert (str(found[0].model), found[0].inputs) == ("m", inputs)


@pytest.mark.parametrize("given", [["m", "--windw", "2", "a.mp4"], ["m", "-x", "--", "-x.mp4"]])
def test_unknown_options_are_no_inputs(capsys, given):
    with pytest.raises(SystemExit):
        main(["embed", *given])
    assert f"unrecognized arguments: {given[1]}" in capsys.readouterr().err


@pytest.mark.slow
def test_setup_installs_the_command_and_it_works_anywhere(fresh, tmp_path):
    """As in the Makefile: no index, no isolated build; a folder of its own stands for .venv."""
    recipe = (fresh.root / "Makefile").read_text()
    options = "--no-index --no-deps --no-build-isolation"
    assert f"{options} --editable ." in recipe
    target = tmp_path / "venv"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", *options.split()]
    place = ["--ignore-installed", "--prefix", str(target)]
    subprocess.run([*pip, *place, "--editable", "."], cwd=fresh.root, env=fresh.env, check=True)
    (script,) = target.glob("bin/*")
    scripts = tomllib.loads((fresh.root / "pyproject.toml").read_text())["project"]["scripts"]
    assert list(scripts) == [script.name] == ["av-pipeline"]
    (site,) = target.glob("lib/python*/site-packages")
    start = f"import site, sys; site.addsitedir({str(site)!r}); sys.argv[:] = sys.argv[1:]; "
    start += "exec(open(sys.argv[0]).read())"
    (tmp_path / "elsewhere").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", start, str(script), "stages", "--check"],
        cwd=tmp_path / "elsewhere",
        env=fresh.env,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_a_reader_that_has_enough_ends_a_command_without_a_traceback(root, tmp_path):
    script = tmp_path / "table.py"
    script.write_text(
        "import sys\n"
        "from pipeline_src.commands import cli\n"
        "def run(options):\n"
        "    for _ in range(100_000): print('a row')\n"
        "    return 0\n"
        "sys.modules['pipeline_src.commands.table'] = module = type(sys)('table', 'Rows.')\n"
        "module.add_arguments, module.run = lambda parser: None, run\n"
        "sys.exit(cli.main(['table']))\n"
    )
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} {script} | head -1; exit ${{PIPESTATUS[0]}}"],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("a row\n", "", 141)
