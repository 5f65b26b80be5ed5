"""Whether DVC can keep versions of a results folder where it lies."""

from collections.abc import Iterator
from pathlib import Path

from pipeline_src.errors import StageError

ADVICE = (
    "give results a real folder inside the checkout (mount --bind, or `dvc config --local "
    "cache.dir <big disk>/dvc` with `dvc config --local cache.type symlink`), or leave DVC out: "
    "snakemake alone follows links and writes anywhere"
)


def refuse_outside(results: Path, root: Path) -> None:
    """Refuse results that DVC would fail on after the work is done.

    Raises:
        StageError: they lie behind a link or outside of ``root``; says what to do.
    """
    for problem in problems_of(results, root):
        raise StageError(f"{problem}; {ADVICE}")


def problems_of(results: Path, root: Path) -> Iterator[str]:
    """Yield what is in DVC's way: links on the way to stages' outputs, or another folder tree."""
    root = root.resolve()
    path = results if results.is_absolute() else root / results
    if not path.is_relative_to(root):
        yield f"{results} lies outside of {root}, and DVC versions no folder outside"
        return
    on_the_way = [path, *path.parents]
    for folder in reversed(on_the_way[: on_the_way.index(root)]):
        if folder.is_symlink():
            yield _linked(folder, root)
            return
    # <results>/<data set or run>/<stage>: what stages name as their outputs.
    for pattern in ("*", "*/*"):
        for folder in sorted(path.glob(pattern)):
            if folder.is_symlink() and folder.is_dir():
                yield _linked(folder, root)


def _linked(folder: Path, root: Path) -> str:
    return (
        f"{folder.relative_to(root)} is a link to {folder.readlink()}, and DVC versions nothing "
        "behind a link"
    )
