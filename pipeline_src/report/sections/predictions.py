"""Section of the predictions clip by clip: confusions, classes, and the map of embeddings."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline_src.errors import StageError
from pipeline_src.evaluate.files import EMBEDDINGS_FILE, PREDICTIONS_FILE
from pipeline_src.evaluate.metrics import average_precisions, class_accuracies, confusion_matrix
from pipeline_src.evaluate.records import EvalMetrics
from pipeline_src.modalities import HEADS
from pipeline_src.report.arms import EVAL_RULE
from pipeline_src.report.blocks import (
    HEAD_LABELS,
    MAX_DETAILED,
    Block,
    Chart,
    Charts,
    Collapsible,
    PageSection,
    Text,
    left_out_text,
)
from pipeline_src.report.class_charts import class_chart, confusion_chart
from pipeline_src.report.contact_sheet import contact_sheet
from pipeline_src.report.embedding_map import MapClips, embedding_chart
from pipeline_src.report.load import Arrays, Problems, SplitIndex, read_arrays

MAX_MAPS = 4  # t-SNE takes seconds each, and the page stays small
MAX_CLASS_BARS = 24
LEAD = (
    "Per-class figures say where the averages come from. In the map, both heads of a clip "
    "pass through the same encoder and t-SNE places all embeddings in one plane: plus = audio, "
    "circle = video, colour = class. Clusters of one colour are classes; a colour whose two marks "
    "mix is a class that sound and picture share. Point at a mark to see its clip."
)


def predictions_section(
    evaluations: Sequence[tuple[Path, EvalMetrics]],
    indexes: Sequence[tuple[Path, SplitIndex]],
    tsne_clips: int,
) -> PageSection:
    """Show confusion matrices, per-class figures and the t-SNE map of each evaluation.

    Args:
        indexes: index.json of each split; classes of a data set without one are called by their
            index, and clips of a split without shards have no picture.
    """
    class_names = {index.dataset: index.class_names for _, index in indexes}
    index_paths = {(index.dataset, index.split): path for path, index in indexes}
    section = PageSection("predictions", "Classes and embeddings", LEAD)
    for index, (path, evaluation) in enumerate(evaluations[:MAX_DETAILED]):
        blocks = _prediction_blocks(section.problems, path, evaluation, class_names)
        if "video" not in evaluation.heads:
            pass  # the map shows where the two heads of a clip lie
        elif index < MAX_MAPS:
            chart = section.problems.attempt(
                lambda path=path, evaluation=evaluation: _map_chart(
                    path,
                    evaluation,
                    class_names,
                    tsne_clips,
                    index_paths.get((evaluation.dataset, evaluation.split)),
                )
            )
            blocks += [Charts([chart], is_wide=True)] if chart else []
        else:
            blocks.append(
                Text(f"No t-SNE map: the page draws the first {MAX_MAPS}. The embeddings are kept "
                     "in embeddings.npz.")
            )  # fmt: skip
        is_only = len(evaluations) == 1
        section.blocks += blocks if is_only else [Collapsible(evaluation.name, blocks, index == 0)]
    if len(evaluations) > MAX_DETAILED:
        section.blocks.append(Text(left_out_text(len(evaluations), PREDICTIONS_FILE)))
    return section


def _names(
    class_names: Mapping[str, Sequence[str]], dataset: str, num_classes: int
) -> Sequence[str]:
    names = class_names.get(dataset, [])
    return names if len(names) == num_classes else [str(index) for index in range(num_classes)]


def _prediction_blocks(
    problems: Problems,
    path: Path,
    evaluation: EvalMetrics,
    class_names: Mapping[str, Sequence[str]],
) -> list[Block]:
    heads = [m for m in HEADS if evaluation.scores(m) is not None]
    arrays = problems.attempt(lambda: _read_predictions(path, heads))
    if arrays is None:
        return []
    targets_NC = arrays["targets"]
    names = _names(class_names, evaluation.dataset, targets_NC.shape[1])
    if evaluation.dataset not in class_names:
        problems.add(f"{evaluation.dataset}: no index.json names its classes; indices are shown")
    scores = {head: arrays[head] for head in heads}
    blocks: list[Block] = []
    if evaluation.task == "multiclass":
        matrices = [
            confusion_chart(
                confusion_matrix(scores_NC, targets_NC),
                names,
                title=f"Confusion, {HEAD_LABELS[head]}",
                name=evaluation.name,
            )
            for head, scores_NC in scores.items()
        ]
        blocks.append(Charts(matrices))
    return [*blocks, Charts(_class_charts(scores, targets_NC, names, evaluation))]


def _read_predictions(path: Path, heads: Sequence[str]) -> Arrays:
    """Read clip ids (N,), targets and each head's scores (N, C).

    Raises:
        StageError: they are missing, damaged, or of different shapes.
    """
    predictions_path = path.with_name(PREDICTIONS_FILE)
    arrays = read_arrays(predictions_path, ["clip_ids", "targets", *heads], EVAL_RULE)
    shapes = {name: arrays[name].shape for name in ("targets", *heads)}
    if len(set(shapes.values())) != 1 or arrays["targets"].ndim != 2 or not arrays["targets"].size:
        raise StageError(f"{predictions_path.name}: shapes {shapes}: run {EVAL_RULE} again")
    return arrays


def _class_charts(
    scores: Mapping[str, NDArray],
    targets_NC: NDArray,
    names: Sequence[str],
    evaluation: EvalMetrics,
) -> list[Chart]:
    measures = {"Average precision": average_precisions}
    if evaluation.task == "multiclass":
        measures = {"Accuracy": class_accuracies, **measures}
    charts = []
    for label, measure in measures.items():
        values = {head: measure(matrix, targets_NC) for head, matrix in scores.items()}
        shown = select_classes(list(values.values())[-1])
        left_out = len(names) - len(shown)
        caption = (
            f"The {len(shown) // 2} best and {len(shown) - len(shown) // 2} worst of {len(names)} "
            "classes." if left_out else ""
        )  # fmt: skip
        charts.append(
            class_chart(
                {head: values_C[shown] for head, values_C in values.items()},
                [names[int(index)] for index in shown],
                title=f"{label} by class",
                name=evaluation.name,
                caption=caption,
            )
        )
    return charts


def select_classes(values_C: NDArray) -> NDArray[np.int64]:
    """Choose every class where they fit, else the best and the worst with a value; indices (S,)."""
    if len(values_C) <= MAX_CLASS_BARS:
        return np.arange(len(values_C))
    ranked = np.argsort(-values_C, kind="stable")
    ranked = ranked[~np.isnan(values_C[ranked])]
    if len(ranked) <= MAX_CLASS_BARS:
        return ranked
    half = MAX_CLASS_BARS // 2
    return np.concatenate([ranked[:half], ranked[-half:]])


def _encoder_text(evaluation: EvalMetrics) -> str:
    """Name the encoder of embeddings.npz: that of the retrieval figures."""
    checkpoint = evaluation.retrieval.checkpoint if evaluation.retrieval else ""
    return f" after {checkpoint}" if checkpoint else ""


def _map_chart(
    path: Path,
    evaluation: EvalMetrics,
    class_names: Mapping[str, Sequence[str]],
    tsne_clips: int,
    index_path: Path | None,
) -> Chart:
    arrays = read_arrays(
        path.with_name(EMBEDDINGS_FILE), ["clip_ids", "targets", "audio", "video"], EVAL_RULE
    )
    targets_NC = arrays["targets"]
    try:
        return embedding_chart(
            MapClips(
                arrays["audio"], arrays["video"], targets_NC.argmax(axis=1), arrays["clip_ids"]
            ),
            _names(class_names, evaluation.dataset, targets_NC.shape[1]),
            num_clips=tsne_clips,
            title=f"Audio and video embeddings{_encoder_text(evaluation)}, t-SNE",
            name=evaluation.name,
            draw_sheet=lambda clip_ids: contact_sheet(index_path, clip_ids),
        )
    except ValueError as error:
        raise StageError(f"{evaluation.name}: no t-SNE map: {error}") from error
