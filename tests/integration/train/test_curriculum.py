"""Trainings under a curriculum with adaptive batches, on real shards: stopped, resumed, shared."""

import json
import os
import shutil
import socket
import time
from functools import cache
from itertools import accumulate, groupby

import pytest
import torch
import torch.multiprocessing as mp
from torch.nn.modules.module import register_module_forward_pre_hook

from pipeline_src.config import CurriculumConfig, ModelConfig, PretrainConfig
from pipeline_src.config.data import AudioConfig, ShardsConfig
from pipeline_src.logmel.chunk import extract_chunk
from pipeline_src.report.sections.training import PRETRAIN_PANELS, training_charts
from pipeline_src.runs.checkpoint import newest_checkpoint
from pipeline_src.runs.spec import CHECKPOINTS_FOLDER, TrainSpec, step_folder
from pipeline_src.shards.index import write_index
from pipeline_src.shards.write import pack_chunk
from pipeline_src.train.log import read_log
from pipeline_src.train.run import run_training
from pipeline_src.train.stop import StopFlag, StopRequestedError
from tests import media

pytestmark = pytest.mark.slow

NUM_CLIPS = 20
OVERRIDES = {
    "patch_size": 16, "embed_dim": 16, "depth": 2, "num_heads": 2, "decoder_embed_dim": 16,
    "decoder_depth": 1, "decoder_num_heads": 2,
}  # fmt: skip
RECIPE = {
    "epochs": 3, "batch_size": 8, "batch_multiple": 2, "num_frames": 2, "num_workers": 0,
    "log_every": 1, "save_every_seconds": 1e-6, "warmup_epochs": 1, "adaptive_batch": "tokens",
    "curriculum": CurriculumConfig(shape="linear", start=0.75, end=0.5), "max_batch_size": 16,
    "contrast_ratios": (0.0, 0.5),
}  # fmt: skip
# Of 48 audio and 8 video tokens 14, 21 and 28 are visible in the three epochs; AVSiam's contrast
# sees 42 more in each. MAViL has 4 video tokens: 13, 19 and 26. Clips of every step, and its epoch:
STEPS = {
    "cav_mae": [(16, 0), (16, 0), (10, 1), (8, 2), (8, 2)],
    "avsiam": [(10, 0), (10, 0), (8, 1), (8, 1), (8, 1), (8, 2), (8, 2)],
    "mavil": [(16, 0), (16, 0), (10, 1), (8, 2), (8, 2)],
    "diffmavil": [(16, 0), (16, 0), (10, 1), (8, 2), (8, 2)],
}
# Steps after which a run is stopped: at the end of a phase of equal batches, or inside one.
STOPS = {
    "at": {"cav_mae": 3, "avsiam": 2, "mavil": 2, "diffmavil": 3},
    "inside": {"cav_mae": 1, "avsiam": 3, "mavil": 4, "diffmavil": 1},
}
# AVSiam has two passes a step; each other method is stopped at one of the places.
TURNS = {("avsiam", "at"), ("avsiam", "inside"), ("cav_mae", "at"), ("mavil", "inside")}
EXHAUSTIVE = [pytest.mark.exhaustive]
RATIOS = [0.75, 0.625, 0.5]
PLANNED = (
    "step", "num_steps", "samples_seen", "epoch", "lr", "batch_size", "audio_ratio", "video_ratio",
)  # fmt: skip


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """index.json of 20 synthetic clips in one shard."""
    folder = tmp_path_factory.mktemp("clips")
    media.make_clip(folder / "a.mp4")
    clips = [{"clip_id": f"clip{i}", "source": "a.mp4"} for i in range(NUM_CLIPS)]
    transcoded = media.transcode(media.download(folder, clips))
    results = folder / "results"
    logmel, packed = results / "logmel/00000.json", results / "shards/00000.json"
    extract_chunk(
        transcode_manifest=transcoded,
        manifest_path=logmel,
        ledger_path=logmel.with_suffix(".ledger.csv"),
        audio=AudioConfig(),
        sample_rate_hz=16000,
        num_workers=1,
        version=1,
    )
    pack_chunk(
        logmel_manifest=logmel,
        transcode_manifest=transcoded,
        manifest_path=packed,
        ledger_path=packed.with_suffix(".ledger.csv"),
        shard_path=packed.parent / "train-00000.tar",
        shards=ShardsConfig(),
        version=1,
    )
    (folder / "classes.csv").write_text("index,id,display_name\n0,a,Alpha\n1,b,Beta\n")
    text = "name: toy\ntask: multiclass\nclip_list: toy.csv\nclass_names: classes.csv\n"
    (folder / "toy.yaml").write_text(text)
    path = packed.parent / "index.json"
    write_index(
        shard_manifests=[packed],
        train_manifests=[packed],
        earlier_manifests=[],
        index_path=path,
        dataset_path=folder / "toy.yaml",
        exclude_duplicates=False,
        split="train",
        max_failed_fraction=0,
        audio=AudioConfig(),
        media=media.SMALL,
        version=1,
    )
    return path


def spec_of(run_dir, index, method="cav_mae", **recipe):
    model = {"size": "tiny", "img_size": 32, "target_length": 96, "overrides": OVERRIDES}
    return TrainSpec(
        stage="pretrain",
        run_dir=run_dir,
        model=ModelConfig(method=method, **model),
        recipe=PretrainConfig(**{**RECIPE, **recipe}),
        train_indexes=(index,),
    )


class StopAfter(StopFlag):
    """Asks for the end as soon as a step is logged."""

    def __init__(self, run_dir, step):
        super().__init__()
        self._rows, self._step = run_dir / "metrics.jsonl", step

    @property
    def requested(self):
        return self._step in [row["step"] for row in read_log(self._rows)]


class HoldAfter(StopFlag):
    """Waits to be killed when the checkpoint of a step is complete."""

    def __init__(self, run_dir, step):
        super().__init__()
        self.checkpoint = run_dir / CHECKPOINTS_FOLDER / step_folder(step)

    @property
    def requested(self):
        if self.checkpoint.exists():
            time.sleep(60)
        return False


def rows_of(run_dir):
    return [
        {key: value for key, value in row.items() if key != "seconds"}
        for row in read_log(run_dir / "metrics.jsonl")
    ]


def planned_of(run_dir):
    return [{key: row[key] for key in PLANNED} for row in rows_of(run_dir)]


@pytest.fixture(scope="module")
def train_whole(index, tmp_path_factory):
    """Train a method from start to end, once whoever asks."""

    @cache
    def train(method):
        spec = spec_of(tmp_path_factory.mktemp("whole"), index, method)
        run_training(spec, StopFlag())
        return spec

    return train


@pytest.fixture(
    params=[
        *(name for name in STEPS if name != "diffmavil"),  # the schedule of MAViL, with noise
        pytest.param("diffmavil", marks=EXHAUSTIVE),
    ]
)
def whole(request, train_whole):
    """A method, and its training from start to end."""
    return request.param, train_whole(request.param)


def test_rows_and_state_tell_what_was_planned(whole):
    method, spec = whole
    rows = rows_of(spec.run_dir)
    sizes, epochs = zip(*STEPS[method], strict=True)
    assert [row["batch_size"] for row in rows] == list(sizes)
    for name in ("audio_ratio", "video_ratio"):
        assert [row[name] for row in rows] == [RATIOS[epoch] for epoch in epochs]
    seen = list(accumulate(sizes))
    assert [row["samples_seen"] for row in rows] == seen
    assert [row["epoch"] for row in rows] == [clips / NUM_CLIPS for clips in seen]
    assert {row["num_steps"] for row in rows} == {len(sizes)}
    state = newest_checkpoint(spec.run_dir / "checkpoints", spec.fingerprint()).state
    assert (state["step"], state["samples_seen"]) == (len(sizes), seen[-1])


@pytest.mark.parametrize(
    ("whole", "place"),
    [
        pytest.param(method, place, marks=[] if (method, place) in TURNS else EXHAUSTIVE)
        for method in STEPS
        for place in STOPS
    ],
    indirect=["whole"],
)
def test_stopped_at_or_inside_a_stretch_and_resumed_it_has_the_same_curve(
    whole, index, tmp_path, place
):
    method, complete = whole
    step = STOPS[place][method]
    spec = spec_of(tmp_path, index, method)
    with pytest.raises(StopRequestedError, match=f"step {step}, state saved"):
        run_training(spec, StopAfter(tmp_path, step))
    assert len(rows_of(tmp_path)) == step
    run_training(spec, StopFlag())
    assert rows_of(tmp_path) == rows_of(complete.run_dir)


def train_noting_clips(spec, rank, stop):
    """Train, and append the clips of each batch, as the losses get them, to a file of the rank."""
    path = spec.run_dir / f"clips{rank}.jsonl"
    path.parent.mkdir(exist_ok=True)

    def note(module, arguments):
        # The losses of a step, not a part of the network and not the count of operations.
        if hasattr(module, "passes") and "index" in arguments[0]:
            with path.open("a") as stream:
                print(json.dumps(arguments[0]["index"].tolist()), file=stream)

    with register_module_forward_pre_hook(note):
        run_training(spec, stop)


def clips_of(spec, rank):
    """The batches of a rank; one that is taken again at once, as by a second pass, counts once."""
    lines = (spec.run_dir / f"clips{rank}.jsonl").read_text().splitlines()
    return [json.loads(line) for line, _ in groupby(lines)]


def _train_on_rank(rank, spec, port, stop):
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    torch.set_num_threads(1)
    train_noting_clips(spec, rank, stop)


def start_two_ranks(spec, stop=None):
    """Two processes; they come from a server that has imported everything once."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = mp.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    arguments = (spec, port, stop or StopFlag())
    ranks = [
        context.Process(target=_train_on_rank, args=(rank, *arguments), daemon=True)
        for rank in (0, 1)
    ]
    for rank in ranks:
        rank.start()
    return ranks


def train_on_two_ranks(spec):
    ranks = start_two_ranks(spec)
    for rank in ranks:
        rank.join(120)
    assert [rank.exitcode for rank in ranks] == [0, 0]


def kill_two_ranks(spec, step):
    """kill -9 both ranks as soon as the checkpoint of a step is complete."""
    stop = HoldAfter(spec.run_dir, step)
    ranks = start_two_ranks(spec, stop)
    deadline = time.monotonic() + 120
    while not stop.checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    for rank in ranks:
        rank.kill()
    for rank in ranks:
        rank.join()
    assert -9 in [rank.exitcode for rank in ranks]  # the other may have missed its peer before


@pytest.mark.parametrize("whole", ["cav_mae"], indirect=True)
def test_a_run_continues_with_its_plan_on_another_number_of_ranks(whole, index, tmp_path):
    method, complete = whole
    spec = spec_of(tmp_path, index, method)
    with pytest.raises(StopRequestedError):
        run_training(spec, StopAfter(tmp_path, 1))
    train_on_two_ranks(spec)
    assert planned_of(tmp_path) == planned_of(complete.run_dir)


@pytest.mark.parametrize(
    "method",
    [
        name if name == "mavil" else pytest.param(name, marks=pytest.mark.exhaustive)
        for name in STEPS
    ],
)
def test_two_ranks_killed_at_a_boundary_go_on_as_if_undisturbed(method, index, tmp_path):
    undisturbed, killed, alone = (
        spec_of(tmp_path / name, index, method) for name in ("undisturbed", "killed", "alone")
    )
    train_on_two_ranks(undisturbed)
    boundary = [epoch for _, epoch in STEPS[method]].index(1)
    kill_two_ranks(killed, boundary)
    newest = newest_checkpoint(killed.run_dir / CHECKPOINTS_FOLDER, killed.fingerprint())
    assert newest.step == boundary
    shutil.copytree(killed.run_dir / CHECKPOINTS_FOLDER, alone.run_dir / CHECKPOINTS_FOLDER)
    shutil.copy(killed.run_dir / "metrics.jsonl", alone.run_dir)

    train_on_two_ranks(killed)
    assert rows_of(killed.run_dir) == rows_of(undisturbed.run_dir)
    assert [row["batch_size"] for row in rows_of(killed.run_dir)] == [n for n, _ in STEPS[method]]
    batches = [clips_of(undisturbed, rank) for rank in (0, 1)]
    assert [clips_of(killed, rank) for rank in (0, 1)] == batches

    train_noting_clips(alone, 0, StopFlag())  # masks are drawn by rank, so losses are others
    assert planned_of(alone.run_dir) == planned_of(undisturbed.run_dir)
    whole_batches = [first + second for first, second in zip(*batches, strict=True)]
    assert clips_of(alone, 0) == whole_batches[boundary:]


def test_the_report_draws_what_is_scheduled_and_misses_nothing_else(whole):
    _, spec = whole
    charts, absent = training_charts(rows_of(spec.run_dir), PRETRAIN_PANELS, name="run")
    assert {"Mask ratio", "Clips per step"} <= {chart.title for chart in charts}
    plain = [
        {key: value for key, value in row.items() if not key.endswith(("_ratio", "batch_size"))}
        for row in rows_of(spec.run_dir)
    ]
    charts, missed = training_charts(plain, PRETRAIN_PANELS, name="run")
    assert not {"Mask ratio", "Clips per step"} & {chart.title for chart in charts}
    assert missed == absent == []


def test_a_limit_of_memory_does_not_make_another_training_of_it(whole, index, tmp_path):
    method, complete = whole
    spec = spec_of(tmp_path, index, method, max_batch_size=17)
    assert spec.fingerprint() == complete.fingerprint()
    assert spec.fingerprint() != spec_of(tmp_path, index, method, negatives="all").fingerprint()
