"""A trained network with all that it needs to look at files.

Shape legend: N parts (files, or windows of them), D embedding width, C classes, T log-mel frames,
M mel bins, F frames, H W image side.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from numbers import Integral
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline_src.errors import CheckpointError, ConfigError, MediaError
from pipeline_src.evaluate.common import pick_device
from pipeline_src.evaluate.predict import head_probabilities
from pipeline_src.inference.decode import DecodedInput, InputWindow
from pipeline_src.inference.inputs import list_items
from pipeline_src.inference.locate import locate
from pipeline_src.inference.results import Classification, Embedding, SourceSpan
from pipeline_src.inference.stream import Options, decoded_parts
from pipeline_src.loader.batches import Batch, to_device
from pipeline_src.loader.clip_format import ClipFormat
from pipeline_src.loader.dataset import as_tensors
from pipeline_src.modalities import INPUTS, MODALITIES
from pipeline_src.runs.build import evaluation_format, restore_model
from pipeline_src.runs.checkpoint import MODEL_FILE, Checkpoint
from pipeline_src.runs.preparation import read_preparation

logger = logging.getLogger(__name__)
MS_PER_SECOND = 1000

NetworkStep = Callable[[Batch], dict[str, Tensor]]
Check = Callable[[DecodedInput | MediaError], DecodedInput | MediaError]
Result = TypeVar("Result")
Seen = tuple[InputWindow, DecodedInput | MediaError]
Made = tuple[SourceSpan, dict[str, NDArray]]


def load(folder: str | Path, *, device: str = "", num_frames: int = 0) -> "Model":
    """Open a checkpoint for use.

    Args:
        folder: of a training (``results/<run>/finetune/<dataset>``), of a checkpoint, or what
            ``av-pipeline export`` wrote.
        device: e.g. "cuda:1" or "cpu"; empty = the GPU where there is one.
        num_frames: frames that are looked at per clip; 0 = as many as were stored of each in
            training, or one window of a network that was trained on windows.
    Raises:
        CheckpointError: there is none, it is damaged, or does not say how its media were prepared.
    """
    return Model(locate(Path(folder)), device=device, num_frames=num_frames)


class Model:
    """A checkpoint in use; ``load`` opens one.

    ``embed``, ``classify`` and ``similarity`` take one input or several: paths, folders, URLs,
    bytes, arrays (``inputs.py``). Further arguments are those of ``Options``.
    """

    def __init__(self, checkpoint: Checkpoint, *, device: str = "", num_frames: int = 0) -> None:
        state = checkpoint.state
        self.folder = checkpoint.folder
        self.preparation = read_preparation(state, checkpoint.folder)
        self.network, self.spec = restore_model(checkpoint)
        self.device = _usable_device(device) if device else pick_device()
        self.network.to(self.device).eval()
        self.name = self.spec.model.name
        self.sha256: str = state["sha256"][MODEL_FILE]
        self.modalities: tuple[str, ...] = tuple(state.get("modalities", MODALITIES))
        self.class_names: tuple[str, ...] = tuple(state["class_names"])
        self.task: str = state["task"]
        self.heads = self._trained_heads()
        self.num_frames = num_frames or self._usual_frames()
        self.format = self._format(checkpoint)

    def _trained_heads(self) -> tuple[str, ...]:
        if not self.class_names:
            return ()
        return self.spec.recipe.scored_heads(self.modalities, self.network.config.heads)

    def _usual_frames(self) -> int:
        recipe, media = self.spec.recipe, self.preparation.media
        return recipe.num_frames if recipe.fps else max(media.num_frames, recipe.num_frames)

    def _format(self, checkpoint: Checkpoint) -> ClipFormat:
        recipe = self.spec.recipe
        is_whole = isinstance(self.num_frames, Integral) and not isinstance(self.num_frames, bool)
        if not is_whole or self.num_frames < recipe.num_frames:
            raise ConfigError(
                f"num_frames = {self.num_frames!r}, but the network of {self.folder} takes "
                f"{recipe.num_frames} at a time; allowed: whole numbers, at least as many"
            )
        return evaluation_format(checkpoint, num_frames=self.num_frames)

    @property
    def clip_seconds(self) -> float:
        """How long a sound the network hears; of a longer one it hears the beginning."""
        segments = self.format.segments
        heard = segments.clip_length if segments else self.format.target_length
        return heard * self.preparation.audio.hop_length_ms / MS_PER_SECOND

    def embed(self, inputs: Any, **options: Any) -> list[Embedding]:
        """Embed every input, or every window of it; a refused one has a reason."""
        return list(self.embeddings(inputs, **options))

    def embeddings(self, inputs: Any, **options: Any) -> Iterator[Embedding]:
        """Return the same one after the other, for more than fits into memory."""
        for span, found in self._run(inputs, self._embed_batch, options):
            yield _embedding(span, found)

    def embed_decoded(self, parts: Sequence[Seen]) -> list[Embedding]:
        """Embed parts that are decoded already, in one batch for each kind of input."""
        return [_embedding(*made) for made in self._run_group(parts, self._embed_batch)]

    def classify(self, inputs: Any, **options: Any) -> list[Classification]:
        """Score every input, or every window of it, with the head for what it has.

        Raises:
            CheckpointError: the checkpoint has no classes.
        """
        return list(self.classifications(inputs, **options))

    def classifications(self, inputs: Any, **options: Any) -> Iterator[Classification]:
        """Return the same one after the other, for more than fits into memory.

        Raises:
            CheckpointError: the checkpoint has no classes.
            ConfigError: no trained head takes the wanted modalities.
        """
        if not self.heads:
            raise CheckpointError(
                f"{self.folder}: holds a pre-training, which knows no classes; name a fine-tuning"
            )
        wanted = options.setdefault("modalities", self._scored_modalities())
        if not any(INPUTS[head] <= set(wanted) for head in self.heads):
            listed = ", ".join(self.heads)
            raise ConfigError(f"modalities = {tuple(wanted)}, but {self.folder} scores {listed}")
        for span, found in self._run(inputs, self._score_batch, options, self._check_scored):
            head = next(iter(found), "")
            yield Classification(span, self.class_names, head, found.get(head))

    def _scored_modalities(self) -> tuple[str, ...]:
        """Return what some trained head takes; a head of one alone sees nothing of the other."""
        return tuple(one for one in MODALITIES if any(one in INPUTS[head] for head in self.heads))

    def _check_scored(self, seen: DecodedInput | MediaError) -> DecodedInput | MediaError:
        """Refuse a part that lacks what every trained head takes."""
        if isinstance(seen, MediaError):
            return seen
        given = {"audio": seen.logmel_TM, "video": seen.frames_FHW3}
        has = {name for name, values in given.items() if values is not None}
        lacking = min((INPUTS[head] - has for head in self.heads), key=len)
        if not lacking:
            return seen
        missing = min(lacking)
        return MediaError(f"no_{missing}", f"{missing} is needed to score {', '.join(self.heads)}")

    def batches(self, inputs: Any, **options: Any) -> Iterator[tuple[list[SourceSpan], Batch]]:
        """Yield what ``network`` is shown of inputs, for heads, losses and gradients of one's own.

        Yields:
            Spans of N parts that have the same modalities, and "logmel" (N, T, M), of a network
            that sees segments (N, G, T, M), "frames" (N, F, 3, H, W), or both: normalised, on
            the network's device. Refused parts come last of their group, with an empty batch.
        """
        for group in self._groups(inputs, options, lambda seen: seen):
            for places in _by_kind(group):
                parts = [group[place] for place in places]
                spans = [_span(part, seen) for part, seen in parts]
                yield spans, self._batch([seen for _, seen in parts])
            refused = [_span(*one) for one in group if isinstance(one[1], MediaError)]
            if refused:
                yield refused, {}

    def similarity(self, sounds: Any, pictures: Any, **options: Any) -> NDArray:
        """Compute the cosine similarity of sounds and pictures: (sounds, pictures), fp32.

        Each input is one clip, of which the network hears as much as it hears in training, unless
        ``window_seconds`` is given: then there is a row or column for each window, in order. One
        that is longer than a clip may be needs it.
        A row or column of NaN is an input that was refused, which a warning says. Checkpoints of
        pre-trainings are made for it; fine-tuning moves sound and picture apart.

        Args:
            sounds, pictures: inputs, or what ``embed`` gave for them.
        """
        options = {"window_seconds": None, **options}
        heard = self._compared(sounds, "audio", options)
        seen = self._compared(pictures, "video", options)
        if heard.shape[1] != seen.shape[1]:  # of one side nothing could be used
            return np.full((len(heard), len(seen)), np.nan, np.float32)
        return heard @ seen.T

    def _compared(self, inputs: Any, modality: str, options: dict[str, Any]) -> NDArray:
        """Return vectors (N, D) of length 1; NaN where an input has none."""
        is_made = isinstance(inputs, (list, tuple)) and inputs
        if not (is_made and all(isinstance(one, Embedding) for one in inputs)):
            inputs = self.embed(inputs, **{**options, "modalities": (modality,)})
        vectors = [one.compared(modality) for one in inputs]
        for one, vector in zip(inputs, vectors, strict=True):
            if vector is None:
                why = f"{one.span.reason}: {one.span.detail}" if one.span.reason else "not in it"
                if "media.max_seconds" in why and options.get("window_seconds") is None:
                    why += '; window_seconds="auto" compares windows of it'
                logger.warning("%s: no %s to compare (%s)", one.span.source, modality, why)
        width = next((len(vector) for vector in vectors if vector is not None), 1)
        missing = np.full(width, np.nan, np.float32)
        rows = [missing if vector is None else vector for vector in vectors]
        return np.stack(rows) if rows else np.empty((0, width), np.float32)

    def _run(
        self,
        inputs: Any,
        step: NetworkStep,
        given: dict[str, Any],
        check: Check = lambda seen: seen,
    ) -> Iterator[Made]:
        """Yield each part with what ``step`` makes of it, arrays without the axis N, in order.

        Args:
            check: of what is decoded, which it may refuse.
        """
        for group in self._groups(inputs, given, check):
            yield from self._run_group(group, step)

    def _groups(self, inputs: Any, given: dict[str, Any], check: Check) -> Iterator[list[Seen]]:
        """Yield parts and what is seen of them, ``batch_size`` at a time."""
        options = self._options(given)
        parts = decoded_parts(
            list_items(inputs), options, self.preparation, self.format, self.clip_seconds
        )
        with closing(parts) as decoded:
            while group := list(islice(decoded, options.batch_size)):
                yield [(part, check(seen)) for part, seen in group]

    def _options(self, given: dict[str, Any]) -> Options:
        try:
            options = Options(**{"modalities": self.modalities, **given})
        except TypeError as error:
            known = ", ".join(Options.__dataclass_fields__)
            raise ConfigError(f"{error}; allowed: {known}") from None
        if foreign := set(options.modalities) - set(self.modalities):
            raise ConfigError(
                f"modalities = {tuple(options.modalities)}, but {self.folder} was trained "
                f"on {' and '.join(self.modalities)} alone, not {min(foreign)}"
            )
        return options

    def _run_group(self, group: Sequence[Seen], step: NetworkStep) -> Iterator[Made]:
        """Run the network once for each kind of input in a group.

        Yields the parts in the group's order, their arrays without the axis N.
        """
        made: dict[int, dict[str, NDArray]] = {}
        for places in _by_kind(group):
            outputs = self._step([group[place][1] for place in places], step)
            for row, place in enumerate(places):
                made[place] = {name: value[row] for name, value in outputs.items()}
        for place, (part, seen) in enumerate(group):
            yield _span(part, seen), made.get(place, {})

    @torch.no_grad()
    def _step(self, seen: Sequence[Any], step: NetworkStep) -> dict[str, NDArray]:
        """Return what ``step`` makes of parts that have the same modalities: (N, ...) each."""
        outputs = step(self._batch(seen))
        return {name: value.float().cpu().numpy() for name, value in outputs.items()}

    def _batch(self, seen: Sequence[Any]) -> Batch:
        """Return parts that have the same modalities as the network takes them."""
        arrays: dict[str, NDArray] = {}
        if seen[0].logmel_TM is not None:
            arrays["logmel"] = np.stack([one.logmel_TM for one in seen])
        if seen[0].frames_FHW3 is not None:
            arrays["frames"] = np.stack([one.frames_FHW3 for one in seen])
        batch = to_device(as_tensors(arrays), self.device, self.format)
        dtype = next(self.network.parameters()).dtype
        return {name: value.to(dtype) for name, value in batch.items()}

    def _embed_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Pool audio and video (N, D) as evaluation does, and make what is compared of them."""
        pooled = self.network.embed(audio=batch.get("logmel"), video=batch.get("frames"))
        compared = self.network.project_for_contrast(pooled)
        return pooled | {f"{name}{COMPARED}": value for name, value in compared.items()}

    def _score_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Return the scores (N, C) of the head that takes most of what the parts have."""
        has = {name for name, key in (("audio", "logmel"), ("video", "frames")) if key in batch}
        possible = [head for head in self.heads if INPUTS[head] <= has]
        head = max(possible, key=lambda name: len(INPUTS[name]))
        scores = head_probabilities(self.network, batch, task=self.task, heads=(head,))
        return {head: scores[head]}


COMPARED = "_compared"


def _usable_device(name: str) -> torch.device:
    """Return a device that this machine has.

    Raises:
        ConfigError: it has no such device.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # both are torch's ways to say so
        why = str(error).partition("\n")[0]
        raise ConfigError(f"device = {name}: {why}; allowed: cpu, or a GPU that is here") from None
    return device


def _embedding(span: SourceSpan, found: dict[str, NDArray]) -> Embedding:
    compared = {name: found[name + COMPARED] for name in MODALITIES if name + COMPARED in found}
    return Embedding(span, found.get("audio"), found.get("video"), compared or None)


def _by_kind(group: Sequence[Seen]) -> list[list[int]]:
    """List the places of parts that have the same modalities; refused ones are in none."""
    kinds: dict[tuple[bool, bool], list[int]] = {}
    for place, (_, seen) in enumerate(group):
        if isinstance(seen, DecodedInput):
            kind = (seen.logmel_TM is not None, seen.frames_FHW3 is not None)
            kinds.setdefault(kind, []).append(place)
    return list(kinds.values())


def _span(part: InputWindow, seen: DecodedInput | MediaError) -> SourceSpan:
    opened = part.opened
    where = (opened.number, opened.name, part.window, len(opened.windows))
    if isinstance(seen, MediaError):
        return SourceSpan(
            *where, *(opened.windows[part.window] or (0.0, 0.0)), (), seen.reason, seen.detail
        )
    return SourceSpan(*where, seen.start_seconds, seen.end_seconds, seen.flags)
