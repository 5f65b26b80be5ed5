"""Read tensors from files that others wrote, without running anything they hold."""

import pickle
import re
import struct
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pipeline_src.errors import CheckpointError, shown

# Keys that training programs keep the tensors below: MAE, timm, PyTorch's tutorials, Lightning.
WRAPPERS = ("model", "state_dict", "model_state_dict", "model_state", "module", "net")
PARALLEL_PREFIX = "module."  # of modules saved from inside (Distributed)DataParallel
COMPILED_PREFIX = "_orig_mod."  # of modules saved from inside torch.compile
# The others are of a module that holds the network, as Lightning's do.
PREFIXES = (PARALLEL_PREFIX, "model.", "net.")
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
COUNTS = (torch.int32, torch.int64)
CHUNK_BYTES = 1 << 20
NUM_LISTED = 5
MAX_SHARING = 4
# What training programs store beside the weights: options, scores, paths. None of it is built: each
# becomes an ``_Inert``, so that its own code never runs.
INERT_GLOBALS = (
    "argparse.Namespace",
    "_codecs.encode",
    *(f"datetime.{name}" for name in ("date", "datetime", "timedelta")),
    *(
        f"{module}.{name}"
        for module in ("pathlib", "pathlib._local")  # the second since Python 3.13
        for name in ("Path", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")
    ),
    *(
        f"{module}.multiarray.{name}"
        for module in ("numpy.core", "numpy._core")  # the second since numpy 2
        for name in ("scalar", "_reconstruct")
    ),
    "numpy.dtype",
    "numpy.ndarray",
    *(f"numpy.dtypes.{name}" for name in np.dtypes.__all__),
)


class _Inert:
    """A stand-in for whatever object a file holds beside its tensors."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a .safetensors file or one that torch.save wrote.

    Which of the two it is, its bytes say and not its name. A wrapping dictionary and the prefixes
    of wrapping modules are taken off; of all that is not a tensor beside them nothing is built.
    Half and double precision becomes fp32; shapes are as stored.

    Raises:
        CheckpointError: absent, damaged, holding code, no dictionary of plain tensors, or a value
            that is not finite.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is no file; give a .pth, .pt, .bin or .safetensors file")
    state = _unwrap(_load(path), path)
    for key, value in state.items():
        if not isinstance(key, str) or not key.isprintable():
            raise CheckpointError(
                f"{path}: the key {shown(key)} is no tensor's name; save model.state_dict() alone"
            )
        if not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path}: {key!r} is {_kind(value)}, not a tensor; it holds {_listed(state)}. Save "
                "model.state_dict() alone, or below one of the keys " + ", ".join(WRAPPERS)
            )
    _check_values(state, path)
    return _without_prefixes(state, path)


def _unwrap(state: Any, path: Path) -> dict[str, Any]:
    """Find the dictionary of tensors inside a training program's file.

    Raises:
        CheckpointError: there is none.
    """
    for _ in WRAPPERS:  # not for ever: a pickled dictionary can hold itself
        if isinstance(state, dict):
            state = state if (inner := _wrapped(state)) is None else inner
    if not isinstance(state, dict) or not state or _wrapped(state) is not None:
        raise CheckpointError(
            f"{path} holds {_kind(state)}, not a dictionary of tensors; save "
            "model.state_dict() instead"
        )
    return state


def _wrapped(state: Mapping[str, Any]) -> dict[str, Any] | None:
    found = (state[key] for key in WRAPPERS if isinstance(state.get(key), dict))
    return next(found, None)


def _kind(value: Any) -> str:
    if isinstance(value, _Inert):
        return "an object"
    is_empty = isinstance(value, (dict, list, tuple)) and not value
    return f"a {type(value).__name__}" + (" without entries" if is_empty else "")


def _listed(state: Mapping[Any, Any]) -> str:
    """List the first keys, shortened: they come from outside."""
    names = ", ".join(repr(key)[:60] for key in list(state)[:NUM_LISTED])
    return names + (f", ... ({len(state)} in all)" if len(state) > NUM_LISTED else "")


def _load(path: Path) -> Any:
    try:
        if _is_safetensors(path):
            return load_file(path)
        _check_archive(path)
        with torch.serialization.safe_globals([(_Inert, name) for name in INERT_GLOBALS]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"holds {found[1]}, code" if found else "is damaged, or holds code"
        raise CheckpointError(
            f"{path} {what} that would run on opening; ask for model.state_dict() alone, or save "
            "it so where the file can be trusted"
        ) from None
    except (
        *(SafetensorError, OSError, EOFError, RuntimeError, ValueError, KeyError),
        *(TypeError, AttributeError, IndexError, MemoryError, zipfile.BadZipFile),
        *(AssertionError, struct.error),
    ) as error:
        raise CheckpointError(
            f"{path} cannot be read: damaged, truncated or no file of tensors; fetch it again "
            f"({str(error).splitlines()[0][:200] if str(error) else type(error).__name__})"
        ) from None


def _is_safetensors(path: Path) -> bool:
    """Tell by the first bytes, a header's length and the header, which is JSON.

    Where they are of neither format the name decides whose reader says what is wrong.
    """
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return True
    return path.suffix == ".safetensors" and not head.startswith((b"PK", b"\x80"))


def _check_archive(path: Path) -> None:
    """Refuse a zip file with packed tensors, which may be a bomb, or with damaged ones.

    torch.save stores tensors as they are, and torch.load passes over their checksums.

    Raises:
        CheckpointError: it is packed, so may be larger when unpacked.
        BadZipFile: a checksum is not that of the bytes.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        size, own_size = sum(part.file_size for part in parts), path.stat().st_size
        if size > own_size or any(part.compress_type != zipfile.ZIP_STORED for part in parts):
            raise CheckpointError(
                f"{path}: {own_size} bytes that unpack to {size}; save it with torch.save"
            )
        # 0 stands for none: torch.serialization.set_crc32_options(False).
        for info in (part for part in parts if part.CRC):
            with archive.open(info) as file:
                while file.read(CHUNK_BYTES):
                    pass


def _refuse_shared(state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse a few bytes that stand for a thousand tensors; tied weights may be one another.

    Raises:
        CheckpointError: they claim too much.
    """
    claimed = sum(value.numel() * value.element_size() for value in state.values())
    stored = {
        value.untyped_storage().data_ptr(): value.untyped_storage().nbytes()
        for value in state.values()
    }
    if claimed > MAX_SHARING * sum(stored.values()):
        raise CheckpointError(
            f"{path}: its tensors claim {claimed} bytes, {sum(stored.values())} are stored; save "
            "copies of them"
        )


def _check_values(state: Mapping[str, Tensor], path: Path) -> None:
    for key, value in state.items():
        if value.layout != torch.strided or value.is_quantized:
            raise CheckpointError(f"{path}: {key} is sparse or quantised; save plain tensors")
        if value.is_meta:
            raise CheckpointError(
                f"{path}: {key} has a shape alone, its values are not there (device meta); "
                "fill the network before it is saved"
            )
        if value.dtype not in FLOATS and not _is_count(key, value):
            raise CheckpointError(
                f"{path}: {key} holds {str(value.dtype).removeprefix('torch.')} values, not a "
                "network's weights; save it in float32"
            )
        # A few bytes can claim to be terabytes: strides of zero repeat them.
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise CheckpointError(
                f"{path}: {key} claims {tuple(value.shape)} values of "
                f"{value.untyped_storage().nbytes()} stored bytes; save its .contiguous() copy"
            )
    _refuse_shared(state, path)
    for key, value in state.items():
        if not torch.isfinite(value.float()).all():
            raise CheckpointError(
                f"{path}: {key} holds values that are not finite; take a checkpoint from before "
                "its training broke"
            )


def _is_count(key: str, value: Tensor) -> bool:
    """Tell a counter or an index, which may stand beside the weights."""
    return value.dtype in COUNTS and (value.numel() == 1 or key.endswith(("index", "ids")))


def _without_prefixes(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Take wrappers' prefixes off each key, however often; floats become fp32, all shapes stay.

    Raises:
        CheckpointError: two keys become one.
    """
    renamed = [_own_name(key) for key in state]
    twice = [name for name, count in Counter(renamed).items() if count > 1]
    if twice:
        raise CheckpointError(
            f"{path}: {twice[0]} stands twice, with and without {', '.join(PREFIXES)} or "
            f"{COMPILED_PREFIX}; save one state dict alone"
        )
    values = (value.float() if value.is_floating_point() else value for value in state.values())
    return dict(zip(renamed, values, strict=True))


def _own_name(key: str) -> str:
    name = key.replace(COMPILED_PREFIX, "")
    while name.startswith(PREFIXES):
        name = name.partition(".")[2]
    return name
