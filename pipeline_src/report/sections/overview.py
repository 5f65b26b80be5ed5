"""The top of the page: where it comes from, a summary in sentences, the key figures, all runs."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pipeline_src.evaluate.records import HEADLINE, Estimate, EvalMetrics, ProbeMetrics, Scored
from pipeline_src.modalities import HEADS, Head
from pipeline_src.report.arms import Arm, ArmFigures, metric_label
from pipeline_src.report.blocks import (
    DIRECTION_LABELS,
    HEAD_LABELS,
    MISSING,
    Card,
    CardGroup,
    Cell,
    Overview,
    Table,
    bounds_text,
    interval_cell,
    number_text,
)
from pipeline_src.report.load import Problems, SplitIndex
from pipeline_src.report.sections.progress import own_rows

MAX_DATASETS = 2
MAX_COMMITS = 3


class Choice(NamedTuple):
    """The arm that a data set's cards show, its test figures, and why it is this one."""

    arm: Arm
    figures: Mapping[Head, Estimate]
    sentence: str
    note: str


def make_overview(
    problems: Problems,
    arms: Mapping[str, Sequence[Arm]],
    figures: ArmFigures,
    probes: Sequence[ProbeMetrics],
    indexes: Sequence[SplitIndex],
    date: str,
) -> Overview:
    """Put the top of the page together; runs are chosen by validation scores, never by test."""
    scores = {
        dataset: {arm.name: validation_scores(arm) for arm in found}
        for dataset, found in arms.items()
    }
    choices = [
        choose(problems, arms[dataset], figures, scores[dataset])
        for dataset in list(arms)[:MAX_DATASETS]
    ]
    evaluations = [run.evaluation for found in arms.values() for arm in found for run in arm.runs]
    shown = [one.arm for one in choices]
    chosen_runs = {run.evaluation.run for arm in shown for run in arm.runs}
    # Of pre-trainings, too, that of the run which is shown comes first.
    probes = sorted(probes, key=lambda one: one.run not in chosen_runs)
    return Overview(
        origin=_origin([*evaluations, *probes], indexes, date),
        summary=_summary(evaluations, choices, probes, indexes),
        card_groups=_card_groups(choices, probes[:1]),
        grids=[
            _grid(problems, found, figures, scores[dataset], shown)
            for dataset, found in arms.items()
            if len(found) > 1
        ],
    )


def _card_groups(choices: Sequence[Choice], probes: Sequence[ProbeMetrics]) -> list[CardGroup]:
    """Put the cards of each choice together, and those of a pre-training behind the last."""
    groups = [CardGroup(one.sentence, _figure_cards(one)) for one in choices]
    cards = [card for probe in probes for card in _probe_cards(probe)]
    if not groups:
        return [CardGroup("", cards)] if cards else []
    return [*groups[:-1], groups[-1]._replace(cards=[*groups[-1].cards, *cards])]


def validation_scores(arm: Arm) -> dict[str, float]:
    """Return the last validation score of each input, a mean over seeds; {} where one has none."""
    last: list[dict[str, float]] = []
    for run in arm.runs:
        # The section on training says what cannot be read.
        rows = own_rows(Problems(), run, "finetune")
        scored = [row["val"] for row in rows if isinstance(row.get("val"), dict)]
        last.append(scored[-1] if scored else {})
    shared = [key for key in last[0] if all(key in scores for scores in last)]
    return {key: sum(scores[key] for scores in last) / len(last) for key in shared}


def choose(
    problems: Problems,
    arms: Sequence[Arm],
    figures: ArmFigures,
    scores: Mapping[str, Mapping[str, float]],
) -> Choice:
    """Choose the arm with the best validation score, of both inputs where they have that."""
    scored = [arm for arm in arms if scores[arm.name]]
    ranked = sorted(scored, key=lambda arm: _rank(scores[arm.name]), reverse=True)
    arm = (ranked or arms)[0]
    evaluation = arm.first.evaluation
    seeds = f", mean of {len(arm.runs)} seeds" if len(arm.runs) > 1 else ""
    noun = "recipes" if any(len(one.runs) > 1 for one in arms) else "runs"
    others = f"{len(arms)} {noun} on {evaluation.dataset}"
    if len(arms) == 1:
        why, note = f"the only one on {evaluation.dataset}", ""
    elif ranked:
        value = number_text(_rank(scores[arm.name])[1], scale=100)
        few = f"{len(scored)} of " if len(scored) < len(arms) else ""
        why = f"chosen from {few}{others} by its score on validation clips, {value} %"
        note = ", chosen on validation"
    else:
        why, note = f"the first of {others}, none with validation scores", ", the first listed"
    sentence = f"{arm.name}{seeds}, {why}; figures of the {evaluation.split} split."
    known: dict[Head, Estimate] = {}
    for head in HEADS:
        found = figures.headline(problems, arm, head)
        if found is not None and found.value is not None:
            known[head] = found
    return Choice(arm, known, sentence, f"{arm.name}{note}")


def _rank(scores: Mapping[str, float]) -> tuple[bool, float]:
    """Order runs that score both inputs together before others, and by their score."""
    is_joint = "audio_video" in scores
    return is_joint, scores["audio_video"] if is_joint else max(scores.values())


def _figure_cards(choice: Choice) -> list[Card]:
    task = choice.arm.first.evaluation.task
    return [
        Card(
            f"{HEAD_LABELS[head]}, {HEADLINE[task]}",
            f"{number_text(choice.figures[head].value, scale=100)} %",
            bounds_text(choice.figures[head], scale=100),
            choice.note,
        )
        for head in reversed(HEADS)
        if head in choice.figures
    ]


def _probe_cards(probe: ProbeMetrics) -> list[Card]:
    recall = probe.retrieval.audio_to_video.get("R@10") if probe.retrieval else None
    if not probe.retrieval or recall is None or recall.value is None:
        return []
    chance = probe.retrieval.chance_level("R@10")
    return [
        Card(
            f"{DIRECTION_LABELS['audio_to_video']} R@10, no labels",
            f"{recall.value / chance:.1f} \u00d7 chance",
            bounds_text(recall, scale=1 / chance),
            f"{100 * recall.value:.1f} % of {probe.retrieval.gallery_size:,}; {probe.run}",
        )
    ]


def _grid(
    problems: Problems,
    arms: Sequence[Arm],
    figures: ArmFigures,
    scores: Mapping[str, Mapping[str, float]],
    shown: Sequence[Arm],
) -> Table:
    """Write a row a run and a column an input, beside the score that chooses."""
    first = arms[0].first.evaluation
    metric = metric_label(first)
    titles = ["Run", "Validation, %"]
    titles += [f"{metric}, %, {HEAD_LABELS[m]}" for m in HEADS]
    rows = []
    for arm in arms:
        found = scores[arm.name]
        seeds = f"{len(arm.runs)} seeds" if len(arm.runs) > 1 else ""
        notes = [*([seeds] if seeds else []), *(["shown above"] if arm in shown else [])]
        value = _rank(found)[1] if found else None
        rows.append([
            Cell(arm.name, sub=", ".join(notes)),
            Cell(number_text(value, scale=100), is_number=True, tone="" if found else "muted"),
            *(interval_cell(figures.headline(problems, arm, m), scale=100) for m in HEADS),
        ])  # fmt: skip
    return Table(f"All runs on {first.dataset}, {first.split} split", titles, rows)


def _origin(
    scored: Sequence[Scored], indexes: Sequence[SplitIndex], date: str
) -> list[tuple[str, str]]:
    commits = list(dict.fromkeys(item.git_commit for item in scored if item.git_commit))
    named = [
        f"{commit.removesuffix('-dirty')[:10]}{' with local changes' * commit.endswith('-dirty')}"
        for commit in commits[:MAX_COMMITS]
    ]
    rest = [f"{len(commits) - MAX_COMMITS} more"] if len(commits) > MAX_COMMITS else []
    datasets = dict.fromkeys([item.dataset for item in [*scored, *indexes]])
    return [
        ("Made", date),
        ("Commit", ", ".join([*named, *rest]) or MISSING),
        ("Data", ", ".join(datasets) or MISSING),
        ("Runs", f"{len({item.run for item in scored}):,}"),
    ]


def _summary(
    evaluations: Sequence[EvalMetrics],
    choices: Sequence[Choice],
    probes: Sequence[ProbeMetrics],
    indexes: Sequence[SplitIndex],
) -> list[str]:
    """Say what was done and what came out, for a reader who stops here."""
    runs = dict.fromkeys([item.run for item in evaluations] + [item.run for item in probes])
    datasets = dict.fromkeys(
        [item.dataset for item in evaluations] + [item.dataset for item in indexes]
    )
    counts = f"{_count(len(runs), 'run')} on {_count(len(datasets), 'data set')}"
    sentences = [f"{counts}: {', '.join(datasets) or 'none'}."]
    if indexes:
        packed = sum(index.num_clips for index in indexes)
        listed = sum(index.num_clips_in_list for index in indexes)
        sentences.append(f"{packed:,} of {listed:,} listed clips were decoded and packed.")
    sentences += [sentence for one in choices if (sentence := _choice_sentence(one))]
    sentences += [sentence for item in probes[:1] if (sentence := _probe_sentence(item))]
    return sentences


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _choice_sentence(choice: Choice) -> str:
    parts = []
    for head in reversed(HEADS):
        if figure := choice.figures.get(head):
            bounds = bounds_text(figure, scale=100)
            text = f"{number_text(figure.value, scale=100)} %" + (f" ({bounds})" if bounds else "")
            parts.append(f"{text} from {HEAD_LABELS[head]}")
    if not parts:
        return ""
    evaluation = choice.arm.first.evaluation
    return (
        f"On {evaluation.num_clips:,} of {evaluation.num_clips_in_list:,} {evaluation.split} clips "
        f"of {evaluation.dataset}, {choice.arm.name} reaches {HEADLINE[evaluation.task]} "
        f"{', '.join(parts)}."
    )


def _probe_sentence(probe: ProbeMetrics) -> str:
    trained, untrained = (probe.probes.get(key, {}) for key in ("pretrained", "untrained"))
    gains = [
        f"{HEAD_LABELS[head]} {label}"
        for head, scores in trained.items()
        for label, ours in (("linear", scores.linear), ("k-NN", scores.knn))
        if ours is not None and ours.over_untrained and ours.over_untrained.is_gain
    ]
    compared = [scores.linear or scores.knn for scores in trained.values()]
    if not untrained or not any(one and one.over_untrained for one in compared):
        return ""
    if not gains:
        return f"{probe.run}: no probe sets pre-training apart from its start."
    return (
        f"Before any label, the pre-trained encoder of {probe.run} beats the one before any "
        f"step, by a paired bootstrap, in: {', '.join(gains)}."
    )
