"""The search page in a real browser: by clip, by upload, by microphone, keys, a phone's width."""

import json
import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from pipeline_src.inference.search.store import ClipIndex
from tests.browser import CHROMIUM, open_browser
from tests.checkpoints import make_checkpoint, make_split
from tests.media import make_clip

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: install it, as .ci/run does"),
]
COMMAND = (sys.executable, "-m", "pipeline_src")
NAMES = "[...document.querySelectorAll('#results strong')].map(e => e.textContent)"
FOUND = "document.querySelectorAll('#results .card').length"
PLAYED = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac")  # by browsers


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for label, is_static in (("still", True), ("moving", False)):
        (folder / label).mkdir()
        for number in range(3):
            tone = (0.2 * number, 0.5 + 0.2 * number)
            path = folder / label / f"{label}{number}.mp4"
            make_clip(path, seconds=1.2, tone=tone, is_static=is_static, options=PLAYED)
    (folder / "moving/<img src=x onerror=alert(1)>.mp4").write_bytes(b"no video at all")
    return folder


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Files that are not in the index."""
    folder = tmp_path_factory.mktemp("others")
    make_clip(folder / "tone.wav", seconds=1.0, has_video=False, options=())
    Image.effect_noise((64, 48), 60).convert("RGB").save(folder / "picture.png")
    (folder / "bad.mp4").write_bytes(b"no video at all")
    return folder


@contextmanager
def serving(folder, root, *sources):
    """The folder of an index that the commands have made, and the address of its page."""
    checkpoint = make_checkpoint(folder / "run", classes=())
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONUNBUFFERED": "1"}
    index = folder / "index"
    build = (*COMMAND, "search", "build", checkpoint, *sources, "--index", index, "--device", "cpu")
    subprocess.run(build, env=environment, check=True, capture_output=True)
    serve = (*COMMAND, "serve", index, "--port", "0", "--device", "cpu")
    with subprocess.Popen(serve, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            address = next(
                found.group()
                for line in process.stderr
                if (found := re.search(r"http://127\.0\.0\.1:[1-9]\d*", line))
            )
            yield ClipIndex(index), address
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def served(media, tmp_path_factory, root):
    with serving(tmp_path_factory.mktemp("search"), root, media) as served:
        yield served


@pytest.fixture(scope="module")
def served_many(tmp_path_factory, root):
    """More pictures than a list shows at once, and packed clips of two splits."""
    folder = tmp_path_factory.mktemp("many")
    (folder / "pictures").mkdir()
    for number in range(405):
        picture = Image.new("RGB", (32, 32), (number // 2, 99, 99))
        picture.save(folder / f"pictures/{number}{'odd' if number % 2 else 'even'}.png")
    splits = []
    for split in ("train", "test"):
        (folder / split).mkdir()
        splits.append(make_split(folder / split, split))
    with serving(folder, root, folder / "pictures", *splits) as served:
        yield served


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@contextmanager
def opened(browser, address):
    browser.said.clear()
    browser.size(1280, 860)
    browser.open(address + "/")
    browser.wait("document.readyState === 'complete' && state.map && state.drawn.length")
    yield browser
    assert not browser.problems()
    assert browser.hosts() <= {address.removeprefix("http://")}


@pytest.fixture
def page(browser, served):
    with opened(browser, served[1]) as page:
        yield page


@pytest.fixture
def page_of_many(browser, served_many):
    with opened(browser, served_many[1]) as page:
        yield page


def place(page, number):
    """Where a clip of the map is in the window."""
    box = "document.getElementById('map').getBoundingClientRect()"
    return page.run(f"[{box}.left + state.drawn[{number}].x, {box}.top + state.drawn[{number}].y]")


def test_the_map_says_which_clip_a_point_is(page, served):
    for number in (0, 3):
        row = served[0].row(page.run(f"state.drawn[{number}].row"))
        page.point(*place(page, number))
        page.wait(f"!$('tip').hidden && state.at === state.drawn[{number}].k")
        name = Path(row["clip"]).name
        (label,) = row["labels"]
        assert name.startswith(label)
        said = f"{label} · {label}/{name}"
        page.wait(f"$('tip').innerText.trim() === {json.dumps(said)}")
        loaded = "[...document.querySelectorAll('#tip img')].map(e => e.naturalWidth > 0)"
        page.wait(f"{loaded}.every(Boolean)")
        assert page.run(loaded) == [True, True]  # its picture and its spectrogram


def plays(page, within):
    """Wait until a video's time goes on, with a picture."""
    video = f"document.querySelector('{within} video')"
    page.wait(f"!!{video} && {video}.readyState >= 2 && {video}.currentTime > 0.2")
    assert page.run(f"[{video}.videoWidth, {video}.videoHeight]") == [64, 48]


def test_a_result_plays(page):
    page.point(*place(page, 0), clicks=True)
    plays(page, "#wanted")
    page.run("[...document.querySelectorAll('#wanted button')].at(-1).click()")
    assert page.wait(FOUND) == 5
    page.run("document.querySelector('#results .card:nth-child(2) .play').click()")
    plays(page, "#results .card:nth-child(2)")
    assert page.run("document.querySelector('#wanted video').paused")


def test_search_by_sound_and_by_picture_of_a_clip(page):
    page.point(*place(page, 0), clicks=True)
    page.wait("state.wanted && !!document.querySelector('#wanted video')")
    for by in ("audio other", "video other", "audio same", "video same", "both other"):
        page.run("document.querySelectorAll('#results .card').forEach(e => e.remove())")
        page.run(f"document.querySelector('[value=\"{by}\"]').click()")
        assert page.wait(FOUND) == 5  # all but itself and the refused one
        assert page.run("[...document.querySelectorAll('#results img')].length") == 10
    scores = page.run("[...document.querySelectorAll('#results meter')].map(e => e.value)")
    assert scores == sorted(scores, reverse=True)
    page.run("$('label').value = 'still'; $('label').onchange()")
    page.wait(f"{FOUND} <= 3")
    assert set(page.run(NAMES)) == {"still"}


def test_a_class_and_a_split(page_of_many, served_many):
    page, index = page_of_many, served_many[0]
    assert index.about["splits"] == ["test", "train"]
    label = index.about["labels"][0]
    page.run("$('split').value = 'test'; $('split').onchange()")
    rows = page.wait("state.drawn.length === 2 && state.drawn.map(e => e.row)")
    assert [index.row(row)["clip"] for row in rows] == ["toy/test/test0.mp4", "toy/test/test1.mp4"]
    page.point(*place(page, 1), clicks=True)
    page.wait("state.wanted && state.wanted.clip === 'toy/test/test1.mp4'")
    page.run("$('split').value = 'train'; $('split').onchange()")
    page.run("[...document.querySelectorAll('#wanted button')].at(-1).click()")
    page.wait(f"{FOUND} === 2")
    names = "[...document.querySelectorAll('#results .name')].map(e => e.title)"
    assert set(page.run(names)) == {"toy/train/train0.mp4", "toy/train/train1.mp4"}
    page.run(f"$('label').value = {json.dumps(label)}; $('label').onchange()")
    page.wait(f"{FOUND} === 1")
    assert page.run(names) == ["toy/train/train0.mp4"]
    page.run("$('tab-clips').click()")
    listed = "[...document.querySelectorAll('#clips .name')].map(e => e.title)"
    assert page.wait(f"{listed}.length === 1 && {listed}") == ["toy/train/train0.mp4"]


def test_every_clip_that_a_text_names_can_be_reached(page_of_many):
    page = page_of_many
    count = "document.querySelectorAll('#clips .card').length"
    page.run("$('tab-clips').click()")
    page.wait(f"{count} === 200 && !$('more-clips').hidden")
    page.run("$('text').value = 'even.png'; $('text').oninput()")
    page.wait("[...document.querySelectorAll('#clips .name')].every(e => /even/.test(e.title))")
    assert page.run(count) == 200
    assert not page.run("$('more-clips').hidden")
    page.run("$('more-clips').click()")
    page.wait(f"{count} === 203 && $('more-clips').hidden")
    names = page.run("[...document.querySelectorAll('#clips .name')].map(e => e.title)")
    assert len(set(names)) == 203
    assert all(name.endswith("even.png") for name in names)


def test_search_by_an_upload_and_one_that_is_refused(page, others):
    page.choose_file("#file", others / "picture.png")
    assert page.wait(FOUND) == 6
    assert page.run("document.querySelector('[value=\"audio other\"]').disabled")
    page.choose_file("#file", others / "tone.wav")
    page.wait("state.wanted.clip === 'tone.wav'")
    assert page.run("document.querySelector('[value=\"video other\"]').disabled")
    page.choose_file("#file", others / "bad.mp4")
    page.wait("!$('problem').hidden")
    assert page.run("$('problem').textContent").startswith("bad.mp4 was refused: corrupt")
    page.run("$('tab-refused').click()")
    page.wait("$('refused').tBodies[0].rows.length === 1")
    told = page.run("$('refused').innerText")
    assert "<img src=x onerror=alert(1)>.mp4" in told  # text, not markup
    assert "corrupt" in told


def test_search_by_a_recording(page):
    page.run("$('record').click()")
    page.wait("$('record').textContent.startsWith('Stop')")
    time.sleep(1.5)
    page.run("$('record').click()")
    page.wait("state.wanted && state.wanted.clip === 'recording'")
    assert page.wait(FOUND) == 6
    assert page.run("state.wanted.has") == ["audio"]


def test_keys_alone(page):
    page.run("$('map').focus()")
    page.press("ArrowRight")
    page.wait("!$('tip').hidden")
    first = page.run("state.at")
    for key in ("ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp"):
        page.press(key)
    page.wait("state.at >= 0")
    assert page.run("$('map-said').textContent")
    page.press("Enter")
    assert page.wait(FOUND) == 5
    page.run("$('tab-results').focus()")
    page.press("ArrowRight")
    page.wait("!$('panel-clips').hidden && document.querySelectorAll('#clips .card').length === 6")
    assert page.run("document.activeElement.id") == "tab-clips"
    assert isinstance(first, int)


def test_a_phone_shows_all_of_it(page, tmp_path):
    page.size(390, 844, is_phone=True)
    for view in ("map", "results", "clips", "refused"):
        page.run(f"$('tab-{view}').click()")
        assert page.run("document.documentElement.scrollWidth <= innerWidth"), view
        small = page.run(
            "[...document.querySelectorAll('button, select')].filter(e => e.offsetParent)"
            ".filter(e => e.getBoundingClientRect().height < 40).map(e => e.id || e.textContent)"
        )
        assert json.dumps(small) == "[]"
    page.run("$('tab-map').click()")
    page.run("$('map').scrollIntoView()")
    page.point(*place(page, 2), clicks=True)
    page.wait("state.wanted && !!document.querySelector('#wanted video')")
    box = page.run("(r => [r.top, r.bottom])($('wanted').getBoundingClientRect())")
    assert 0 <= box[0] < box[1] <= 844
    page.picture(tmp_path / "phone.png")
    assert Image.open(tmp_path / "phone.png").size == (390, 844)
