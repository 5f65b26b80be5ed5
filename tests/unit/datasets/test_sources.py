"""Sources that nothing can be fetched from are refused in the list, with their line."""

import pytest

from pipeline_src.datasets.clip_lists import read_clips
from pipeline_src.datasets.dataset import load_dataset
from pipeline_src.errors import ConfigError, ManifestError
from pipeline_src.system.url_secrets import hide_secrets

HEADER = "clip_id,source,start_seconds,end_seconds,labels,split\n"


def read(folder, source, more=""):
    (folder / "list.csv").write_text(f"{HEADER}good,a.mp4,,,a,train\nbad,{source},,,a,train\n")
    (folder / "classes.csv").write_text("index,id,display_name\n0,a,A\n1,b,B\n")
    text = "name: toy\ntask: multilabel\nclip_list: list.csv\nclass_names: classes.csv\n"
    (folder / "toy.yaml").write_text(text + more)
    return list(read_clips(load_dataset(folder / "toy.yaml"), max_seconds=600))


@pytest.mark.parametrize(
    "source",
    [
        *("http://[/x.mp4", "http://[::1/x.mp4", "http://a\u2100b/x", "http://h:99999/x"),
        *("http://h:abc/x", "http://a..b/x", "http:///x", "http://h /x", "http://%zz/x"),
        *(f"http://{'a' * 70}.invalid/x", "https://[/a.tar::b.mp4", "HTTP://a_%/x", "http://?a"),
        *("http://me:PASSWORD1@h/x.mp4", "https://PASSWORD1@h/a.tar::b.mp4"),
        *("s3://b/x", "file:///data/x.mp4", "ftp://h/x", "GS://b/a.tar::x", "data://x"),
        *("a.7z::b.mp4", "x/a.tar.xz::b", "a.RAR::b", "http://h/a.tar.zst::b", "http://h/a.zip::b"),
    ],
)
def test_an_unusable_source_is_refused_with_its_line(tmp_path, source):
    with pytest.raises(ManifestError, match=r"list\.csv:3: source ") as error:
        read(tmp_path, source)
    assert "PASSWORD1" not in str(error.value)
    assert any(word in str(error.value) for word in ("allowed are", "asked", "~/.netrc"))


@pytest.mark.parametrize(
    "source",
    [
        *("http://h/with space \u00e9.mp4", "https://b\u00fccher.example/x", "http://[::1]:80/x"),
        *("http://a_b.example./x", "http://h?x=1#t=3", "a.7z", "//x/y", "x:y"),
        *("a.tar.gz::b", "A.TGZ::b", "a.zip::b", "http://h/a.tar.gz::b", "youtube: my dog.mkv"),
    ],
)
def test_other_sources_are_taken_as_they_stand(tmp_path, source):
    assert read(tmp_path, source)[1].source == source


@pytest.mark.parametrize(
    ("url", "written"),
    [
        ("http://a:b@h/x", "http://***@h/x"),
        ("http://h/x?token=TOKEN1&y=2", "http://h/x?token=***64fecfe1&y=2"),
        ("http://h/x?X-Amz-Signature=abc", "http://h/x?X-Amz-Signature=***ba7816bf"),
        ("http://h/x#access_token=abc", "http://h/x#access_token=***ba7816bf"),
        ("http://h/x;jsessionid=abc?v=1", "http://h/x;jsessionid=***ba7816bf?v=1"),
        ("http://h/?v=dQw4w9WgXcQ&file=a.mp4&t=3", "http://h/?v=dQw4w9WgXcQ&file=a.mp4&t=3"),
        ("http://h/x?AbCd1234EfGh5678IjKl", "http://h/x?***7f742123"),
        ("http://h/x?a=1&a1b2c3d4e5f6a7b8c9", "http://h/x?a=1&***a4db71f1"),
        ("http://h/x?QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "http://h/x?***cf4d418e"),
        ("http://h/x;AbCd1234EfGh5678IjKl/y.mp4", "http://h/x;***7f742123/y.mp4"),
        ("http://h/x;AbCd1234EfGh5678IjKl?v=1", "http://h/x;***7f742123?v=1"),
        ("http://h/x?hash=abc&st=ab", "http://h/x?hash=***ba7816bf&st=***fb8e20fc"),
        ("http://h/x?hdnts=abc&e=12", "http://h/x?hdnts=***ba7816bf&e=12"),
        ("http://h/x?download&list=7&best=3", "http://h/x?download&list=7&best=3"),
        ("http://h/x?20240101120000#part-two", "http://h/x?20240101120000#part-two"),
        ("http://h/get.php?some_clip.mp4", "http://h/get.php?some_clip.mp4"),
        ("take#A1b2C3d4E5f6", "take#A1b2C3d4E5f6"),
        ("get?file=a long name 1.mp4", "get?file=a long name 1.mp4"),
    ],
)
def test_secrets_are_cut_out_of_addresses(url, written):
    assert hide_secrets(url) == written
    assert hide_secrets(written) == written
    assert hide_secrets(f"'{url}': and so on") == f"'{written}': and so on"


@pytest.mark.parametrize(
    "mirror", ["http://me:SECRET@h/{clip_id}", "http://h/{clip_id}?key=SECRET"]
)
def test_a_mirror_with_a_secret_is_refused_and_not_shown(tmp_path, mirror):
    with pytest.raises(ConfigError, match="no user, password or token") as error:
        read(tmp_path, "a.mp4", f"mirror: {mirror}\n")
    assert "SECRET" not in str(error.value)
