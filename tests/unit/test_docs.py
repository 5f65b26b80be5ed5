"""What the documentation names exists."""

import re


def test_every_test_that_the_decisions_name_exists(root):
    named = set(re.findall(r"`(test_\w+)`", (root / "docs/decisions.md").read_text()))
    assert len(named) > 20
    files = (root / "tests").rglob("test_*.py")
    written = {
        name for path in files for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    assert named - written == set()
