"""Every command that the documentation prints is accepted: planned, parsed, or there to be run."""

import re
import shlex
import subprocess
import zipfile
from pathlib import Path

import pytest

from pipeline_src.commands import cli
from tests.workflow.test_experiments import EXPERIMENTS, listed  # noqa: F401 - a fixture
from tests.workspace import ROOT, experiment_files

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "config/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
HEADERS = [*EXPERIMENTS, *(ROOT / "profiles").glob("*/profile.yaml")]
WORDS = "snakemake|dvc|make|sbatch|torchrun|av-pipeline|python"
BLOCK = re.compile(rf"^(?:    |#   |# )((?:{WORDS}) [^#\n]*)", re.MULTILINE)
INLINE = re.compile(rf"`((?:{WORDS}) [^`\n]*)`")
PLACE = re.compile(r"<[^>]*>|\[[^]]*\]")
CONTINUED = re.compile(r"\\\n[ #]*")  # of a header too
REPORT = "--report"  # of results that are there, so not for a dry run
# What stands for something of the reader's.
PLACES = {
    "<dataset>": "avdigits",
    "<run>": "avsiam_tiny",
    "<project>": ".",
    "path/to/folder/NAME.yaml": "config/datasets/avdigits.yaml",
    "path/to/mine.yaml": "config/datasets/avdigits.yaml",
    "mine.yaml": "config/datasets/avdigits.yaml",
    "profiles/mine": "profiles/slurm",
    "/scratch/me": "scratch",
    "--set-threads ...": "--set-threads transcode_clips=4",
}
PACKED = (
    "name: vggsound_packed\ntask: multiclass\nformat: shards\n"
    "index_urls: {train: far.json, test: far.json}\n"
)


def commands(word: str) -> list[str]:
    """Printed commands that begin with a word, each once."""
    texts = [CONTINUED.sub("", path.read_text()) for path in (*PAGES, *HEADERS)]
    found = [one for text in texts for one in BLOCK.findall(text) + INLINE.findall(text)]
    # A header continues in words after a colon or blanks.
    found = [re.split("  |(?<= all): ", one, maxsplit=1)[0].strip() for one in found]
    return sorted({one for one in found if one.split()[0] == word})


def arguments(command: str) -> list[str]:
    for placeholder, value in PLACES.items():
        command = command.replace(placeholder, value)
    return shlex.split(command)


def headline(path: Path) -> str:
    """The command that makes a whole experiment, as its header should print it."""
    return f"snakemake --configfile {' '.join(experiment_files(path))} -- all"


def test_every_snakemake_command_is_planned(listed):  # noqa: F811
    (listed.root / "config/datasets/vggsound_packed.yaml").write_text(PACKED)
    elsewhere = {headline(path) for path in EXPERIMENTS}  # each is planned by a test of its own
    printed = [one for one in commands("snakemake") if REPORT not in one and one not in elsewhere]
    assert len(printed) > 30
    failed = {}
    for command in printed:
        program, *words = arguments(command)
        status, output = listed.plan(program, "-n", *words)
        if status:
            failed[command] = output[-600:]
    assert failed == {}


def test_snakemakes_own_report_holds_the_page(built):
    command = next(one for one in commands("snakemake") if REPORT in one)
    built.run(*arguments(command), "--workflow-profile", "test")
    with zipfile.ZipFile(built.root / command.split()[-1]) as report:
        pages = [report.read(name) for name in report.namelist() if name.endswith("index.html")]
    assert (built.root / "results/test/report/index.html").read_bytes() in pages


def test_every_make_target_and_script_is_there():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in commands("make"):
        names = [word for word in command.split()[1:] if re.fullmatch("[a-z-]+", word)]
        assert set(names[:1]) <= targets, command
    for command in commands("sbatch"):
        assert (ROOT / command.split()[1]).is_file(), command


def test_setup_ends_with_how_to_activate():
    printed = subprocess.run(
        ["make", "-n", "--no-print-directory", "setup"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed.splitlines()[-1].endswith('in this shell:  . .venv/bin/activate"')


def test_every_dvc_command_is_one():
    from dvc.cli.parser import get_main_parser

    parser = get_main_parser()
    for command in commands("dvc"):
        words = [word for word in shlex.split(command) if word != "..."][1:]
        if words[-1] == "-S":
            words.append("a=1")
        groups = (["metrics"], ["plots"], ["queue"], ["exp", "apply"])
        if words not in groups and words[:1] != ["config"]:  # named without its arguments
            parser.parse_args(words)


@pytest.mark.parametrize("command", commands("python"))
def test_every_module_that_is_run_is_there(command):
    words = shlex.split(command)
    if words[1] != "-m":
        assert (ROOT / words[1]).is_file()
        return
    base = ROOT.joinpath(*words[2].split("."))
    assert base.with_suffix(".py").is_file() or (base / "__main__.py").is_file()
    files = [word for word in words[3:] if word.startswith("config/")]
    assert [name for name in files if not (ROOT / name).is_file()] == []


def ours() -> list[list[str]]:
    """Arguments of our own command, of ``av-pipeline`` and of ``python -m pipeline_src``."""
    printed = [*commands("av-pipeline"), *commands("python")]
    given = [arguments(PLACE.sub("x", one.replace("<command>", "doctor"))) for one in printed]
    of_modules = [words[3:] for words in given if words[1:3] == ["-m", "pipeline_src"]]
    return [words[1:] for words in given if words[0] == "av-pipeline"] + of_modules


@pytest.mark.parametrize("words", ours(), ids=" ".join)
def test_every_command_of_ours_is_parsed(words):
    """One that is named alone need not have what it takes; that it is there is seen by --help."""
    is_name = all(word.isalpha() and word != "x" for word in words)
    options = [*words, "--help"] if is_name else words
    if "--help" not in options:
        cli._parser(options[0]).parse_args(options)
        return
    with pytest.raises(SystemExit) as end:
        cli._parser(options[0]).parse_args(options)
    assert not end.value.code
