"""Clips, gigabytes and hours before any request.

What fetching takes is here, what processing takes in ``estimate_workload``. Sizes of local files
and archive members are read. Those of a host are measured where clips of it have been fetched
already, and assumed from the options where not; the table says which.
"""

import argparse
import json
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pipeline_src.commands.estimate_workload import (
    BYTES_PER_GB,
    SECONDS_PER_HOUR,
    describe_workload,
    workload,
)
from pipeline_src.config import Config, read_config
from pipeline_src.datasets.clip_lists import ClipRow, read_clips
from pipeline_src.datasets.dataset import DatasetConfig, load_dataset
from pipeline_src.datasets.sources import source_kind, split_member
from pipeline_src.download.archives import member_sizes, plain_name
from pipeline_src.download.journal import FILE_NAME, read_records
from pipeline_src.download.local import find_local
from pipeline_src.download.source_choices import ClipSources, source_choices
from pipeline_src.download.sources import host_of
from pipeline_src.errors import ConfigError, did_you_mean
from pipeline_src.manifest.ledger import TRANSIENT_REASONS
from pipeline_src.system.checkout import CHECKOUT
from pipeline_src.system.url_secrets import hide_secrets

DATASETS = CHECKOUT / "config/datasets"
LOCAL = "this machine"
DEFAULT_CLIP_SECONDS = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the data set, the configuration, and what is assumed of unmeasured sources."""
    add = parser.add_argument
    add("dataset", help="name, or path of a data set's YAML file")
    add("configs", type=Path, nargs="*", help="overlays of config.yaml, later ones win")
    add("--kbit-per-second", type=float, default=1000.0, help="media rate of unmeasured sources")
    add("--minutes-per-video", type=float, default=4.0, help="length of an unmeasured whole video")
    add("--mbit-per-second", type=float, default=100.0, help="the line")
    add("--json", action="store_true", help="print JSON instead of a table")


def run(options: argparse.Namespace) -> int:
    """Print the estimate for what the command line names."""
    assumed = Assumed(options.kbit_per_second, options.minutes_per_video, options.mbit_per_second)
    config = read_config(options.configs)
    dataset = _find_dataset(options.dataset)
    listing = read_listing(dataset, config, assumed)
    loads = estimate(listing, dataset, config, assumed)
    stages = workload(config, dataset.name, listing.clips_per_split, listing.mean_seconds)
    if options.json:
        rows = [{k: v for k, v in asdict(p).items() if k != "sizes"} for p in loads]
        work = [asdict(stage) for stage in stages]
        print(json.dumps({"places": rows, "assumed": asdict(assumed), "stages": work}, indent=1))
    else:
        num_raw = sum(load.num_sources for load in loads if load.name != LOCAL)
        print(
            "\n".join([*describe_estimate(loads, assumed), "", *describe_workload(stages, num_raw)])
        )
    return 0


def _find_dataset(name: str) -> DatasetConfig:
    path = Path(name) if name.endswith((".yaml", ".yml")) else DATASETS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(one.stem for one in DATASETS.glob("*.yaml")))
        near = did_you_mean(name, [one.stem for one in DATASETS.glob("*.yaml")])
        raise ConfigError(
            f"unknown data set {name!r}{near}; known: {known}, or the path of a YAML file"
        )
    dataset = load_dataset(path)
    if dataset.is_packed:
        raise ConfigError(f"data set {dataset.name}: its shards are packed, nothing is fetched")
    return dataset


@dataclass
class HostLoad:
    """What one host, or this machine, has to give.

    Args:
        num_missing: local files that are not there. hours: of this place alone, at its limits.
        basis: read | measured on n clips | assumed.
    """

    name: str
    num_clips: int = 0
    num_sources: int = 0
    num_done: int = 0
    num_missing: int = 0
    gigabytes: float = 0.0
    hours: float = 0.0
    basis: str = "read"
    sizes: list[float] = field(default_factory=list, repr=False)


@dataclass(frozen=True)
class Assumed:
    """What stands for sizes that nobody has measured yet."""

    kbit_per_second: float
    minutes_per_video: float
    mbit_per_second: float


@dataclass
class Listing:
    """A clip list, as far as an estimate needs it.

    Args:
        sources: source -> its clips, and the bytes to be assumed where nobody has measured it.
        seconds: listed lengths in all; num_timed: of so many clips.
    """

    sources: dict[str, tuple[int, float]] = field(default_factory=dict)
    clips_per_split: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    num_timed: int = 0

    @property
    def mean_seconds(self) -> float:
        """Mean listed length; 0 where the list gives none."""
        return self.seconds / self.num_timed if self.num_timed else 0.0


def read_listing(dataset: DatasetConfig, config: Config, assumed: Assumed) -> Listing:
    """Read the clip list; each clip at its first source."""
    sources = ClipSources(dataset.root, dataset.clip_file, dataset.mirror, dataset.mirror_is_cut)
    listing = Listing()
    for clip in read_clips(dataset, max_seconds=config.media.max_seconds):
        first = source_choices(clip, sources)[0]
        known = listing.sources.get(first.source) or (0, _assumed_bytes(first, clip, assumed))
        listing.sources[first.source] = (known[0] + 1, known[1])
        listing.clips_per_split[clip.split] += 1
        if clip.end_seconds is not None:
            listing.seconds += clip.end_seconds - (clip.start_seconds or 0.0)
            listing.num_timed += 1
    return listing


def estimate(
    listing: Listing, dataset: DatasetConfig, config: Config, assumed: Assumed
) -> list[HostLoad]:
    """Return what each place has to give for a data set, by name; asks no host."""
    logs = Path(config.results, dataset.name, "raw").glob(f"*/*/{FILE_NAME}")
    records = {source: record for log in logs for source, record in read_records(log).items()}
    found: dict[str, HostLoad] = {}
    sizes = LocalSizes(dataset.root)
    for source, (num_clips, assumed_bytes) in listing.sources.items():
        load = found.setdefault(_host_name(source), HostLoad(_host_name(source)))
        load.num_clips += num_clips
        load.num_sources += 1
        if load.name == LOCAL:
            size = sizes.of(source)
            load.num_missing += size is None
            load.gigabytes += (size or 0) / BYTES_PER_GB
        elif (
            record := records.get(hide_secrets(source))
        ) and record.reason not in TRANSIENT_REASONS:
            load.num_done += 1
            load.sizes += [] if record.reason else [record.bytes]
        else:
            load.gigabytes += assumed_bytes / BYTES_PER_GB
            load.basis = "assumed"
    for load in found.values():
        if load.name != LOCAL:
            _estimate_load(load, config, assumed)
    return sorted(found.values(), key=lambda load: load.name)


def _host_name(source: str) -> str:
    """Return the host that a source asks, or this machine."""
    kind = source_kind(source)
    if kind == "member" and source_kind(split_member(source)[0]) == "local":
        return LOCAL
    return LOCAL if kind == "local" else host_of(source) or kind


class LocalSizes:
    """Sizes of local files and of members of local archives; each archive's headers read once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._members: dict[str, dict[str, int]] = {}

    def of(self, source: str) -> int | None:
        """Return bytes of a source; None where it is not there."""
        if source_kind(source) != "member":
            path = find_local(self._root, source)
            return path.stat().st_size if path.is_file() else None
        archive, member = split_member(source)
        if archive not in self._members:
            self._members[archive] = member_sizes(find_local(self._root, archive))
        return self._members[archive].get(plain_name(member))


def _estimate_load(load: HostLoad, config: Config, assumed: Assumed) -> None:
    """Replace assumed sizes by the mean of what was fetched, and set the hours."""
    num_left = load.num_sources - load.num_done
    if load.sizes:
        load.gigabytes = num_left * statistics.fmean(load.sizes) / BYTES_PER_GB
        load.basis = f"measured on {len(load.sizes)}"
    network = config.rate_limits
    rate = network.host_requests_per_second.get(load.name, network.requests_per_second)
    spaced = num_left / rate if rate else 0.0
    load.hours = max(spaced, transfer_seconds(load.gigabytes, assumed)) / SECONDS_PER_HOUR


def transfer_seconds(gigabytes: float, assumed: Assumed) -> float:
    """Return how long the line needs."""
    return gigabytes * BYTES_PER_GB * 8 / (assumed.mbit_per_second * 1e6)


def _assumed_bytes(first: ClipRow, listed: ClipRow, assumed: Assumed) -> float:
    """Estimate the bytes of a ready-cut clip by its length, of a file to cut by a whole video's."""
    if first.end_seconds is not None:
        seconds = assumed.minutes_per_video * 60
    elif listed.end_seconds is not None:
        seconds = listed.end_seconds - (listed.start_seconds or 0.0)
    else:
        seconds = DEFAULT_CLIP_SECONDS
    return seconds * assumed.kbit_per_second * 1000 / 8


def describe_estimate(loads: Sequence[HostLoad], assumed: Assumed) -> Iterable[str]:
    """Yield the table, and what it stands on."""
    yield f"{'place':28} {'clips':>9} {'to fetch':>9} {'GB':>9} {'hours':>8}  sizes"
    for load in loads:
        left = 0 if load.name == LOCAL else load.num_sources - load.num_done
        row = f"{load.name:28} {load.num_clips:9} {left:9} {load.gigabytes:9.1f}"
        missing = f", {load.num_missing} missing" if load.num_missing else ""
        yield f"{row} {load.hours:8.1f}  {load.basis}{missing}"
    remote = [load for load in loads if load.name != LOCAL]
    gigabytes = sum(load.gigabytes for load in remote)
    line_hours = transfer_seconds(gigabytes, assumed) / SECONDS_PER_HOUR
    hours = max([line_hours, *(load.hours for load in remote)])
    num_clips = sum(load.num_clips for load in loads)
    yield f"{num_clips} clips; {gigabytes:.1f} GB to fetch in {hours:.1f} h"
    if any(load.basis == "assumed" for load in remote):
        yield (
            f"assumed: {assumed.kbit_per_second:g} kbit/s of media, whole videos of "
            f"{assumed.minutes_per_video:g} min, a line of {assumed.mbit_per_second:g} Mbit/s, "
            "every source still there"
        )
