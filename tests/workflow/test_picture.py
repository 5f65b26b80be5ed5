"""The README's picture of the pipeline shows the rules that there are."""

import importlib.util


def test_the_picture_shows_the_rules_and_what_they_read(root, shell_env, monkeypatch):
    monkeypatch.setattr("os.environ", shell_env)
    path = root / "docs/draw_pipeline.py"
    spec = importlib.util.spec_from_file_location("draw_pipeline", path)
    picture = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(picture)
    drawn = picture.drawn_graph(picture.PICTURE.read_text(encoding="utf-8"))
    assert drawn == picture.rule_graph(), f"run python {path.relative_to(root)}"
    assert picture.PICTURE.name in (root / "README.md").read_text(encoding="utf-8")
