"""Is a run possible with its data sets and files? One function for each question; no torch.

Asked when the workflow is planned, not hours later by the training. What the settings alone answer
is asked in ``config.possible``.
"""

import importlib.util
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pipeline_src.config import MediaConfig, RunConfig
from pipeline_src.config.heads import possible_shares
from pipeline_src.config.networks import network_config_of
from pipeline_src.config.training import FinetuneConfig, ModelConfig, PretrainConfig, num_labelled
from pipeline_src.errors import CheckpointError, ConfigError, did_you_mean
from pipeline_src.methods import NetworkConfig, find_method
from pipeline_src.runs.records import missing_file
from pipeline_src.runs.spec import (
    DONE_FILE,
    SPEC_FILE,
    STATE_FILE,
    parse_spec,
    saved_states,
    superseded_folders,
)

INITS = ("random", "timm")  # of model.init, else a file
LENGTH_KEYS = ("target_length", "img_size")


class Network(NamedTuple):
    """A run's or a checkpoint's network: its section ``model``, and its constructor arguments."""

    model: ModelConfig
    config: NetworkConfig

    @classmethod
    def of(cls, model: ModelConfig, *, num_frames: int, num_mel_bins: int) -> "Network":
        """Work out the sizes of a network for these inputs."""
        return cls(
            model, network_config_of(model, num_frames=num_frames, num_mel_bins=num_mel_bins)
        )


def refuse_sound_alone(run: str, name: str, *, has_video: bool) -> None:
    """Refuse a data set without video for a pre-training: every objective compares both.

    Raises:
        ConfigError: names run and data set.
    """
    if not has_video:
        raise ConfigError(
            f"run {run}: data set {name} has sound alone (modalities: [audio]), and "
            "pre-training needs sound and video; name others in pretrain.datasets"
        )


def refuse_untrainable(
    run: str, name: str, shares: Sequence[float], modalities: Collection[str]
) -> None:
    """Refuse a data set whose clips can train none of the heads of a run.

    Args:
        shares: ``finetune.modality_probs``.

    Raises:
        ConfigError: names run, data set and shares.
    """
    try:
        possible_shares(shares, modalities)
    except ValueError as error:
        raise ConfigError(f"run {run}, data set {name}: finetune.{error}") from None


def refuse_one_class(run: str, name: str, num_classes: int) -> None:
    """Refuse a data set of one class for a fine-tuning.

    Args:
        num_classes: 0 = unknown as yet.

    Raises:
        ConfigError: names run and data set.
    """
    if num_classes == 1:
        raise ConfigError(
            f"run {run}: data set {name} has one class and fine-tuning needs two; set "
            "finetune.skip: true, or name others in finetune.datasets"
        )


def refuse_large_batch(
    run: str,
    stage: str,
    recipe: PretrainConfig | FinetuneConfig,
    counts: Mapping[str, Sequence[Counter[int] | None]],
    num_ranks: int,
) -> None:
    """Refuse a batch that the listed clips cannot fill: clips would stand in it twice.

    Args:
        stage: pretrain or finetune.
        counts: data set -> clips per class of each split that is learnt from; None where nobody
            knows yet.

    Raises:
        ConfigError: names the key and both numbers.
    """
    per_class = Counter[int]()
    for count in chain(*counts.values()):
        if count is None:
            return
        per_class += count
    share = recipe.label_fraction if isinstance(recipe, FinetuneConfig) else 1.0
    num_clips = sum(num_labelled(share, count) for count in per_class.values())
    if recipe.batch_size > num_clips:
        ranks = f" over {num_ranks} ranks" if num_ranks > 1 else ""
        of = f", with label_fraction = {share:g}" if share < 1 else ""
        smaller = f"set {stage}.batch_size to {num_clips} or less"
        raise ConfigError(
            f"run {run}: {stage}.batch_size = {recipe.batch_size}{ranks}, but "
            f"{', '.join(counts)} lists {num_clips} clips to train on{of}; "
            f"{smaller if num_clips else 'list more clips'}"
        )


def refuse_other_split(run: str, name: str, split: str, held_out: str) -> None:
    """Refuse to score a run on validation clips where a fold is held out: folds have none.

    Raises:
        ConfigError: names run, data set and split.
    """
    if held_out and split != "test":
        raise ConfigError(
            f"run {run}, data set {name}: evaluate.split is {split}, but the clips of a "
            "held-out fold are test clips; set it to test"
        )


def refuse_repeated_frames(run: str, name: str, recipe: RunConfig, media: MediaConfig) -> None:
    """Refuse to score a run on more frames than a clip has: some would be shown twice.

    Asked of an evaluation alone: shards of fewer frames are good for all else.

    Args:
        media: how the clips of data set ``name`` are decoded.
    Raises:
        ConfigError: names run, data set, keys and values.
    """
    shown = recipe.evaluate.num_frames
    if not recipe.finetune.fps and 0 < media.num_frames < shown:
        raise ConfigError(
            f"run {run}, data set {name}: evaluate.num_frames = {shown}, but a clip has "
            f"media.num_frames = {media.num_frames}; store that many or lower it"
        )


def refuse_unscored(run: str, name: str, *, has_folds: bool) -> None:
    """Refuse a data set that a run names to be scored on and cannot be.

    Raises:
        ConfigError: names run and data set.
    """
    raise ConfigError(
        f"run {run}: a pre-training cannot be scored on {name}, which has "
        + ("folds" if has_folds else "sound alone and no probes")
        + "; take it out of evaluate.datasets"
    )


def refuse_missing_loggers(loggers: Iterable[str]) -> None:
    """Refuse ``submit.loggers`` whose packages, of the same names, are not installed.

    Raises:
        ConfigError: the sentence that installs the first of them.
    """
    for name in loggers:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:  # the latter: a folder of that name
            raise ConfigError(
                f"submit.loggers: {name} is not installed; pip install 'av-pipeline[{name}]', or "
                "take it out of the list"
            )


def has_begun(done: str, model: ModelConfig, recipe: PretrainConfig | FinetuneConfig) -> bool:
    """Return whether a training of these settings has ended or can go on: its start is behind it.

    True also of a finished one that does not say its settings, or those of another version.

    Args:
        done: the training's done.json, which need not be there.
    """
    run_dir = Path(done).parent
    if Path(done).is_file() and _is_spec_of(_recorded_spec(run_dir), model, recipe) is not False:
        return True
    places = [run_dir, *superseded_folders(run_dir)]
    recorded = [
        state.get("spec")
        for place in places
        for folder, state in saved_states(place)
        if state["sha256"] and missing_file(folder, state["sha256"]) is None  # else none goes on
    ]
    return any(_is_spec_of(values, model, recipe) for values in recorded)


def _recorded_spec(run_dir: Path) -> Any:
    with suppress(OSError, ValueError, RecursionError):
        return json.loads((run_dir / SPEC_FILE).read_text(encoding="utf-8"))
    return None


def _is_spec_of(
    values: Any, model: ModelConfig, recipe: PretrainConfig | FinetuneConfig
) -> bool | None:
    """Return whether a record is of these settings; None where it does not say, or another way."""
    try:
        spec = parse_spec(values, SPEC_FILE, "")
    except CheckpointError:
        return None
    settings = ((spec.model, model), (spec.recipe, recipe))
    return all(then.recipe_values() == now.recipe_values() for then, now in settings)


def refuse_long_warmup(run: str, stage: str, recipe: PretrainConfig | FinetuneConfig) -> None:
    """Refuse a training that ends before its learning rate has come up.

    Raises:
        ConfigError: names run, keys and values.
    """
    if recipe.warmup_epochs > max(recipe.epochs, 2.0):  # the default of either key is at most 2
        raise ConfigError(
            f"run {run}: {stage}.warmup_epochs = {recipe.warmup_epochs:g} of {stage}.epochs = "
            f"{recipe.epochs:g}: the learning rate would never be {stage}.lr; lower it"
        )


def refuse_missing_init(run: str, init: str) -> None:
    """Refuse ``model.init`` that names a file which is not there.

    Raises:
        ConfigError: names run and path.
    """
    if init not in INITS and not Path(init).is_file():
        raise ConfigError(
            f"run {run}: model.init: {init!r} is no file{did_you_mean(init, INITS)}; allowed: "
            f"{', '.join(INITS)}, or the path of a timm state dict"
        )


def refuse_other_stage(run: str, key: str, done: str, *, holds: str, advice: str) -> None:
    """Refuse a converted checkpoint of a stage that a key cannot use.

    Args:
        holds: that stage. advice: what the key may name instead.
    Raises:
        ConfigError: names run, key and checkpoint.
    """
    if _converted_state(done)["spec"].get("stage") == holds:
        what = "pre-training" if holds == "pretrain" else "fine-tuning"
        raise ConfigError(f"run {run}: {key}: {Path(done).parent} holds a {what}; {advice}")


def converted_done(run: str, stage: str, folder: str) -> str:
    """Return done.json of a converted checkpoint.

    Raises:
        ConfigError: there is none, or a pre-training is to stand for a fine-tuning.
    """
    path = Path(folder) / DONE_FILE
    if not path.is_file():
        raise ConfigError(
            f"run {run}: {stage}.checkpoint: {path} does not exist; write the folder with "
            "av-pipeline convert"
        )
    if stage == "finetune":  # a pre-training has no heads to score
        advice = "name a fine-tuning, or set pretrain.checkpoint to fine-tune it"
        key = "finetune.checkpoint"
        refuse_other_stage(run, key, str(path), holds="pretrain", advice=advice)
    return str(path)


def converted_network(done: str) -> Network:
    """Read the network of a converted checkpoint from the state.json that its done.json names.

    Raises:
        ConfigError: one of the files is not what the converter writes.
    """
    with _converter_blamed(done):
        state = _converted_state(done)
        model = ModelConfig.model_validate(state["spec"]["model"])
        num_frames = state["spec"]["recipe"]["num_frames"]
        return Network.of(model, num_frames=num_frames, num_mel_bins=state["num_mel_bins"])


def _converted_state(done: str) -> dict[str, Any]:
    with _converter_blamed(done):
        read = json.loads(Path(done).read_text(encoding="utf-8"))
        path = Path(done).parent / read["checkpoint"] / STATE_FILE
        state = json.loads(path.read_text(encoding="utf-8"))
        _ = state["spec"]["recipe"]
        return state


@contextmanager
def _converter_blamed(done: str) -> Iterator[None]:
    """Say of a file that is not what the converter writes that it is none.

    Raises:
        ConfigError: names the checkpoint.
    """
    try:
        yield
    except ConfigError:
        raise
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ConfigError(
            f"{done}: no readable checkpoint beside it ({type(error).__name__}: "
            f"{str(error)[:200]}); write the folder again with av-pipeline convert"
        ) from None


def refuse_other_network(
    run: str, own: Network, start: Network, *, whose: str, stage: Literal["pretrain", "finetune"]
) -> None:
    """Compare a run's network with the one that its training starts from.

    Args:
        whose: where the start comes from, for the message.
        stage: of the training that starts; a pre-training also keeps the decoder.

    Raises:
        ConfigError: names each key with both values.
    """
    networks = {find_method(network.model.method).network for network in (own, start)}
    if len(networks) > 1:
        raise ConfigError(
            f"run {run} is a network of {own.model.method} and starts from {whose}, one of "
            f"{start.model.method}; name a start of the same method"
        )
    keys = own.config.encoder_keys + (own.config.decoder_keys if stage == "pretrain" else ())
    if differing := _differences(own, start, keys):
        raise ConfigError(
            f"run {run} starts from {whose}, a network of another shape: {differing}; give both "
            "the same size and overrides in their section model"
        )
    _refuse_other_lengths(run, own, start, whose)
    ours, theirs = own.config.num_frames, start.config.num_frames
    if ours != theirs:
        raise ConfigError(
            f"run {run}: {stage}.num_frames = {ours}, but {whose}, from which it starts, sees "
            f"{theirs} frames at a time; set it to {theirs}"
        )


def refuse_other_teacher(run: str, own: Network, teacher: Network, *, whose: str) -> None:
    """Compare a run's network with the one that its second stage follows.

    Args:
        whose: where that comes from, for the message.

    Raises:
        ConfigError: names each key with both values.
    """
    if differing := _differences(own, teacher, own.config.teacher_keys):
        raise ConfigError(
            f"run {run}: pretrain.teacher_run is {whose}, which sees other tokens: {differing}; "
            "give both runs the same"
        )


def _refuse_other_lengths(run: str, own: Network, start: Network, whose: str) -> None:
    fit = own.model.fit_positions
    differing = _differences(own, start, LENGTH_KEYS)
    if differing and fit == "refuse":
        raise ConfigError(
            f"run {run} starts from {whose}, which knows inputs of another size: {differing}; give "
            "both the same, or set model.fit_positions: interpolate (positions stretched) or trim "
            "(the first of them)"
        )
    longer = [k for k in LENGTH_KEYS if getattr(own.config, k) > getattr(start.config, k)]
    if longer and fit == "trim":
        raise ConfigError(
            f"run {run}: model.fit_positions: trim cannot lengthen what {whose} knows: "
            f"{_differences(own, start, longer)}; set it to interpolate"
        )


def _differences(own: Network, start: Network, keys: Iterable[str]) -> str:
    """Return each key that differs with both values; a method without the key has None."""
    values = ((key, *(getattr(n.config, key, None) for n in (own, start))) for key in keys)
    return ", ".join(
        f"{key} = {ours}, there {theirs}" for key, ours, theirs in values if ours != theirs
    )
