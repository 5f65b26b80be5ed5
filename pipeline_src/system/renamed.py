"""Module names of version 0.1, which scripts and command lines may still use for one release.

``import pipeline_src.media.probe`` gives ``pipeline_src.transcode.probe``, the same module, and
``python -m pipeline_src.media.plan`` runs ``av-pipeline estimate``; both warn with the new name.
"""

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType

PACKAGE = "pipeline_src."
# The longest name that fits decides; what lies below a package keeps its name.
RENAMED = {
    **{name: f"system.{name}" for name in ("atomic", "connections", "cores", "executor", "joblog")},
    **{name: f"system.{name}" for name in ("lock", "own_folder", "parent", "progress")},
    "terminal": "workflow.terminal",
    "media": "transcode",
    "features": "logmel",
    "data": "loader",
    "eval": "evaluate",
    "stages": "dvc",
    "architectures": "methods",
    "models": "methods",
    "objectives": "methods",
    "manifest.url_secrets": "system.url_secrets",
    "provenance": "runs.provenance",
    "ledger": "manifest.ledger",
    "manifest.origin": "manifest.input_hash",
    "manifest.clip_lists": "datasets.clip_lists",
    "manifest.copies": "datasets.copies",
    "manifest.folder": "datasets.folder",
    "manifest.folder_walk": "datasets.folder_walk",
    "manifest.list_formats": "datasets.list_formats",
    "manifest.names": "datasets.names",
    "manifest.presence": "datasets.presence",
    "manifest.recordings": "datasets.recordings",
    "manifest.sources": "datasets.sources",
    "manifest.datasets": "datasets.dataset",
    "manifest.plan": "datasets.chunk_plan",
    "manifest.galleries": "datasets.retrieval_lists",
    "report.records": "evaluate.records",
    "report.curves": "report.sections.training",
    "report.examples": "report.pictures",
    "report.folds": "report.sections.classification",
    "report.inventory": "report.sections.inventory",
    "report.learning": "report.sections.pretraining",
    "report.methods": "report.sections.methods",
    "report.overview": "report.sections.overview",
    "report.predictions": "report.sections.predictions",
    "report.results": "report.sections.classification",
    "report.trainings": "report.sections.training",
    "report.whiskers": "report.charts",
    "cli": "commands.cli",
    "reproduce": "commands.reproduce",
    "doctor": "commands.doctor",
    "listing": "commands.list_clips",
    "preview": "commands.list_preview",
    "proposal": "commands.list_proposal",
    "workload": "commands.estimate_workload",
    "estimate": "commands.estimate",
    "config.starts": "catalog.possible",
    "config.places": "config.value_origins",
    "stages.place": "dvc.results_folder",
    "media.chains": "transcode.filters",
    "media.graph": "transcode.ffmpeg_command",
    "media.moments": "transcode.frame_times",
    "shards.moments": "shards.running_stats",
    "shards.read": "shards.shard_set",
    "features.members": "shards.members",
    "data.loader": "loader.batches",
    "data.replace": "loader.replacement",
    "data.ring": "loader.shared_batches",
    "data.timetable": "config.phases",
    "config.segments": "config.phase_plan",
    "train.clock": "train.progress",
    "train.plan": "train.task",
    "train.schedule": "train.learning_rate",
    "train.undecoded": "train.decode_failures",
    "download.pages": "download.ytdlp",
    "download.patience": "download.retry_policy",
    "download.fetched": "download.journal",
    "download.candidates": "download.source_choices",
    "architectures.base": "methods.common.config",
    "architectures.ratios": "methods.common.ratios",
    "architectures.avsiam": "methods.avsiam.config",
    "architectures.cav_mae": "methods.cav_mae.config",
    "architectures.mavil": "methods.mavil.config",
    "architectures.mavil_cost": "methods.mavil.cost",
    "models.base": "methods.common.network",
    "models.layers": "methods.common.blocks",
    "models.init": "methods.common.image_start",
    "models.patch_embed": "methods.common.patch_embed",
    "models.pos_embed": "methods.common.pos_embed",
    "models.masking": "methods.common.masking",
    "models.decoder": "methods.common.decoder",
    "models.packing": "methods.common.packing",
    "models.pictures": "methods.common.pictures",
    "models.image_keys": "methods.common.image_keys",
    "models.input_lengths": "methods.common.input_lengths",
    "models.key_report": "methods.common.key_report",
    "models.published_keys": "methods.common.published_keys",
    "models.convert": "methods.common.convert",
    "models.tensor_files": "methods.common.tensor_files",
    "models.factory": "methods.factory",
    "models.avsiam": "methods.avsiam.network",
    "models.encoder": "methods.avsiam.encoder",
    "objectives.pretrain": "methods.avsiam.objective",
    "models.cav_mae": "methods.cav_mae.network",
    "objectives.cav_mae": "methods.cav_mae.objective",
    "models.mavil": "methods.mavil.network",
    "models.denoise": "methods.mavil.denoise",
    "models.diffusion": "methods.mavil.diffusion",
    "models.modality_decoder": "methods.mavil.decoder",
    "models.modality_encoder": "methods.mavil.encoder",
    "models.views": "methods.mavil.views",
    "objectives.mavil": "methods.mavil.objective",
    "objectives.views": "methods.mavil.view_draw",
    "objectives.classify": "methods.common.classify",
    "objectives.contrastive": "methods.common.contrast",
    "objectives.reconstruction": "methods.common.reconstruction",
    "media.plan": "commands.estimate",
}
# Names that lie in another module than the rest of theirs, or are called otherwise there.
MOVED = {
    "data.decode": {"load_array": "shards.members.load_array"},
    "eval.retrieval": {"Ranks": "evaluate.retrieval.RetrievalRanks"},
    "manifest.datasets": {
        "ClassList": "datasets.classes.ClassList",
        "load_classes": "datasets.classes.load_classes",
    },
    "reproduce": {"ROOT": "system.checkout.CHECKOUT", "run_reproduce": "commands.reproduce.run"},
    "shards.read": {
        "left_out": "shards.shard_set.excluded_ids",
        "lost_clips": "shards.shard_set.dropped_clips",
    },
}
# Modules that were started by ``python -m`` -> the command that stands for it.
DOORS = {
    "estimate": "estimate",
    "media.plan": "estimate",
    "models.convert": "convert",
    "report.table": "table",
    "shards.verify": "verify",
    "train.cost": "cost",
}


def install() -> None:
    """Let the older names be found; a second call changes nothing."""
    if not any(isinstance(finder, RenamedFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, RenamedFinder())


def new_name(old: str) -> str:
    """Return what ``old``, a name below the package, is called now; empty if it never moved."""
    parts = old.split(".")
    for length in range(len(parts), 0, -1):
        if found := RENAMED.get(".".join(parts[:length])):
            return ".".join([found, *parts[length:]])
    return ""


class RenamedFinder(MetaPathFinder):
    """Finds what has another name now, and what ``python -m`` started."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of an older name; None leaves the search to Python."""
        old = fullname.removeprefix(PACKAGE)
        if old == fullname:
            return None
        if found := new_name(old):
            return ModuleSpec(fullname, _Alias(PACKAGE + found, DOORS.get(old, "")))
        if old in DOORS and sys.argv[0] == "-m":  # so it is only while runpy looks for the module
            return ModuleSpec(fullname, _Alias(fullname, DOORS[old]))
        return None


class _Alias(Loader):
    """Loads the module of the new name; run as a program, the command that stands for it."""

    def __init__(self, module: str, command: str) -> None:
        self.module = module
        self.command = command

    def create_module(self, spec: ModuleSpec) -> None:
        """Make a module as any other; the one of the new name replaces it."""

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        warnings.warn(f"{name} is {self.module} now", DeprecationWarning, stacklevel=2)
        sys.modules[name] = importlib.import_module(self.module)
        for old, place in MOVED.get(name.removeprefix(PACKAGE), {}).items():
            home, _, new = place.rpartition(".")
            setattr(sys.modules[name], old, getattr(importlib.import_module(PACKAGE + home), new))

    def get_code(self, fullname: str) -> CodeType:
        """Return what ``python -m`` runs.

        Raises:
            ImportError: the module is no program.
        """
        if not self.command:
            raise ImportError(f"{fullname} is {self.module} now and no program")
        program = (
            "import sys; from pipeline_src.commands.cli import main; "
            f"sys.stderr.write('av-pipeline {self.command} is the name of this command now\\n'); "
            f"sys.exit(main([{self.command!r}, *sys.argv[1:]]))"
        )
        return compile(program, f"<{fullname}>", "exec")
