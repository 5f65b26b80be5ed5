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


def test_every_guard_of_the_security_page_has_its_test(root):
    rows = [line for line in (root / "SECURITY.md").read_text().splitlines() if line[:2] == "| "]
    named = [re.findall(r"`(?:tests/([\w/]+)/)?(test_\w+\.py)`", row) for row in rows[1:]]
    assert all(named)
    for tests in named:
        folder = ""
        for given, name in tests:
            folder = given or folder
            assert (root / "tests" / folder / name).is_file(), name
