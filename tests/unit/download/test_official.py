"""Published lists and archives are fetched where they are missing: bounded, resumed, pinned."""

import hashlib
import io
import json
import socket
import tarfile
import zipfile

import pytest

from pipeline_src.config.data import DownloadConfig, RateLimitConfig
from pipeline_src.datasets.dataset import load_dataset
from pipeline_src.download.official import fetch_official
from pipeline_src.errors import ManifestError
from tests.media import make_clip
from tests.server import running_server
from tests.workspace import Workspace

pytestmark = pytest.mark.slow

LIST = b'abcdefghijk,0,dog barking,train\nbbcdefghijk,1,"cat, purring",test\n'
NETWORK = RateLimitConfig(backoff_seconds=0)
QUICK = DownloadConfig(max_attempts=3)


@pytest.fixture
def server():
    with running_server() as running:
        running.files["list.csv"] = LIST
        yield running


def describe(folder, *files, name="far", **more):
    values = {"name": name, "task": "multiclass", "format": "vggsound", "clip_list": "list.csv"}
    values |= {"class_names": "classes.csv", "root": "data/root", "licence": "CC-BY-4.0"}
    values |= {"classes_from_list": True, "official": list(files), **more}
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(values))
    return path


def fetch(folder, *files, config=QUICK, **more):
    said = []
    dataset = load_dataset(describe(folder, *files, **more))
    fetch_official(dataset, config, NETWORK, said.append)
    return "\n".join(said)


def test_a_missing_list_is_fetched_once_and_pinned(tmp_path, server):
    file = {"url": server.url("list.csv"), "path": "list.csv", "max_bytes": 1000}
    said = fetch(tmp_path, file)
    assert "licence: CC-BY-4.0" in said
    assert "not known before, pinned in list.csv.lock.json" in said
    assert (tmp_path / "list.csv").read_bytes() == LIST
    names = (tmp_path / "classes.csv").read_text()
    assert (
        names
        == 'index,id,display_name\n0,"cat, purring","cat, purring"\n1,dog barking,dog barking\n'
    )
    lock = json.loads((tmp_path / "list.csv.lock.json").read_text())
    assert lock["sha256"] == hashlib.sha256(LIST).hexdigest()
    assert (lock["url"], lock["bytes"]) == (file["url"], len(LIST))
    assert fetch(tmp_path, file) == ""
    assert server.requests["list.csv"] == 1
    (tmp_path / "list.csv").unlink()
    assert "(as known)" in fetch(tmp_path, file)
    (tmp_path / "list.csv").unlink()
    server.files["list.csv"] = LIST + b"x"
    with pytest.raises(ManifestError, match=r"list\.csv\.lock\.json says .* published anew"):
        fetch(tmp_path, file)
    assert not (tmp_path / "list.csv").exists()


def test_a_known_sum_is_compared(tmp_path, server):
    file = {"url": server.url("list.csv"), "path": "list.csv", "max_bytes": 1000}
    with pytest.raises(ManifestError, match="its data set's YAML says 0000"):
        fetch(tmp_path, file | {"sha256": "0" * 64})
    fetch(tmp_path, file | {"sha256": hashlib.sha256(LIST).hexdigest()})


def test_what_broke_off_continues(tmp_path, server):
    file = {"url": server.url("torn.csv"), "path": "list.csv", "max_bytes": 10**6}
    fetch(tmp_path, file, classes_from_list=False)
    assert server.ranges or (tmp_path / "list.csv").stat().st_size == 300_000


@pytest.mark.parametrize(
    ("name", "message"),
    [("404", "HTTP 404"), ("see-good", "a web page"), ("huge", "larger"), ("endless", "larger")],
)
def test_what_cannot_be_had_says_todays_sentence_and_why(tmp_path, server, name, message):
    file = {"url": server.url(name), "path": "list.csv", "max_bytes": 400_000}
    with pytest.raises(ManifestError, match=r"list\.csv: no such file; data set far") as error:
        fetch(tmp_path, file)
    assert "It could not be fetched" in str(error.value)
    assert message in str(error.value) or name in ("huge", "endless")
    assert not (tmp_path / "list.csv").exists()


def test_what_does_not_answer_says_the_same(tmp_path, server):
    with socket.socket() as closed:  # bound and not listening: connections are refused
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/list.csv"
        for url in (address, "http://nowhere.invalid/list.csv"):
            file = {"url": url, "path": "list.csv", "max_bytes": 1000}
            with pytest.raises(ManifestError, match="no such file; data set far") as error:
                fetch(tmp_path, file)
            assert "It could not be fetched" in str(error.value)
            assert not list(tmp_path.glob("list.csv*"))


def archive(kind, names):
    stream = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(stream, "w") as packed:
            for name in names:
                packed.writestr(name, b"sound")
    else:
        with tarfile.open(fileobj=stream, mode="w:gz") as packed:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size = 5
                packed.addfile(info, io.BytesIO(b"sound"))
    return stream.getvalue()


@pytest.mark.parametrize(("kind", "folder"), [("zip", "ESC-50-master"), ("tar.gz", "")])
def test_an_archive_becomes_the_root(tmp_path, server, kind, folder):
    names = ["meta/list.csv", "audio/a.wav"]
    content = archive(kind, [f"{folder}/{name}".lstrip("/") for name in names])
    server.files[f"a.{kind}"] = content
    file = {"url": server.url(f"a.{kind}"), "path": f"data/a.{kind}", "max_bytes": 10**6}
    file |= {"unpack": True, "folder": folder}
    (tmp_path / "data/root").mkdir(parents=True)  # made by hand, and nothing in it
    fetch(tmp_path, file, classes_from_list=False)
    assert all((tmp_path / "data/root" / name).read_bytes() == b"sound" for name in names)
    assert fetch(tmp_path, file, classes_from_list=False) == ""
    assert not [path for path in (tmp_path / "data").iterdir() if path.name.endswith(".part")]


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_writes_nowhere_else(tmp_path, server, kind):
    server.files["a"] = archive(kind, ["ok/a.wav", "/tmp/outside.wav", "../../outside.wav"])
    file = {"url": server.url("a"), "path": f"data/a.{kind}", "max_bytes": 10**6, "unpack": True}
    if kind == "zip":  # its reader takes the dots off
        fetch(tmp_path, file, classes_from_list=False)
    else:
        with pytest.raises(ManifestError, match="cannot be unpacked"):
            fetch(tmp_path, file, classes_from_list=False)
        assert not (tmp_path / "data/root").exists()
    assert not list(tmp_path.parent.glob("outside.wav"))
    assert not (tmp_path / "outside.wav").exists()
    server.files["b"] = b"no archive"
    broken = file | {"url": server.url("b"), "path": f"data/b.{kind}"}
    with pytest.raises(ManifestError, match="cannot be unpacked"):
        fetch(tmp_path, broken, root="other", classes_from_list=False)


@pytest.mark.parametrize(
    "member",
    [
        {"name": "a/../../outside.wav"},
        {"name": "link", "type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"name": "link", "type": tarfile.LNKTYPE, "linkname": "gone.wav"},
        {"name": "device", "type": tarfile.CHRTYPE},
    ],
)
def test_what_is_no_file_of_an_archive_is_refused_by_name(tmp_path, server, member):
    server.files["a"] = members({"name": "ok.wav"}, member)
    file = {"url": server.url("a"), "path": "data/a.tar.gz", "max_bytes": 10**6, "unpack": True}
    with pytest.raises(ManifestError, match=f"cannot be unpacked.*{member['name']}"):
        fetch(tmp_path, file, classes_from_list=False)
    assert not (tmp_path / "data/root").exists()


@pytest.mark.parametrize(
    ("member", "path"),
    [
        ({"name": "/tmp/outside.wav"}, "tmp/outside.wav"),
        ({"name": "a/link.wav", "type": tarfile.SYMTYPE, "linkname": "../d/ok.wav"}, "a/link.wav"),
        ({"name": "a/link.wav", "type": tarfile.LNKTYPE, "linkname": "d/ok.wav"}, "a/link.wav"),
    ],
)
def test_links_within_an_archive_are_copies_and_names_start_at_its_root(
    tmp_path, server, member, path
):
    """tarfile's own filter allows them: what it unpacked was refused."""
    server.files["a"] = members({"name": "d/ok.wav"}, member)
    file = {"url": server.url("a"), "path": "data/a.tar.gz", "max_bytes": 10**6, "unpack": True}
    fetch(tmp_path, file, classes_from_list=False)
    assert (tmp_path / "data/root" / path).read_bytes() == b"sound"
    assert not (tmp_path / "data/root" / path).is_symlink()


def members(*members):
    """An archive of members with these fields; files hold a word."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as packed:
        for values in members:
            info = tarfile.TarInfo()
            for key, value in values.items():
                setattr(info, key, value)
            info.size = 5 * info.isreg()
            packed.addfile(info, io.BytesIO(b"sound"))
    return stream.getvalue()


def test_a_run_fetches_and_a_dry_run_does_not(tmp_path, server, shell_env):
    workspace = Workspace.make(tmp_path, shell_env)
    folder = workspace.root / "config/datasets"
    (folder / "data/root").mkdir(parents=True)
    for name in ("abcdefghijk_000000", "bbcdefghijk_000001"):
        make_clip(folder / f"data/root/{name}.mp4", seconds=1)
    file = {"url": server.url("list.csv"), "path": "list.csv", "max_bytes": 1000}
    describe(folder, file, clip_file="{clip_id}.mp4")
    said = workspace.snakemake("-n", "download_far", fails=True)
    assert "`av-pipeline fetch far` fetches it, and so does a run" in said
    assert not server.requests
    said = workspace.snakemake("--cores", "1", "download_far")
    assert "licence: CC-BY-4.0" in said
    assert server.requests["list.csv"] == 1
    assert (workspace.root / "results/far/download/train/00000.json").is_file()
