"""Colours that colour-blind readers tell apart, on the light and on the dark page."""

import re
from itertools import combinations

import numpy as np
import pytest

from pipeline_src.report.colours import PALETTES, SURFACES, css_colours, palette_css

LEAST_DIFFERENCE, LEAST_CONTRAST = 13.0, 3.0
# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": np.array([
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ]),
    "deuteranopia": np.array([
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]),
}  # fmt: skip
TO_XYZ = np.array([
    [0.4124564, 0.3575761, 0.1804375],
    [0.2126729, 0.7151522, 0.0721750],
    [0.0193339, 0.1191920, 0.9503041],
])  # fmt: skip


def linear(colour):
    values = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(first, second):
    """WCAG's contrast of two colours."""
    dark, bright = sorted(float(TO_XYZ[1] @ linear(colour)) for colour in (first, second))
    return (bright + 0.05) / (dark + 0.05)


def lab(rgb):
    shares = TO_XYZ @ np.clip(rgb, 0, 1) / TO_XYZ.sum(axis=1)
    x, y, z = np.where(shares > 216 / 24389, np.cbrt(shares), (24389 / 27 * shares + 16) / 116)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def difference(first, second):
    """CIEDE2000 of two CIELAB colours (Sharma, Wu and Dalal 2005)."""
    (l1, a1, b1), (l2, a2, b2) = first, second
    c7 = ((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2) ** 7
    stretch = 1.5 - 0.5 * np.sqrt(c7 / (c7 + 25**7))
    c1, c2 = np.hypot(a1 * stretch, b1), np.hypot(a2 * stretch, b2)
    h1, h2 = (np.degrees(np.arctan2(b, a * stretch)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = (h2 - h1 + 180) % 360 - 180
    hue = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2))
    lm, cm = (l1 + l2) / 2, (c1 + c2) / 2
    hm = (h1 + h2 + 360 * (abs(h1 - h2) > 180)) / 2
    t = 1 - 0.17 * np.cos(np.radians(hm - 30)) + 0.24 * np.cos(np.radians(2 * hm))
    t += 0.32 * np.cos(np.radians(3 * hm + 6)) - 0.2 * np.cos(np.radians(4 * hm - 63))
    light = (l2 - l1) / (1 + 0.015 * (lm - 50) ** 2 / np.sqrt(20 + (lm - 50) ** 2))
    chroma, hue = (c2 - c1) / (1 + 0.045 * cm), hue / (1 + 0.015 * cm * t)
    turned = np.sin(np.radians(60 * np.exp(-(((hm - 275) / 25) ** 2))))
    turned *= -2 * np.sqrt(cm**7 / (cm**7 + 25**7))
    return float(np.sqrt(light**2 + chroma**2 + hue**2 + turned * chroma * hue))


def test_the_difference_is_the_published_one():
    # Pairs 1, 7 and 17 of the table of Sharma, Wu and Dalal.
    assert difference((50, 2.6772, -79.7751), (50, 0, -82.7485)) == pytest.approx(2.0425, abs=1e-4)
    assert difference((50, 0, 0), (50, -1, 2)) == pytest.approx(2.3669, abs=1e-4)
    assert difference((50, 2.5, 0), (73, 25, -18)) == pytest.approx(27.1492, abs=1e-4)


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("theme", PALETTES)
def test_any_two_of_the_ten_colours_differ(theme, sight):
    seen = [lab(SIGHT[sight] @ linear(colour)) for colour in PALETTES[theme]]
    assert len(set(PALETTES[theme])) == 10
    assert min(difference(*pair) for pair in combinations(seen, 2)) >= LEAST_DIFFERENCE


@pytest.mark.parametrize("theme", PALETTES)
def test_every_colour_stands_out_from_the_page_and_its_cards(theme):
    for colour in PALETTES[theme]:
        for surface in SURFACES[theme]:
            assert contrast(colour, surface) >= LEAST_CONTRAST, (colour, surface)


def test_the_search_page_has_the_same_colours_on_its_own_cards(root):
    css = (root / "pipeline_src/inference/serve/static/page.css").read_text(encoding="utf-8")
    light, dark = css.split("prefers-color-scheme: dark")
    for theme, text in (("light", light), ("dark", dark)):
        assert tuple(re.findall(r"--c\d: (#\w{6});", text)) == PALETTES[theme]
        (card,) = re.findall(r"--sheet: (#\w+);", text)
        card = "#ffffff" if card == "#fff" else card
        assert all(contrast(colour, card) >= LEAST_CONTRAST for colour in PALETTES[theme])


def test_stand_ins_become_css():
    assert css_colours("#010203 #0a0b09 #0a0b00") == "currentColor var(--c9) var(--c0)"
    assert palette_css("light").startswith("--page: #f6f7f9; --card: #ffffff; --c0: ")
