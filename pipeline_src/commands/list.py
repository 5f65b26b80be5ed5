"""Write a data set from a folder of videos or sound files: YAML, clip list and class list.

The folder may hold train, val and test folders, a folder per class, one inside the other, or
files alone. Where no folder names a split, recordings are split by hash, 80 to 10 to 10, all
pieces of one into the same split. Nothing is decoded: what will be lost is read from the headers.
"""

import argparse
import math
import shlex
from collections.abc import Sequence
from pathlib import Path

from pipeline_src.commands.cli import NAME
from pipeline_src.commands.list_clips import (
    Files,
    ListedClip,
    choose_name,
    describe_copies,
    describe_expected_losses,
    describe_list,
    failing_splits,
    known_first,
    list_clips,
    read_splits,
    write_lists,
)
from pipeline_src.commands.list_preview import Seen, look_at_all
from pipeline_src.commands.list_proposal import propose
from pipeline_src.config import Config, read_config
from pipeline_src.datasets.copies import find_copies
from pipeline_src.datasets.folder import Folder, read_folder
from pipeline_src.errors import ConfigError
from pipeline_src.system.checkout import CHECKOUT, CONFIG_FILE

DATASETS = CHECKOUT / "config/datasets"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the folder, and what is not to be found out from it."""
    add = parser.add_argument
    add("folder", type=Path, help="what the recordings lie in")
    add("configs", type=Path, nargs="*", help="overlays of config.yaml, later ones win")
    add("--name", default="", help="of the data set; default: that of the folder")
    add("--output", type=Path, help="where the three files go; default: into the folder")
    add("--clip-seconds", type=float, default=0.0, help="cut longer files into pieces; 0 = whole")
    add(
        "--splits",
        choices=("folders", "hash"),
        default="folders",
        help="hash: folders called train, val and test are classes",
    )
    add(
        "--recording",
        default="",
        metavar="REGEX",
        help="its first group, in a file's path, names the recording whose piece the file is",
    )
    add("--usable", action="store_true", help="list no file that will be lost")
    add("--update", action="store_true", help="list anew; what is listed keeps its split")


def run(options: argparse.Namespace) -> int:
    """List the folder, say what was found and what will be lost, and how it is run.

    Raises:
        ConfigError: no usable recording, files that are there already, or an option.
    """
    config = read_config([CHECKOUT / CONFIG_FILE, *options.configs])
    if not 0 <= options.clip_seconds < math.inf:
        raise ConfigError(
            f"--clip-seconds {options.clip_seconds:g}: a number of seconds, 0 for whole files"
        )
    folder = read_folder(options.folder, split_folders=options.splits == "folders")
    taken = [path.stem for path in DATASETS.glob("*.yaml")]
    name = choose_name(options.folder, options.name, [*taken, *config.run_names])
    files = Files.of(options.output or options.folder, name)
    _refuse_existing(files, options.update)
    seen, has_video = _look(options.folder, folder, config)
    known = read_splits(files.clips)
    copies = find_copies(options.folder, [file.path for file in folder.files])
    clips = list_clips(
        folder,
        seen,
        media=config.media,
        clip_seconds=options.clip_seconds,
        recording=options.recording,
        known=known,
        copies=copies,
    )
    _refuse_unusable(options.folder, clips)
    usable = [clip for clip in clips if not (options.usable and clip.lost)]
    listed = known_first(usable, known)
    write_lists(files, options.folder, folder, listed, has_video=has_video)
    sentences = [*describe_list(folder, listed, seen), *describe_copies(folder, listed, copies)]
    print(*sentences, *describe_expected_losses(clips, left_out=options.usable), sep="\n")
    print(f"written: {files.description}, {files.clips.name}, {files.classes.name}")
    _print_command(files, folder, listed, config, options.configs, has_video)
    return 0


def _refuse_unusable(folder: Path, clips: Sequence[ListedClip]) -> None:
    if all(clip.lost for clip in clips):
        raise ConfigError(
            f"{folder}: no usable recording; {len(clips)} of {len(clips)} will be lost, "
            f"the first: {clips[0].source!r}: {clips[0].lost}"
        )


def _refuse_existing(files: Files, update: bool) -> None:
    there = [path for path in (files.description, files.clips, files.classes) if path.exists()]
    if there and not update:
        raise ConfigError(
            f"{there[0]} is there already; --update lists anew and keeps the splits, --name gives "
            "another data set"
        )


def _look(root: Path, folder: Folder, config: Config) -> tuple[dict[str, Seen], bool]:
    """Return what the headers show; where no file has video they are looked at as sound alone."""
    paths = [root / file.path for file in folder.files]
    seen = look_at_all(paths, config.media, config.download.max_bytes)
    has_video = any(one.has_video for one in seen)
    if not has_video:
        seen = look_at_all(paths, config.media.without_frames(), config.download.max_bytes)
    return dict(zip((file.path for file in folder.files), seen, strict=True)), has_video


def _print_command(
    files: Files,
    folder: Folder,
    clips: Sequence[ListedClip],
    config: Config,
    overlays: Sequence[Path],
    has_video: bool,
) -> None:
    """Print the command that runs it, or what that would be refused for."""
    if failing := list(failing_splits(clips, config.shards.max_failed_fraction)):
        print(*failing, sep="\n")
        return
    proposal = propose(
        files.description,
        folder,
        clips,
        config=config,
        files=[CHECKOUT / CONFIG_FILE, *overlays],
        datasets=DATASETS,
        has_video=has_video,
    )
    if proposal.problem:
        print(f"cannot be run as it is: {proposal.problem}")
        return
    call, settings = _run_command(proposal.assignments, overlays)
    print(f"look first:   {call} -n {settings}\nrun it:       {call} {settings}")
    print(f"its figures:  {NAME} table {shlex.quote(config.results)}")


def _run_command(assignments: Sequence[str], overlays: Sequence[Path]) -> tuple[str, str]:
    """Return the call of Snakemake and its arguments."""
    here = Path.cwd().resolve() == CHECKOUT
    call = "snakemake" if here else f"snakemake -s {shlex.quote(str(CHECKOUT / 'Snakefile'))}"
    files = [shlex.quote(str(overlay)) for overlay in overlays]
    chosen = ["--configfile", *files] if files else []
    return call, " ".join([*chosen, "--config", *map(shlex.quote, assignments), "--", "all"])
