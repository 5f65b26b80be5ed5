"""Colours of the page, and the stand-ins that drawings use for them.

A drawing follows the reader's light or dark theme, so matplotlib draws stand-ins, colours that
nothing else has, which become CSS variables afterwards. Ten colours differ by at least 13 in
CIEDE2000 for normal sight and under simulated protanopia and deuteranopia, and each has a contrast
of at least 3 to the page's surfaces; ``tests/unit/report/test_colours.py`` computes both.
"""

from pipeline_src.modalities import HEADS

SURFACES = {"light": ("#f6f7f9", "#ffffff"), "dark": ("#14171b", "#1c2026")}  # page and card
# Found by annealing; the first three, of audio, video and both, are blue, orange and green.
PALETTES = {
    "light": (
        "#178dfa", "#c3660c", "#018072", "#400fe5", "#f63899",
        "#704304", "#3c9aac", "#901281", "#b60556", "#1ba263",
    ),
    "dark": (
        "#2e8aff", "#f28908", "#1b886e", "#56ddfd", "#b353a2",
        "#d2ed82", "#c792b4", "#c15f2f", "#21fdd0", "#32b781",
    ),
}  # fmt: skip
TEXT_COLOUR = "#010203"
RULE_COLOUR = "#040506"
NEUTRAL_COLOUR = "#070809"
CLASS_COLOURS = tuple(f"#0a0b{index:02x}" for index in range(10))
HEAD_COLOURS: dict[str, str] = dict(zip(HEADS, CLASS_COLOURS, strict=False))
CSS_COLOURS = {
    TEXT_COLOUR: "currentColor",
    RULE_COLOUR: "var(--rule)",
    NEUTRAL_COLOUR: "var(--muted)",
    **{colour: f"var(--c{index})" for index, colour in enumerate(CLASS_COLOURS)},
}
HEAT_RGB = (61, 132, 198)  # of shares, by its opacity, on either theme's card


def css_colours(text: str) -> str:
    """Replace every stand-in by the CSS that it stands for."""
    for stand_in, css in CSS_COLOURS.items():
        text = text.replace(stand_in, css)
    return text


def palette_css(theme: str) -> str:
    """Declare surfaces and palette of a theme as CSS variables."""
    page, card = SURFACES[theme]
    colours = "".join(f" --c{index}: {colour};" for index, colour in enumerate(PALETTES[theme]))
    return f"--page: {page}; --card: {card};{colours}"
