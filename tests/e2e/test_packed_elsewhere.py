"""A data set whose shards lie on a server: trained and scored, nothing downloaded or packed."""

import json

import pytest

from tests.server import running_server

pytestmark = pytest.mark.e2e
SPLITS = ("train", "val", "test")


@pytest.mark.exhaustive
def test_a_server_with_shards_is_enough(built, tmp_path):
    with running_server() as server:
        for split in SPLITS:
            for path in (built.root / "results/test/digits/shards" / split).iterdir():
                server.files[f"{split}/{path.name}"] = path.read_bytes()
        urls = [f"  {split}: {server.url(split)}/index.json" for split in SPLITS]
        lines = ["name: far", "task: multiclass", "format: shards", "index_urls:", *urls]
        (tmp_path / "far.yaml").write_text("\n".join(lines) + "\n")
        settings = (
            f'datasets=["{tmp_path / "far.yaml"}"]',
            "results=results/far",
            f'remote={{cache_folder: "{tmp_path / "cache"}"}}',
        )
        call = ("--workflow-profile", "test", "--config", *settings, "--")
        built.snakemake(*call, "eval_far")
        refused = built.snakemake(*call, "download_far", fails=True)
        again = built.snakemake("-n", *call, "eval_far")
    results = built.root / "results/far"
    assert {path.name for path in (results / "far").iterdir()} == {"remote"}
    assert not list((results / "far").rglob("*.tar"))
    assert "its shards are packed already, there is no download of it" in refused
    assert "Nothing to be done" in again
    metrics, local = (
        json.loads((folder / "metrics.json").read_text())
        for folder in (
            results / "avsiam_tiny/eval/far",
            built.root / "results/test/avsiam_tiny/eval/digits",
        )
    )
    for key in ("num_clips", "clip_ids_sha256", "audio", "video", "audio_video"):
        assert metrics[key] == local[key]
