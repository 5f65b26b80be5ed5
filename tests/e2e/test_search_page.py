"""The search page in a real browser: by clip, by upload, by microphone, keys, a phone's width."""

import os
import re
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image
from playwright.sync_api import expect

from pipeline_src.inference.search.store import ClipIndex
from tests.browser import PHONE, needs_chromium, open_browser, open_page, wait_until
from tests.checkpoints import make_checkpoint, make_split
from tests.media import make_clip

pytestmark = [pytest.mark.e2e, needs_chromium]
COMMAND = (sys.executable, "-m", "pipeline_src")
RESULTS = "#results .card"
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
def browser():
    with open_browser() as browser:
        yield browser


@contextmanager
def opened(browser, address, **options):
    options = {"viewport": {"width": 1280, "height": 860}, **options}
    with open_page(browser, address + "/", **options) as page:
        wait_until(page, "state.map && state.drawn.length")
        yield page


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
    box = page.locator("#map").bounding_box()
    x, y = page.evaluate(f"[state.drawn[{number}].x, state.drawn[{number}].y]")
    return box["x"] + x, box["y"] + y


def titles(page, within):
    """Whole names of the clips that a list shows."""
    return page.locator(f"{within} .name").evaluate_all("all => all.map(e => e.title)")


def test_the_map_says_which_clip_a_point_is(page, served):
    for number in (0, 3):
        row = served[0].row(page.evaluate(f"state.drawn[{number}].row"))
        page.mouse.move(*place(page, number))
        name = Path(row["clip"]).name
        (label,) = row["labels"]
        assert name.startswith(label)
        expect(page.locator("#tip")).to_have_text(f"{label} · {label}/{name}")
        expect(page.locator("#tip")).to_be_visible()
        # Its picture and its spectrogram.
        loaded = "[...document.querySelectorAll('#tip img')].map(e => e.naturalWidth > 0)"
        wait_until(page, f"{loaded}.length === 2 && {loaded}.every(Boolean)")


def plays(page, within):
    """Wait until a video plays, with a picture."""
    video = f"document.querySelector('{within} video')"
    wait_until(page, f"{video} && {video}.readyState >= 2 && {video}.currentTime > 0.2")
    assert page.evaluate(f"[{video}.videoWidth, {video}.videoHeight]") == [64, 48]


def test_a_result_plays(page):
    page.mouse.click(*place(page, 0))
    plays(page, "#wanted")
    page.get_by_role("button", name="Find nearest").click()
    expect(page.locator(RESULTS)).to_have_count(5)
    page.locator(RESULTS).nth(1).locator(".play").click()
    plays(page, "#results .card:nth-child(2)")
    assert page.locator("#wanted video").evaluate("e => e.paused")


def test_search_by_sound_and_by_picture_of_a_clip(page):
    page.mouse.click(*place(page, 0))
    expect(page.locator("#wanted video")).to_be_visible()
    for by in ("audio other", "video other", "audio same", "video same", "both other"):
        page.locator(RESULTS).evaluate_all("all => all.forEach(e => e.remove())")
        page.check(f"[value='{by}']")
        expect(page.locator(RESULTS)).to_have_count(5)  # all but itself and the refused one
        expect(page.locator("#results img")).to_have_count(10)
    scores = page.locator("#results meter").evaluate_all("all => all.map(e => e.value)")
    assert scores == sorted(scores, reverse=True)
    page.select_option("#label", "still")
    wait_until(page, f"document.querySelectorAll('{RESULTS}').length <= 3")
    assert set(page.locator("#results strong").all_inner_texts()) == {"still"}


def test_a_class_and_a_split(page_of_many, served_many):
    page, index = page_of_many, served_many[0]
    assert index.about["splits"] == ["test", "train"]
    label = index.about["labels"][0]
    page.select_option("#split", "test")
    rows = page.evaluate("state.drawn.map(e => e.row)")
    assert [index.row(row)["clip"] for row in rows] == ["toy/test/test0.mp4", "toy/test/test1.mp4"]
    page.mouse.click(*place(page, 1))
    wait_until(page, "state.wanted && state.wanted.clip === 'toy/test/test1.mp4'")
    page.select_option("#split", "train")
    page.get_by_role("button", name="Find nearest").click()
    expect(page.locator(RESULTS)).to_have_count(2)
    assert set(titles(page, "#results")) == {"toy/train/train0.mp4", "toy/train/train1.mp4"}
    page.select_option("#label", label)
    expect(page.locator(RESULTS)).to_have_count(1)
    assert titles(page, "#results") == ["toy/train/train0.mp4"]
    page.click("#tab-clips")
    expect(page.locator("#clips .card")).to_have_count(1)
    assert titles(page, "#clips") == ["toy/train/train0.mp4"]


def test_every_clip_that_a_text_names_can_be_reached(page_of_many):
    page, cards, more = page_of_many, page_of_many.locator("#clips .card"), "#more-clips"
    page.click("#tab-clips")
    expect(cards).to_have_count(200)
    expect(page.locator(more)).to_be_visible()
    page.fill("#text", "even.png")
    wait_until(
        page, "[...document.querySelectorAll('#clips .name')].every(e => /even/.test(e.title))"
    )
    assert cards.count() == 200
    page.click(more)
    expect(cards).to_have_count(203)
    expect(page.locator(more)).to_be_hidden()
    names = titles(page, "#clips")
    assert len(set(names)) == 203
    assert all(name.endswith("even.png") for name in names)


def test_search_by_an_upload_and_one_that_is_refused(page, others):
    page.set_input_files("#file", others / "picture.png")
    expect(page.locator(RESULTS)).to_have_count(6)
    expect(page.locator("[value='audio other']")).to_be_disabled()
    page.set_input_files("#file", others / "tone.wav")
    expect(page.locator("#wanted .name")).to_have_attribute("title", "tone.wav")
    expect(page.locator("[value='video other']")).to_be_disabled()
    page.set_input_files("#file", others / "bad.mp4")
    expect(page.locator("#problem")).to_contain_text("bad.mp4 was refused: corrupt")
    page.click("#tab-refused")
    rows = page.locator("#refused tbody tr")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("<img src=x onerror=alert(1)>.mp4")  # text, not markup
    expect(rows).to_contain_text("corrupt")


def test_search_by_a_recording(page):
    page.click("#record")
    expect(page.locator("#record")).to_contain_text("Stop")
    time.sleep(1.5)
    page.click("#record")
    expect(page.locator("#wanted .name")).to_have_attribute("title", "recording")
    expect(page.locator(RESULTS)).to_have_count(6)
    assert page.evaluate("state.wanted.has") == ["audio"]


def test_keys_alone(page):
    page.focus("#map")
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp"):
        page.keyboard.press(key)
    expect(page.locator("#tip")).to_be_visible()
    expect(page.locator("#map-said")).not_to_be_empty()
    page.keyboard.press("Enter")
    expect(page.locator(RESULTS)).to_have_count(5)
    page.focus("#tab-results")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tab-clips")).to_be_focused()
    expect(page.locator("#clips .card")).to_have_count(6)
    expect(page.locator("#panel-clips")).to_be_visible()


def test_a_phone_shows_all_of_it(browser, served, tmp_path):
    with opened(browser, served[1], **PHONE) as page:
        for view in ("map", "results", "clips", "refused"):
            page.tap(f"#tab-{view}")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
            heights = page.locator("button:visible, select:visible").evaluate_all(
                "all => all.map(e => [e.getBoundingClientRect().height, e.id || e.textContent])"
            )
            assert [name for height, name in heights if height < 40] == []
        page.tap("#tab-map")
        page.locator("#map").scroll_into_view_if_needed()
        page.touchscreen.tap(*place(page, 2))
        wanted = page.locator("#wanted")
        expect(wanted.locator("video")).to_be_visible()
        box = wanted.bounding_box()
        assert 0 <= box["y"] < box["y"] + box["height"] <= 844
        page.screenshot(path=tmp_path / "phone.png")
        assert Image.open(tmp_path / "phone.png").size == (390, 844)


def test_an_upload_that_never_ends_does_not_keep_the_server_from_stopping(media, tmp_path, root):
    lines = ("POST /api/query HTTP/1.1", "Host: localhost", "X-AV-Pipeline: 1")
    with socket.socket() as connection:
        with serving(tmp_path, root, media) as (_, address):
            to = urlsplit(address)
            connection.connect((to.hostname, to.port))
            connection.sendall("\r\n".join((*lines, "Content-Length: 9", "", "x")).encode())
            time.sleep(1)  # it is being received
            begun = time.monotonic()
        assert time.monotonic() - begun < 30  # the library's own patience is 60 s
