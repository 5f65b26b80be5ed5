"""What the chunk stages share: rows, members and manifest of what was made and of what failed."""

from pipeline_src.errors import MediaError
from pipeline_src.manifest.chunks import ChunkId, ChunkManifest, bulk_path, read_chunk
from pipeline_src.manifest.ledger import read_ledger
from pipeline_src.manifest.stage import Made, publish_chunk, write_results
from pipeline_src.manifest.tars import read_members

CLIPS = [{"clip_id": name, "key": name, "labels": [0], "flags": ["short"]} for name in ("a", "b")]
DECODED = {
    **{"source": "a.mp4", "start_seconds": 0.0, "end_seconds": 1.0, "duration_seconds": 1.0},
    **{"fps": 1.0, "frame_seconds": [], "audio_codec": "flac", "video_codec": ""},
}


def test_a_failed_clip_is_a_row_and_has_no_members(tmp_path):
    clips = [clip | DECODED for clip in CLIPS]
    dropped = [{"clip_id": "gone", "reason": "removed"}]
    id = ChunkId("toy", "train", "00000")
    source = ChunkManifest("transcode", id, 1, 3, None, {}, clips, dropped, input_hash="")
    made = Made(clips[0], [("a.flac", b"sound"), ("a.jpg", b"frame")], "short_seconds=1")
    results = zip(clips, (made, MediaError("corrupt", "no frame")), strict=True)

    tar_path, ledger_path = tmp_path / "00000.tar", tmp_path / "00000.ledger.csv"
    rows, entries = write_results(tar_path, results)
    publish_chunk(
        "logmel",
        source,
        rows,
        entries,
        manifest_path=tmp_path / "00000.json",
        ledger_path=ledger_path,
        tar_path=tar_path,
        settings={"num_mel_bins": 8},
        version=2,
        input_hash="hash",
    )

    manifest = read_chunk(tmp_path / "00000.json", "logmel")
    assert (manifest.id, manifest.num_in, manifest.version) == (id, 3, 2)
    assert (manifest.clips, manifest.input_hash) == ([clips[0]], "hash")
    assert manifest.dropped == [*dropped, {"clip_id": "b", "reason": "corrupt"}]
    assert dict(read_members(bulk_path(tmp_path / "00000.json", manifest))) == dict(made.members)
    found = [(r.clip_id, r.status, r.reason, r.flags, r.detail) for r in read_ledger(ledger_path)]
    assert found == [
        ("a", "ok", "", "short", "short_seconds=1"),
        ("b", "failed", "corrupt", "", "no frame"),
        ("gone", "skipped", "removed", "", ""),
    ]
