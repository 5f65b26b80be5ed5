"""Memory of two million samples as a list of tuples and as a table, with loader processes.

    python -m benchmarks.sample_table --clips 2000000 --processes 8

Each way in a process of its own, which forks the others; those look at every sample once, in random
order. Memory is what belongs to one process alone (private pages of all of them, and the anonymous
ones of the first).
"""

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path

from benchmarks.preprocess import describe_machine
from pipeline_src.shards.samples import Sample, SampleTable

WAYS: dict[str, Callable[[Iterable[Sample]], Sequence[Sample]]] = {
    "list": list,
    "table": SampleTable,
}
CLIPS_PER_SHARD = 1000


def draw_samples(num_clips: int) -> Iterator[Sample]:
    """Yield samples as AudioSet's: names of 11 characters, one to four of 527 classes."""
    rng, shard = random.Random(0), None
    for number in range(num_clips):
        if number % CLIPS_PER_SHARD == 0 or shard is None:
            shard = Path(f"results/audioset/shards/train/{number // CLIPS_PER_SHARD:05d}.tar")
        labels = tuple(sorted(rng.sample(range(527), rng.randint(1, 4))))
        clip_id = f"{rng.getrandbits(44):011x}"
        key = f"{clip_id}-{rng.getrandbits(40):010x}"
        yield Sample(shard, key, number << 17, 1 << 17, labels, clip_id, rng.getrandbits(32))


def private_megabytes() -> float:
    """Return the memory that no other process shares."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    fields = dict(line.split(":") for line in lines[1:])
    return sum(int(fields[f"Private_{kind}"].split()[0]) for kind in ("Clean", "Dirty")) / 1000


def measure(way: str, num_clips: int, num_processes: int) -> dict[str, float]:
    """Build one way and look at it from other processes; MB, and seconds."""
    before = private_megabytes()
    samples = draw_samples(num_clips)
    started = time.perf_counter()
    kept = WAYS[way](samples)
    built = time.perf_counter()
    own = private_megabytes() - before
    context = get_context("fork")
    answers = context.SimpleQueue()

    def look(seed: int) -> None:
        order = list(range(num_clips))
        random.Random(seed).shuffle(order)
        start, looked = private_megabytes(), time.perf_counter()
        for place in order:
            _ = kept[place].size_bytes
        answers.put((private_megabytes() - start, time.perf_counter() - looked))

    workers = [context.Process(target=look, args=(seed,)) for seed in range(num_processes)]
    for worker in workers:
        worker.start()
    found = [answers.get() for _ in workers]
    for worker in workers:
        worker.join()
    return {
        "own_mb": round(own, 1),
        "mb_per_process": round(sum(mb for mb, _ in found) / len(found), 1),
        "build_seconds": round(built - started, 2),
        "microseconds_per_look": round(1e6 * sum(s for _, s in found) / len(found) / num_clips, 2),
    }


def main() -> None:
    """Print what both ways take as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=2_000_000)
    parser.add_argument("--processes", type=int, default=8)
    options = parser.parse_args()
    ways = {}
    for way in WAYS:  # a fresh process each: what the first freed would hide what the second takes
        reading, writing = os.pipe()
        if not (child := os.fork()):
            found = measure(way, options.clips, options.processes)
            os.write(writing, json.dumps(found).encode())
            os._exit(0)
        os.close(writing)
        os.waitpid(child, 0)
        ways[way] = json.loads(os.read(reading, 1 << 16))
    json.dump({**vars(options), **ways, "machine": describe_machine()}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
