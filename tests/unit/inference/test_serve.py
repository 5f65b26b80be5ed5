"""The page's server, asked as browsers ask it and as other sites would."""

import asyncio
import json
import os
import re
import socket
import subprocess
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from PIL import Image

from pipeline_src.commands.cli import main
from pipeline_src.config import default_config
from pipeline_src.errors import ConfigError
from pipeline_src.inference.model import load
from pipeline_src.inference.search.build import build_index
from pipeline_src.inference.serve import app as app_module
from pipeline_src.inference.serve.app import make_app
from pipeline_src.inference.serve.places import find_index
from pipeline_src.inference.serve.uploads import UploadLimits
from pipeline_src.inference.stream import Options
from tests.checkpoints import make_checkpoint, make_split
from tests.media import make_clip

pytestmark = pytest.mark.slow

OWN = {"X-AV-Pipeline": "1"}
LIMITS = UploadLimits(max_bytes=1 << 20, receive_seconds=1.0)


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    (folder / "tone").mkdir()
    make_clip(folder / "tone/a.mp4", seconds=1.2)
    make_clip(folder / "tone/b.mp4", seconds=1.2, tone=(0.2, 0.5), is_static=True)
    make_clip(folder / "sound.wav", seconds=1.2, has_video=False, options=())
    (folder / "broken.mp4").write_bytes(b"no video at all")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(make_checkpoint(tmp_path_factory.mktemp("run"), classes=()), device="cpu")


@pytest.fixture(scope="module")
def index(model, media, tmp_path_factory):
    folder = tmp_path_factory.mktemp("index") / "i"
    return build_index(model, [media], folder, Options(num_workers=1))


@pytest.fixture
def served(index, model):
    return serving(index, model)


def serving(index, model):
    """Run a coroutine function with a client of a real server on loopback."""

    def run(talk):
        async def serve():
            async with TestClient(TestServer(make_app(index, model, limits=LIMITS))) as client:
                return await talk(client)

        return asyncio.run(serve())

    return run


def get(served, path, **options):
    async def talk(client):
        async with client.get(path, **options) as response:
            return response.status, response.headers, await response.read()

    return served(talk)


def rows(index):
    found = [index.row(int(number)) for number in range(index.num_rows)]
    return {Path(row["clip"]).name: row["row"] for row in found}


def test_the_page_asks_for_nothing_elsewhere(served):
    for path, kind in (("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "javascript")):
        status, headers, body = get(served, path)
        assert status == 200
        assert kind in headers["Content-Type"]
        assert not re.search(rb"https?:|//[a-z]+\.[a-z]", body)
        assert b"innerHTML" not in body
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_what_the_index_holds_without_paths_of_the_machine(served, index):
    about = json.loads(get(served, "/api/index")[2])
    assert (about["num_clips"], about["reasons"]) == (3, {"corrupt": 1})
    assert "checkpoint" not in about
    clip = json.loads(get(served, f"/api/clip/{rows(index)['a.mp4']}")[2])
    assert clip["media"] == "video"
    assert not {"path", "stamp", "sample"} & clip.keys()
    (refused,) = json.loads(get(served, "/api/clips?refused=1")[2])["clips"]
    assert (refused["reason"], Path(refused["clip"]).name) == ("corrupt", "broken.mp4")
    places = json.loads(get(served, "/api/map")[2])
    assert len(places["rows"]) == len(places["x"]) == 3
    named = json.loads(get(served, "/api/clips?text=B.MP4")[2])["clips"]
    assert [Path(one["clip"]).name for one in named] == ["b.mp4"]


def test_search_by_a_clip(served, index):
    number = rows(index)["a.mp4"]
    path = f"/api/search?row={number}&by=audio&against=same"
    clips = json.loads(get(served, path)[2])["clips"]
    assert {Path(one["clip"]).name for one in clips} == {"b.mp4", "sound.wav"}
    assert clips[0]["score"] >= clips[1]["score"]
    only = json.loads(get(served, path + "&label=tone")[2])["clips"]
    assert [Path(one["clip"]).name for one in only] == ["b.mp4"]


def test_lists_go_on_after_each_page(model, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    names = [f"{number:04d}{'odd' if number % 2 else 'even'}.png" for number in range(410)]
    for number, name in enumerate(names):
        Image.new("RGB", (32, 32), (number // 2, 99, 99)).save(pictures / name)
    for number in range(app_module.MAX_LISTED + 1):
        (pictures / f"bad{number}.mp4").write_bytes(b"no video at all")
    served = serving(build_index(model, [pictures], tmp_path / "i", Options()), model)

    def pages(question):
        found, first = [], 0
        while first is not None:
            answer = json.loads(get(served, f"/api/clips?{question}&first={first}")[2])
            found.append([Path(one["clip"]).name for one in answer["clips"]])
            first = answer["next"]
        return found

    assert pages("text=") == [names[:200], names[200:400], names[400:]]
    assert pages("text=EVEN") == [names[:400:2], names[400::2]]
    assert [len(page) for page in pages("refused=1")] == [200, 1]
    assert pages("text=nowhere") == [[]]


def test_a_split_and_a_class_in_it(model, tmp_path):
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
    sources = [make_split(tmp_path / name, name) for name in ("train", "test")]
    index = build_index(model, sources, tmp_path / "i", Options(num_workers=1))
    served = serving(index, model)
    label = index.about["labels"][1].replace(" ", "%20")
    for path in ("/api/clips?first=0", "/api/search?row=0&by=audio&against=same"):
        named = [
            {one["clip"] for one in json.loads(get(served, path + more)[2])["clips"]}
            for more in ("&split=test", f"&split=test&label={label}")
        ]
        assert named == [{"toy/test/test0.mp4", "toy/test/test1.mp4"}, {"toy/test/test1.mp4"}]
        assert get(served, path + "&split=val")[0] == 400
    shown = json.loads(get(served, "/api/map")[2])
    splits = [index.about["splits"][code] for code in shown["splits"]]
    assert splits == ["train", "train", "test", "test"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/search?row=999", 400),
        ("/api/search?row=-1", 400),
        ("/api/search?row=0&top=1000000", 400),
        ("/api/search?row=0&by=smell", 400),
        ("/api/search?row=0&label=nothing", 400),
        ("/api/clips?first=-1", 400),
        ("/api/search?query=unknown", 404),
        ("/api/clip/999", 404),
        ("/media/999", 404),
        ("/media/../../etc/passwd", 404),
        ("/media/..%2f..%2fetc%2fpasswd", 404),
        ("/%2e%2e/%2e%2e/etc/passwd", 404),
        ("/page.js/../app.py", 404),
        ("/static/page.js", 404),
        ("/preview/0/../../x.jpg", 404),
    ],
)
def test_nothing_but_rows_is_answered_with(served, path, status):
    found, headers, body = get(served, path)
    assert found == status
    assert json.loads(body)["error"]
    assert "Content-Security-Policy" in headers
    assert b"root:" not in body


def test_recordings_and_previews_are_served_in_parts(served, index, media):
    number = rows(index)["a.mp4"]
    status, headers, body = get(served, f"/media/{number}", headers={"Range": "bytes=4-7"})
    assert (status, body) == (206, b"ftyp")
    assert headers["Content-Type"] == "video/mp4"
    for kind in ("audio", "video"):
        assert get(served, f"/preview/{number}/{kind}.jpg")[2][:2] == b"\xff\xd8"
    assert get(served, f"/preview/{rows(index)['sound.wav']}/video.jpg")[0] == 404


def test_a_file_put_in_a_clips_place_is_not_served(served, index, media):
    path = media / "tone/b.mp4"
    before = path.stat()
    content = path.read_bytes()
    try:
        path.unlink()
        path.symlink_to("/etc/passwd")
        assert get(served, f"/media/{rows(index)['b.mp4']}")[0] == 404
    finally:
        path.unlink()
        path.write_bytes(content)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert get(served, f"/media/{rows(index)['b.mp4']}")[0] == 200


def test_other_names_and_sites_are_refused(served):
    def post(**headers):
        async def talk(client):
            async with client.post("/api/query", data=b"x", headers=headers) as response:
                return response.status

        return served(talk)

    assert get(served, "/api/index", headers={"Host": "evil.example"})[0] == 403
    assert get(served, "/", headers={"Host": "evil.example:80"})[0] == 403
    assert get(served, "/", headers={"Host": "localhost:1"})[0] == 200
    assert get(served, "/", headers={"Host": "[::1]:1"})[0] == 200
    assert get(served, "/api/index", headers={"Sec-Fetch-Site": "cross-site"})[0] == 403
    assert get(served, "/media/0", headers={"Sec-Fetch-Site": "same-site"})[0] == 403
    assert get(served, "/", headers={"Sec-Fetch-Site": "cross-site"})[0] == 200
    assert post() == 403
    assert post(**OWN, Origin="http://evil.example") == 403
    assert post(**OWN, Origin="null") == 403
    assert post(**OWN) == 422  # it is let in, and no recording


def upload(served, body, name="file", then=None):
    async def talk(client):
        async with client.post(f"/api/query?name={name}", data=body, headers=OWN) as response:
            answer = response.status, await response.json()
        return (*answer, await then(client, answer[1])) if then else answer

    return served(talk)


def leftovers():
    return list(Path(os.environ.get("TMPDIR", "/tmp")).glob("serve-*/*/*"))


@pytest.fixture
def own_temp(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


def test_search_by_an_upload_which_is_gone_afterwards(own_temp, served, media):
    async def then(client, answer):
        assert not leftovers()
        path = f"/api/search?query={answer['query']}&by=audio&against=same"
        async with client.get(path) as response:
            return await response.json()

    body = (media / "tone/b.mp4").read_bytes()
    status, answer, found = upload(served, body, "../../x.mp4", then)
    assert (status, answer["has"]) == (200, ["audio", "video"])
    assert answer["picture"].startswith("data:image/jpeg;base64,")
    assert Path(found["clips"][0]["clip"]).name == "b.mp4"
    assert found["clips"][0]["score"] == pytest.approx(1, abs=1e-4)
    assert not leftovers()


def test_a_refused_upload_says_why_and_nothing_of_the_machine(own_temp, served, tmp_path):
    status, answer = upload(served, b"no video at all", "mine.mp4")
    assert (status, answer["reason"]) == (422, "corrupt")
    assert answer["error"] == f"mine.mp4 was refused: corrupt ({answer['detail']})"
    assert answer["detail"]
    assert str(tmp_path) not in answer["detail"]
    assert upload(served, b"")[1]["reason"] == "corrupt"
    assert not leftovers()


def test_uploads_are_bounded_in_bytes_and_time(own_temp, served):
    async def endless():
        while True:
            yield b"x" * 4096

    async def slow():
        for _ in range(40):
            yield b"x"
            await asyncio.sleep(0.1)

    assert upload(served, b"x" * (LIMITS.max_bytes + 1))[0] == 413
    assert upload(served, endless())[0] == 413
    assert upload(served, slow())[0] == 408
    assert not leftovers()


def test_a_run_gets_an_index_or_the_sentence_that_makes_one(index, tmp_path):
    assert find_index(index.folder, "cpu").num_rows == index.num_rows
    with pytest.raises(ConfigError, match="search build CHECKPOINT FOLDER"):
        find_index(tmp_path, "cpu")


def test_the_demo_ends_with_the_command_that_opens_the_page(root):
    command = ["make", "-n", "--no-print-directory", "demo"]
    planned = subprocess.run(command, cwd=root, capture_output=True, text=True)
    last = planned.stdout.splitlines()[-1]
    (run,) = re.findall(r'^echo "Search .* && av-pipeline serve results/(\w+)"$', last)
    assert run in default_config().runs


def test_a_port_in_use_is_told(index, model):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        with pytest.raises(SystemExit, match=f"--port {port}: cannot listen there"):
            main(["serve", str(index.folder), "--port", port, "--device", "cpu"])


def test_the_static_files_are_part_of_the_package(root):
    listed = (root / "pyproject.toml").read_text()
    assert "inference/serve/static/*" in listed
    assert {path.name for path in app_module.STATIC.iterdir()} == {*app_module.PAGE.values()}
