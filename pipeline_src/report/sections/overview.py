"""The top of the page: a summary in sentences and the key figures as cards."""

from collections.abc import Sequence

from pipeline_src.evaluate.records import HEADLINE, MODALITIES, Estimate, EvalMetrics, ProbeMetrics
from pipeline_src.report.blocks import (
    DIRECTION_LABELS,
    MODALITY_LABELS,
    Card,
    bounds_text,
    number_text,
)
from pipeline_src.report.load import SplitIndex

MAX_DATASETS = 2


def best_runs(evaluations: Sequence[EvalMetrics]) -> list[EvalMetrics]:
    """Choose the run with the best audio-video figure (else any modality) of each data set."""
    best: dict[str, EvalMetrics] = {}
    for evaluation in evaluations:
        held = best.get(evaluation.dataset)
        if held is None or _rank(evaluation) > _rank(held):
            best[evaluation.dataset] = evaluation
    return list(best.values())


def _rank(evaluation: EvalMetrics) -> tuple[float, float]:
    values = [headline.value or 0.0 for m in MODALITIES if (headline := evaluation.headline(m))]
    joint = evaluation.headline("audio_video")
    return (joint.value or 0.0 if joint else 0.0, max(values, default=0.0))


def key_cards(evaluations: Sequence[EvalMetrics], probes: Sequence[ProbeMetrics]) -> list[Card]:
    """Show the headlines of the best run of the first data sets, and pre-training's retrieval."""
    cards = []
    for evaluation in best_runs(evaluations)[:MAX_DATASETS]:
        note = f"{evaluation.run}, {evaluation.dataset} {evaluation.split}"
        for modality in reversed(MODALITIES):
            headline = evaluation.headline(modality)
            if headline is not None and headline.value is not None:
                label = f"{MODALITY_LABELS[modality]}, {HEADLINE[evaluation.task]}"
                cards.append(_percent_card(label, headline, note))
    for probe in probes[:1]:
        recall = probe.retrieval.audio_to_video.get("R@10") if probe.retrieval else None
        if probe.retrieval and recall is not None and recall.value is not None:
            chance = probe.retrieval.chance_level("R@10")
            cards.append(
                Card(
                    f"{DIRECTION_LABELS['audio_to_video']} R@10, no labels",
                    f"{recall.value / chance:.1f} \u00d7 chance",
                    bounds_text(recall, scale=1 / chance),
                    f"{100 * recall.value:.1f} % of {probe.retrieval.gallery_size:,}; {probe.run}",
                )
            )
    return cards


def _percent_card(label: str, interval: Estimate, note: str) -> Card:
    value = f"{number_text(interval.value, scale=100)} %"
    return Card(label, value, bounds_text(interval, scale=100), note)


def summary_sentences(
    evaluations: Sequence[EvalMetrics],
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
    best = best_runs(evaluations)[:MAX_DATASETS]
    sentences += [sentence for item in best if (sentence := _best_sentence(item))]
    sentences += [sentence for item in probes[:1] if (sentence := _probe_sentence(item))]
    return sentences


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _best_sentence(evaluation: EvalMetrics) -> str:
    parts = []
    for modality in reversed(MODALITIES):
        headline = evaluation.headline(modality)
        if headline is not None and headline.value is not None:
            bounds = bounds_text(headline, scale=100)
            text = f"{number_text(headline.value, scale=100)} %" + (
                f" ({bounds})" if bounds else ""
            )
            parts.append(f"{text} from {MODALITY_LABELS[modality]}")
    if not parts:
        return ""
    return (
        f"On {evaluation.num_clips:,} of {evaluation.num_clips_in_list:,} {evaluation.split} clips "
        f"of {evaluation.dataset}, {evaluation.run} reaches {HEADLINE[evaluation.task]} "
        f"{', '.join(parts)}."
    )


def _probe_sentence(probe: ProbeMetrics) -> str:
    trained, untrained = (probe.probes.get(key, {}) for key in ("pretrained", "untrained"))
    gains = [
        f"{MODALITY_LABELS[modality]} {label}"
        for modality, scores in trained.items()
        for label, ours in (("linear", scores.linear), ("k-NN", scores.knn))
        if ours is not None and ours.over_untrained and ours.over_untrained.is_gain
    ]
    compared = [scores.linear or scores.knn for scores in trained.values()]
    if not untrained or not any(one and one.over_untrained for one in compared):
        return ""
    if not gains:
        return f"{probe.run}: no probe sets pre-training apart from random weights."
    return (
        f"Before any label, the pre-trained encoder of {probe.run} beats its untrained copy, "
        f"by a paired bootstrap, in: {', '.join(gains)}."
    )
