"""Where the clips of a split lie, in a table that loader processes share."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, overload

from pipeline_src.shards.files import RemoteShard

# JSON may hold halves of characters, which are no UTF-8.
ENCODING = ("utf-8", "surrogatepass")


class Sample(NamedTuple):
    """Where one clip lies, and its class indices.

    Args:
        offset_bytes, size_bytes: all its members in the shard, one after the other.
        crc32: of those bytes.
    """

    shard: Path | RemoteShard
    key: str
    offset_bytes: int
    size_bytes: int
    labels: tuple[int, ...]
    clip_id: str
    crc32: int = 0


class SampleTable(Sequence[Sample]):
    """Samples in a few flat arrays; ``table[n]`` makes the ``Sample``.

    A list of two million tuples takes 900 MB, and again as much in every forked loader process:
    looking at an object writes its count of references, which copies the page that it lies in.
    """

    def __init__(self, samples: Iterable[Sample]) -> None:
        numbers: dict[Path | RemoteShard, int] = {}
        text = bytearray()
        # No more than 2^31 bytes are read at once, and CRC-32 has 32 bits.
        self._shards, self._sizes, self._crcs, self._labels = (array("I") for _ in range(4))
        self._offsets, self._label_ends, self._text_ends = (array("q", [0]) for _ in range(3))
        self._offsets.pop()
        for shard, key, offset, size, labels, clip_id, crc32 in samples:
            self._shards.append(numbers.setdefault(shard, len(numbers)))
            self._offsets.append(offset)
            self._sizes.append(size)
            self._crcs.append(crc32)
            self._labels.extend(labels)
            self._label_ends.append(len(self._labels))
            for name in (key, clip_id):
                text += name.encode(*ENCODING)
                self._text_ends.append(len(text))
        self._places = list(numbers)
        self._text = bytes(text)

    def __len__(self) -> int:
        return len(self._offsets)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        wanted = range(len(self))[index]
        return self._sample(wanted) if isinstance(wanted, int) else [*map(self._sample, wanted)]

    def __iter__(self) -> Iterator[Sample]:
        return map(self._sample, range(len(self)))

    def _sample(self, place: int) -> Sample:
        start, middle, end = self._text_ends[2 * place : 2 * place + 3]
        first, last = self._label_ends[place : place + 2]
        return Sample(
            self._places[self._shards[place]],
            self._text[start:middle].decode(*ENCODING),
            self._offsets[place],
            self._sizes[place],
            tuple(self._labels[first:last]),
            self._text[middle:end].decode(*ENCODING),
            self._crcs[place],
        )
