"""From a checkpoint to the clips of one's own folder that go with a sound or a picture.

    python examples/quickstart.py results/avsiam_tiny/pretrain my_videos query.wav

Prints the clips of ``my_videos`` whose pictures go best with the sound of the query, and the other
way round where the query has pictures too.
"""

import argparse

import numpy as np

from pipeline_src import load


def main() -> None:
    """Embed a folder and a query, and rank the folder by cosine similarity."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", help="of a pre-training, e.g. results/avsiam_tiny/pretrain")
    parser.add_argument("folder", help="of videos, sounds and pictures")
    parser.add_argument("query", help="a file or URL")
    parser.add_argument("--top", type=int, default=5)
    options = parser.parse_args()

    model = load(options.checkpoint)
    clips = model.embed(options.folder, progress=options.folder)  # a row per file or window
    (query, *_) = model.embed(options.query)
    for clip in clips:
        if not clip.is_ok:
            print(f"passed over: {clip.span.source} ({clip.span.reason}: {clip.span.detail})")

    for asked, shown in (("audio", "video"), ("video", "audio")):
        vector = query.compared(asked)
        found = [clip for clip in clips if clip.compared(shown) is not None]
        if vector is None or not found:
            continue
        scores = np.stack([clip.compared(shown) for clip in found]) @ vector
        print(f"\nThe query's {asked}, and the {shown} that is nearest to it:")
        for place in np.argsort(-scores)[: options.top]:
            span = found[place].span
            times = f"{span.start_seconds:.1f} to {span.end_seconds:.1f} s"
            print(f"  {scores[place]:+.3f}  {span.source}  {times}")


if __name__ == "__main__":
    main()
