"""Bodies that a server packed unasked: Content-Encoding, RFC 9110, 8.4."""

import zlib
from collections.abc import Callable, Iterable, Iterator

from pipeline_src.download.store import BLOCK_BYTES
from pipeline_src.errors import MediaError

CODINGS = ("gzip", "x-gzip", "deflate")
# Some proxies pack what is packed; more would only multiply what a small answer can grow to.
MAX_CODINGS = 4
EITHER_HEADER = 32 + zlib.MAX_WBITS
NO_HEADER = -zlib.MAX_WBITS
# What the low half of the first byte is with a header: of zlib, of gzip. Deflate has neither.
WITH_HEADER = (0x8, 0xF)


def split_codings(header: str) -> list[str]:
    """Split Content-Encoding into the codings in the order they were applied in."""
    names = (name.strip().lower() for name in header.split(","))
    return [name for name in names if name not in ("", "identity")]


def unpack(
    blocks: Iterator[bytes], codings: list[str], url: str, check_time: Callable[[], None]
) -> Iterator[bytes]:
    """Yield the body in blocks, unpacked.

    Args:
        check_time: called for every block of every coding; raises when the time is over.
    Raises:
        MediaError: it is packed in another way, damaged, or ends too early.
    """
    if len(codings) > MAX_CODINGS or not set(codings) <= set(CODINGS):
        shown = f"Content-Encoding {', '.join(codings)[:80]}"
        raise MediaError("unsupported", f"{url}: {shown}; read are {', '.join(CODINGS)}")
    for coding in reversed(codings):
        blocks = _inflate(blocks, coding, url, check_time)
    return blocks


def _inflate(
    blocks: Iterable[bytes], coding: str, url: str, check_time: Callable[[], None]
) -> Iterator[bytes]:
    """Yield what the streams hold that follow one another in ``blocks``; zeros may follow them."""
    unpacker = None
    try:
        for packed in blocks:
            is_full = False
            while packed or is_full:
                check_time()
                if unpacker is None or unpacker.eof:
                    packed = packed.lstrip(b"\0") if unpacker else packed
                    if not packed:
                        break
                    has_header = coding != "deflate" or packed[0] & 0xF in WITH_HEADER
                    unpacker = zlib.decompressobj(EITHER_HEADER if has_header else NO_HEADER)
                if block := unpacker.decompress(packed, BLOCK_BYTES):
                    yield block
                packed = unpacker.unconsumed_tail or unpacker.unused_data
                is_full = len(block) == BLOCK_BYTES  # zlib may hold back more
    except zlib.error as error:
        raise MediaError("network", f"{url}: Content-Encoding {coding}, but {error}") from error
    if unpacker and not unpacker.eof:
        raise MediaError("truncated", f"{url}: ends in the middle of its {coding} stream")
