"""What is kept of an experiment's runs, so that it can be made in several sittings.

Results are too large for the repository, their figures are not: of each run a line with which test
clips it got right, what its training cost, its probes and its validation scores, and hashes of what
it was trained and read out with.

    python -m benchmarks.kept_runs missing config/experiments/avdigits_efficiency.yaml
    snakemake --configfile config/experiments/avdigits_efficiency.yaml -- <what it printed>
    python -m benchmarks.kept_runs add results
    python -m benchmarks.kept_runs table config/experiments/avdigits_efficiency.yaml

Runs whose names differ in ``_seed<n>`` are seeds of one arm. Differences to MAViL are paired in
seed and clip. The variance over seeds is that of all pre-trained arms together; beside the 95 %
interval stands one that holds at once for all arms that decide: those that are listed with most
seeds (Bonferroni).
"""

import argparse
import csv
import json
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from benchmarks.preprocess import describe_machine
from benchmarks.seeds import PLATEAU, over_chance
from pipeline_src.evaluate.files import METRICS_FILE, PREDICTIONS_FILE, RETRIEVAL_FILE
from pipeline_src.evaluate.intervals import Interval
from pipeline_src.evaluate.metrics import hits_at
from pipeline_src.evaluate.records import DIRECTIONS
from pipeline_src.evaluate.seeds import (
    Resampled,
    mean_difference_over_seeds,
    mean_over_seeds,
    pool_seed_variance,
    resample_share,
)
from pipeline_src.modalities import HEADS
from pipeline_src.runs.spec import DONE_FILE, SPEC_FILE
from pipeline_src.system.atomic import json_sha256

KEPT = Path(__file__).parent / "results" / "efficiency_runs.jsonl"
DATASET = "avdigits"
FIRST = "mavil"  # the arm that others are compared with
MODALITY = "audio"  # what they are fine-tuned and compared on: the claim is about it
STAGES = {"pretrain": "pretrain", "finetune": f"finetune/{DATASET}"}
OPTIONS: Any = {"num_resamples": 2000, "seed": 0}
Record = dict[str, Any]
# What runs that are compared have in common -> whose, and its value.
SHARED: dict[str, Callable[[Record], tuple[str, str]]] = {
    "scores of other clips": lambda record: (record["split"], record["clip_ids_sha256"]),
    "another readout": lambda record: ("fine-tuning", record["settings"]["readout"]),
    "other settings": lambda record: (arm_of(record["run"]), record["settings"]["arm"]),
}


def describe(run_dir: Path) -> Record:
    """Read what is kept of a finished run.

    Raises:
        FileNotFoundError: it is not finished.
    """
    scored = run_dir / "eval" / DATASET
    metrics = read_json(scored / METRICS_FILE)
    probe = read_json(run_dir / "probe" / DATASET / METRICS_FILE, {})
    with np.load(scored / PREDICTIONS_FILE) as arrays:
        heads = [head for head in HEADS if head in arrays]
        hits = {head: pack(hits_at(arrays[head], arrays["targets"], 1)) for head in heads}
    with np.load(scored / RETRIEVAL_FILE) as arrays:
        found = {way: pack(arrays[way] < 10) for way in DIRECTIONS}
    trainings = {stage: read_json(run_dir / path / DONE_FILE, {}) for stage, path in STAGES.items()}
    reached = over_chance(run_dir)
    return {
        "run": run_dir.name,
        **{key: metrics[key] for key in ("split", "num_clips", "clip_ids_sha256", "git_commit")},
        "precision": metrics["precision"]["training"],
        "settings": settings(run_dir, metrics["config"]["evaluate"]),
        "kept_on": describe_machine()["cpu"],
        "hits": hits,
        "found_in_10": found,
        "linear_probe": {
            name: one["linear"]["value"]
            for name, one in probe.get("probes", {}).get("pretrained", {}).items()
        },
        "hidden_error": {
            name: one["model"]["value"] for name, one in probe.get("reconstruction", {}).items()
        },
        "over_chance": None if math.isnan(reached) else reached,
        "cost": {
            stage: {
                "flops": done["cost"]["flops"],
                "steps": done["step"],
                "seconds": done["seconds"],
            }
            for stage, done in trainings.items()
            if done
        },
        "validation": read_validation(run_dir / STAGES["finetune"] / "validation.csv", heads),
    }


def settings(run_dir: Path, evaluate: Mapping[str, Any]) -> dict[str, str]:
    """Hash what makes an arm, and what all arms are read out with; of neither the seed."""
    start = ("init", "checkpoint_run", "checkpoint")  # scratch is an arm
    pretrain = read_json(run_dir / STAGES["pretrain"] / SPEC_FILE, {})
    finetune = read_json(run_dir / STAGES["finetune"] / SPEC_FILE)
    of = {
        "arm": {"model": finetune["model"], **pretrain.get("recipe", {})},
        "readout": {key: value for key, value in finetune["recipe"].items() if key not in start}
        | {"evaluate": evaluate},
    }
    return {name: json_sha256({**one, "seed": None})[:16] for name, one in of.items()}


def is_finished(run_dir: Path) -> bool:
    """Return whether a run that has been evaluated has its probe, too, if it was pre-trained."""
    probe = run_dir / "probe" / DATASET / METRICS_FILE
    return probe.exists() or not (run_dir / STAGES["pretrain"]).is_dir()


def read_json(path: Path, otherwise: Any = None) -> Any:
    """Read a JSON file; ``otherwise``, where given, of one that is not there."""
    if otherwise is not None and not path.exists():
        return otherwise
    return json.loads(path.read_text(encoding="utf-8"))


def read_validation(path: Path, heads: Sequence[str]) -> list[list[float]]:
    """Read rows of step and score of each head."""
    with path.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return [[float(row[name]) for name in ("step", *heads)] for row in rows]


def pack(hits_N: NDArray) -> str:
    """Write yes and no of each clip as hexadecimal digits."""
    return np.packbits(hits_N.astype(bool)).tobytes().hex()


def unpack(digits: str, num_clips: int) -> NDArray[np.bool_]:
    """Read what ``pack`` wrote, (N,)."""
    packed = np.frombuffer(bytes.fromhex(digits), np.uint8)
    return np.unpackbits(packed, count=num_clips).astype(bool)


def read_kept(path: Path = KEPT) -> list[Record]:
    """Read every line that is kept."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def add(results: Path, kept: Path = KEPT) -> list[str]:
    """Append the finished runs of a folder that are not kept yet; their names.

    A pre-training without its probe is not finished.

    Raises:
        ValueError: other clips were scored than in the runs that are kept, or an arm or what all
            are read out with is not as it was.
    """
    known = read_kept(kept)
    names = {record["run"] for record in known}
    found = sorted(path.parents[2] for path in results.glob(f"*/eval/{DATASET}/{METRICS_FILE}"))
    new = [describe(path) for path in found if path.name not in names and is_finished(path)]
    for what, of in SHARED.items():
        values: dict[str, set[str]] = {}
        for record in (*known, *new):
            group_name, value = of(record)
            values.setdefault(group_name, set()).add(value)
        if mixed := [name for name, found in values.items() if len(found) > 1]:
            raise ValueError(f"{results} has {what} than {kept}: {', '.join(mixed)}")
    with kept.open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps(record) + "\n" for record in new)
    return [record["run"] for record in new]


def missing(config: Path, kept: Path = KEPT) -> list[str]:
    """Name the targets of the runs of an experiment that are not kept yet, seed by seed."""
    known = {record["run"] for record in read_kept(kept)}
    listed = yaml.safe_load(config.read_text(encoding="utf-8"))["runs"]
    runs = [name for name, overlay in listed.items() if overlay is not None and name not in known]
    runs.sort(key=lambda name: name.rpartition("_seed")[2])  # stable: arms stay in order
    targets = []
    for run in runs:
        is_scratch = listed[run].get("finetune", {}).get("init") == "scratch"
        for kind in ["eval"] if is_scratch else ["eval", "probe"]:
            targets.append(f"results/{run}/{kind}/{DATASET}/{METRICS_FILE}")
    return targets


def count_comparisons(config: Path) -> int:
    """Count the arms beside the first that an experiment lists with as many seeds as any."""
    listed = yaml.safe_load(config.read_text(encoding="utf-8"))["runs"]
    runs = [name for name, overlay in listed.items() if overlay is not None]
    arms = Counter(map(arm_of, runs))
    return sum(count == max(arms.values()) for arm, count in arms.items() if arm != FIRST)


def arm_of(run: str) -> str:
    """Return a run's name without its seed."""
    return run.partition("_seed")[0]


def group(records: Iterable[Record]) -> dict[str, dict[str, Record]]:
    """Group records by arm and seed, the arm that others are compared with first.

    Raises:
        ValueError: there is none of it.
    """
    arms: dict[str, dict[str, Record]] = {FIRST: {}}
    for record in records:
        _, _, seed = record["run"].partition("_seed")
        arms.setdefault(arm_of(record["run"]), {})[seed] = record
    if not arms[FIRST]:
        raise ValueError(f"no run of {FIRST} is kept, which the others are compared with")
    return arms


def resampled(record: Record, digits: str) -> Resampled:
    """Resample the clips of a run, in every run alike."""
    return resample_share(unpack(digits, record["num_clips"]), **OPTIONS)


def mean_text(records: Sequence[Record], modality: str) -> str:
    """Write an arm's mean accuracy with its interval over seeds and clips."""
    runs = [accuracy(record, modality) for record in records]
    if len(runs) == 1:
        return f"{runs[0].value:.3f}"
    return interval_text(mean_over_seeds(runs, records[0]["num_clips"]))


def accuracy(record: Record, modality: str) -> Resampled:
    """Give a run's test accuracy from an input, and what it is under resamples of the clips."""
    return resampled(record, record["hits"][modality])


def mean_pair(
    arm: Mapping[str, Record],
    arms: Mapping[str, Mapping[str, Record]],
    measure: Callable[[Record], Resampled],
    confidence: float = 0.95,
) -> Interval | None:
    """Give an arm's mean difference to the first of ``arms``, over the seeds that both have.

    The variance over seeds is pooled over the arms. None for the first, and of less than two seeds.
    """
    first = arms[FIRST]
    seeds = sorted(arm.keys() & first.keys())
    if arm is first or len(seeds) < 2:
        return None
    pairs = [measure(arm[seed]) - measure(first[seed]) for seed in seeds]
    trained = [one.values() for one in arms.values() if pretraining_flops(one.values())]
    pooled = pool_seed_variance([[measure(run).value for run in runs] for runs in trained])
    return mean_difference_over_seeds(pairs, confidence, pooled)


def paired_text(found: Interval | None) -> str:
    """Write a difference to the first arm; nothing of none."""
    return "" if found is None else interval_text(found, "+.3f")


def other_measures() -> dict[str, Callable[[Record], Resampled]]:
    """Name what is measured besides accuracy; of probes and errors the clips are not known."""

    def found(record: Record, way: str) -> Resampled:
        return resampled(record, record["found_in_10"][way])

    def figure(record: Record, kind: str, modality: str) -> Resampled:
        value = record[kind].get(modality, math.nan)
        return Resampled(value, np.full(2, value))

    measures = {f"R@10, {way.replace('_', ' ')}": partial(found, way=way) for way in DIRECTIONS}
    for kind in ("linear_probe", "hidden_error"):
        for modality in ("audio", "video"):
            name = f"{kind.replace('_', ' ')}, {modality}"
            measures[name] = partial(figure, kind=kind, modality=modality)
    return measures


def other_rows(arms: Mapping[str, Mapping[str, Record]]) -> Iterable[list[str]]:
    """Give the cells of each arm: of every other measure the mean, and the difference."""
    for name, arm in arms.items():
        cells = [name]
        for measure in other_measures().values():
            mean = statistics.mean(measure(record).value for record in arm.values())
            cells.append("" if math.isnan(mean) else f"{mean:.3f}")
            cells.append("" if math.isnan(mean) else paired_text(mean_pair(arm, arms, measure)))
        yield cells


def interval_text(interval: Interval, form: str = ".3f") -> str:
    """Write a figure and its interval."""
    value, low, high = (format(interval[key], form) for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def rows(arms: Mapping[str, Mapping[str, Record]], num_comparisons: int = 1) -> Iterable[list[str]]:
    """Give the cells of each arm; the second interval holds for so many comparisons at once."""
    base = pretraining_flops(arms[FIRST].values())
    audio = partial(accuracy, modality=MODALITY)
    levels = (0.95, 1 - 0.05 / max(1, num_comparisons))
    for name, arm in arms.items():
        records = list(arm.values())
        saved = 1 - pretraining_flops(records) / base
        found = [one["over_chance"] for one in records if one["over_chance"] is not None]
        least = min(found, default=math.nan)
        yield [
            name, str(len(records)), f"{saved:.0%}",
            mean_text(records, MODALITY),
            *(paired_text(mean_pair(arm, arms, audio, level)) for level in levels),
            f"{least:.1f}" + " (plateau)" * (least < PLATEAU) if found else "",
        ]  # fmt: skip


def pretraining_flops(records: Iterable[Record]) -> float:
    """Average the operations of pre-training; none from scratch."""
    return statistics.mean(one["cost"].get("pretrain", {"flops": 0.0})["flops"] for one in records)


def print_table(config: Path, kept: Path = KEPT) -> None:
    """Print a row an arm, of accuracy and of all else."""
    arms, num_comparisons = group(read_kept(kept)), count_comparisons(config)
    head = ["arm", "seeds", "operations saved", MODALITY, f"{MODALITY} over {FIRST}"]
    head += [f"for {num_comparisons} arms at once", "in the batch, x chance, least of the seeds"]
    print_rows(head, rows(arms, num_comparisons))
    print()
    names = [[name, f"over {FIRST}"] for name in other_measures()]
    print_rows(["arm", *(cell for pair in names for cell in pair)], other_rows(arms))


def print_rows(head: Sequence[str], body: Iterable[Sequence[str]]) -> None:
    """Print a table of Markdown."""
    for cells in (head, ["---"] * len(head), *body):
        print("| " + " | ".join(cells) + " |")


def main() -> None:
    """Add, name what is missing, or print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kept", type=Path, default=KEPT)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("add").add_argument("results", type=Path)
    commands.add_parser("missing").add_argument("config", type=Path)
    commands.add_parser("table").add_argument("config", type=Path)
    options = parser.parse_args()
    if options.command == "add":
        print("\n".join(add(options.results, options.kept)))
    elif options.command == "missing":
        print(" ".join(missing(options.config, options.kept)))
    else:
        print_table(options.config, options.kept)


if __name__ == "__main__":
    main()
