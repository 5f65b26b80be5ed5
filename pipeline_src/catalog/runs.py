"""Which runs a target can name, what they learn from and are scored on, and their files."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pipeline_src.catalog import paths
from pipeline_src.catalog.datasets import DatasetCatalog
from pipeline_src.catalog.possible import (
    Network,
    converted_done,
    converted_network,
    refuse_one_class,
    refuse_other_network,
    refuse_other_split,
    refuse_other_stage,
    refuse_other_teacher,
    refuse_repeated_frames,
    refuse_sound_alone,
    refuse_unscored,
    refuse_untrainable,
)
from pipeline_src.catalog.steps import STEPS
from pipeline_src.config import RunConfig, resolve_run
from pipeline_src.config.root import RUN_SECTIONS
from pipeline_src.datasets.dataset import split_view


class Catalog(DatasetCatalog):
    """Data sets by name and runs by name for one configuration."""

    @property
    def run_names(self) -> tuple[str, ...]:
        """Every run that is built and compared."""
        return self.config.run_names

    def pretrain_indexes(self, run: str) -> list[str]:
        """Return index.json of the training splits that a run is pre-trained on."""
        return [self.index(name, "train") for name in self.pretrain_datasets(run)]

    @cache  # noqa: B019
    def run(self, name: str) -> RunConfig:
        """Return the sections of one run."""
        return resolve_run(self.config, name)

    def params(self, rule: str) -> dict[str, Callable[[Any], Any]]:
        """Return a function of Snakemake's wildcards for each param that a result depends on."""

        def value_of(name: str) -> Callable[[Any], Any]:
            return lambda wildcards: self._recorded_for(rule, wildcards)[name]

        return {name: value_of(name) for name in STEPS[rule].params}

    def _recorded_for(self, rule: str, wildcards: Any) -> Mapping[str, Any]:
        names = (getattr(wildcards, key, "") for key in ("dataset", "run"))
        return self.recorded(rule, *names)

    @cache  # noqa: B019
    def recorded(self, rule: str, dataset: str = "", run: str = "") -> Mapping[str, Any]:
        """Return the params of a job that its result depends on.

        Args:
            dataset: that a job of a data stage works on. run: that any other job works for.
        """
        step = STEPS[rule]
        sections = dict(self.config)
        if dataset and "media" in step.sections:
            sections["media"] = self.media(dataset)
        if run and not step.sections.isdisjoint(RUN_SECTIONS):
            sections |= dict(self.run(run))
        return step.values(sections)

    def run_file(self, run: str) -> Path:
        """Return the resolved sections of a run, as they were when its results were made."""
        return Path(self.fill(paths.RUN_CONFIG, run=run))

    def pretrain_datasets(self, run: str) -> tuple[str, ...]:
        """Return data sets that a run's pre-training learns from.

        Raises:
            ConfigError: one of them has no video; every objective compares sound and picture.
        """
        names = self.run(run).pretrain.datasets or self.listed
        for name in names:
            refuse_sound_alone(run, name, has_video=self.dataset(name).has_video)
        return names

    def finetune_datasets(self, run: str) -> tuple[str, ...]:
        """Return data sets that a run is fine-tuned on by ``all``."""
        recipe = self.run(run).finetune
        return () if recipe.skip else recipe.datasets or self.listed

    def probe_datasets(self, run: str) -> tuple[str, ...]:
        """Return data sets that a run's pre-training is scored on by ``all``."""
        return self.run(run).evaluate.datasets or self.listed

    def fold_variants(self, name: str) -> tuple[str, ...]:
        """Return what is fine-tuned and scored: the data set, or each of its folds held out."""
        if split_view(name)[1] or not self.dataset(name).folds:
            return (name,)
        return tuple(f"{name}_{fold}" for fold in self.dataset(name).splits)

    def finetune_train_indexes(self, run: str, view: str) -> list[str]:
        """Return what a run is fine-tuned on: the training split, or all folds but one.

        Raises:
            ConfigError: the run trains no head that the clips of the data set can train, or there
                is one class alone.
        """
        name, held_out = split_view(view)
        shares, modalities = self.run(run).finetune.modality_probs, self.dataset(name).modalities
        refuse_untrainable(run, name, shares, modalities)
        refuse_one_class(run, name, self.num_classes(name))
        if not held_out:
            return [self.index(name, "train")]
        return [self.index(name, fold) for fold in self.splits(name) if fold != held_out]

    def finetune_val_indexes(self, view: str) -> list[str]:
        """Return what a fine-tuning is validated on; nothing where a fold is held out."""
        name, held_out = split_view(view)
        return [] if held_out else self.optional_index(name, "val")

    def finetune_chunks(self, run: str, view: str) -> list[str]:
        """Return the manifests of what a run is fine-tuned and validated on."""
        return self.chunks_behind(
            [*self.finetune_train_indexes(run, view), *self.finetune_val_indexes(view)]
        )

    def scored_index(self, run: str, view: str) -> str:
        """Return index.json of the clips that a run is scored on.

        Raises:
            ConfigError: the run is scored on validation clips, and folds have none; or on more
                frames than a clip has.
        """
        name, split = self._scored_split(run, view)
        if not self.dataset(name).is_packed:
            refuse_repeated_frames(run, name, self.run(run), self.media(name))
        return self.index(name, split)

    def scored_groups(self, run: str, view: str) -> list[str]:
        """Return the file of what those clips share; nothing where their list names no groups."""
        return self.clip_groups(*self._scored_split(run, view))

    def _scored_split(self, run: str, view: str) -> tuple[str, str]:
        name, held_out = split_view(view)
        split = self.run(run).evaluate.split
        refuse_other_split(run, name, split, held_out)
        return name, held_out or split

    def pretrain_source(self, run: str) -> str:
        """Return the run whose pre-training fine-tuning starts from; empty when from scratch.

        A fine-tuned checkpoint from elsewhere needs none, unless the run names one of that too.
        """
        recipe = self.run(run)
        finetune = recipe.finetune
        if finetune.checkpoint and not (recipe.pretrain.checkpoint or finetune.checkpoint_run):
            return ""
        return "" if finetune.init == "scratch" else finetune.checkpoint_run or run

    def pretrained_runs(self) -> list[str]:
        """Return runs with a pre-training of their own that something needs."""
        needed = {source for run in self.run_names if (source := self.pretrain_source(run))}
        added = needed
        while added := {source for run in added for source in self._pretrained_from(run)}:
            needed = needed | added
        return [run for run in self.run_names if run in needed]

    def _pretrained_from(self, run: str) -> list[str]:
        """Return the runs whose pre-training a run's own needs: as its start, or as its teacher."""
        recipe = self.run(run).pretrain
        return [source for source in (recipe.checkpoint_run, recipe.teacher_run) if source]

    def start_done(self, run: str) -> list[str]:
        """Return done.json of the pre-training that a run's own pre-training continues, if any."""
        source = self.run(run).pretrain.checkpoint_run
        if source:
            self._check_start(run, source, "pretrain")
        return [self.own_pretrain_done(source)] if source else []

    def teacher_done(self, run: str) -> list[str]:
        """Return done.json of the pre-training that a run's second stage follows, if any."""
        teacher = self.run(run).pretrain.teacher_run
        if teacher:
            num_frames = self.run(run).pretrain.num_frames
            theirs, whose = self._pretrained_network(teacher)
            refuse_other_teacher(run, self._network(run, num_frames), theirs, whose=whose)
        return [self.own_pretrain_done(teacher)] if teacher else []

    def pretrain_done(self, run: str) -> list[str]:
        """Return done.json of the pre-training that a run starts from, if any."""
        source = self.pretrain_source(run)
        if source and not self.run(run).finetune.checkpoint:
            self._check_start(run, source, "finetune")
        return [self.own_pretrain_done(source)] if source else []

    def _check_start(self, run: str, source: str, stage: Literal["pretrain", "finetune"]) -> None:
        """Raise ConfigError where a run's training starts from a network of another shape."""
        if source == run and not self.run(source).pretrain.checkpoint:
            return
        own = self._network(run, getattr(self.run(run), stage).num_frames)
        if stage == "pretrain" and self.run(source).pretrain.checkpoint:
            key = f"pretrain.checkpoint_run = {source!r}"
            done = self.own_pretrain_done(source)  # a fine-tuning has no decoder to go on with
            refuse_other_stage(run, key, done, holds="finetune", advice="name a pre-training")
        start, whose = self._pretrained_network(source)
        refuse_other_network(run, own, start, whose=whose, stage=stage)

    def _pretrained_network(self, run: str) -> tuple[Network, str]:
        """Return the network of a run's pre-training, and whose it is: the run's or a folder's."""
        recipe = self.run(run).pretrain
        if folder := recipe.checkpoint:
            return converted_network(converted_done(run, "pretrain", folder)), folder
        return self._network(run, recipe.num_frames), f"run {run}"

    def _network(self, run: str, num_frames: int) -> Network:
        bins = self.config.audio.num_mel_bins
        return Network.of(self.run(run).model, num_frames=num_frames, num_mel_bins=bins)

    def own_pretrain_done(self, run: str) -> str:
        """Return done.json of a run's pre-training: trained, or converted from elsewhere."""
        folder = self.run(run).pretrain.checkpoint
        if folder:
            return converted_done(run, "pretrain", folder)
        return self.fill(paths.PRETRAINED, run=run)

    def finetune_done(self, run: str, name: str) -> str:
        """Return done.json of a run's fine-tuning on a data set: trained, or converted."""
        folder = self.run(run).finetune.checkpoint
        if folder:
            return converted_done(run, "finetune", folder)
        return self.fill(paths.FINETUNED, run=run, dataset=name)

    def finetune_dones(self, name: str) -> list[str]:
        """Return done.json of every run that is fine-tuned, on a data set."""
        variants = self.fold_variants(name)
        return [self.finetune_done(run, view) for run in self.finetuned_runs() for view in variants]

    def finetuned_runs(self) -> list[str]:
        """Return runs with a fine-tuning."""
        return [run for run in self.run_names if not self.run(run).finetune.skip]

    def pretrain_dones(self) -> list[str]:
        """Return done.json of every pre-training that something needs."""
        return [self.own_pretrain_done(run) for run in self.pretrained_runs()]

    def metrics(self, name: str, runs: Sequence[str] = ()) -> list[str]:
        """Return metrics.json of fine-tuned runs, on a data set or each of its folds."""
        return [
            self.fill(paths.SCORES, run=run, dataset=view)
            for run in runs or self.finetuned_runs()
            for view in self.fold_variants(name)
        ]

    def cross_validations(self, name: str, runs: Sequence[str] = ()) -> list[str]:
        """Return metrics.json of runs over all folds of a data set; none where it has no folds."""
        if self.fold_variants(name) == (name,):
            return []
        scored = runs or self.finetuned_runs()
        return [self.fill(paths.FOLD_SCORES, run=run, dataset=name) for run in scored]

    def probes(self, name: str) -> list[str]:
        """Return label-free evaluations on a data set, one per pre-training scored on it."""
        return [
            self.fill(paths.PROBE_SCORES, run=run, dataset=name)
            for run in self.pretrained_runs()
            if name in (self.run(run).evaluate.datasets or (name,)) and self.is_probed(run, name)
        ]

    def is_probed(self, run: str, name: str) -> bool:
        """Tell whether a pre-training can be scored: not on folds, and sound alone only by probes.

        Raises:
            ConfigError: it cannot, and the run names the data set.
        """
        dataset = self.dataset(name)
        has_probes = not dataset.folds and bool(self.probe_train_index(run, name))
        if has_probes or (dataset.has_video and not dataset.folds):
            return True
        if name in self.run(run).evaluate.datasets:
            refuse_unscored(run, name, has_folds=bool(dataset.folds))
        return False

    def probe_train_index(self, run: str, name: str) -> list[str]:
        """Return what the probes of a run learn from; nothing where retrieval alone is scored."""
        return self.optional_index(name, "train") if self.run(run).evaluate.probes else []

    def probe_val_index(self, run: str, name: str) -> list[str]:
        """Return what the probes' strength is chosen on; nothing without probes or such a split."""
        return self.optional_index(name, "val") if self.probe_train_index(run, name) else []

    def probed_chunks(self, run: str, name: str) -> list[str]:
        """Return the manifests of what a pre-training's probes learn from and are scored on."""
        learnt = [*self.probe_train_index(run, name), *self.probe_val_index(run, name)]
        return self.chunks_behind([*learnt, self.scored_index(run, name)])

    def evaluations(self, name: str) -> list[str]:
        """Return everything that ``eval_<name>`` makes."""
        return self.metrics(name) + self.cross_validations(name) + self.probes(name)

    def report_metrics(self) -> list[str]:
        """Return metrics.json of runs on all that they are fine-tuned on, folds left out."""
        return [
            path
            for run in self.run_names
            for name in self.finetune_datasets(run)
            if self.fold_variants(name) == (name,)
            for path in self.metrics(name, (run,))
        ]

    def report_probes(self) -> list[str]:
        """Return label-free evaluations of every pre-training on all that it is scored on."""
        return [
            self.fill(paths.PROBE_SCORES, run=run, dataset=name)
            for name in self.scored_datasets()
            for run in self.pretrained_runs()
            if name in self.probe_datasets(run) and self.is_probed(run, name)
        ]

    def scored_datasets(self) -> tuple[str, ...]:
        """Return listed data sets, then others that a pre-training is scored on."""
        named = [name for run in self.pretrained_runs() for name in self.probe_datasets(run)]
        return tuple(dict.fromkeys([*self.listed, *named]))

    def report_folds(self) -> list[str]:
        """Return metrics.json over all folds of every run on each data set with folds."""
        return [
            path
            for run in self.run_names
            for name in self.finetune_datasets(run)
            for path in self.cross_validations(name, (run,))
        ]

    def configured_evaluations(self) -> list[str]:
        """Return every evaluation that ``all`` makes, each fold's, too."""
        scored = [
            path
            for run in self.run_names
            for name in self.finetune_datasets(run)
            for path in self.metrics(name, (run,))
        ]
        return [*scored, *self.report_folds(), *self.report_probes()]

    def listed_results(self) -> list[str]:
        """Return what ``all`` makes beside the report: shards, ledgers, and every evaluation.

        By name, because Snakemake does not miss what only led to a file that is there.
        """
        return [
            *self.listed_shards(),
            *self.report_metrics(),
            *self.report_folds(),
            *self.report_probes(),
        ]
