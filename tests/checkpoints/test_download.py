"""Released weights by name: where they are looked for, and what is said when they are nowhere."""

import errno
import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from sslbench.checkpoints import download, transfer
from sslbench.checkpoints.load import load_backbone
from sslbench.checkpoints.releases import RELEASES
from sslbench.errors import UserError
from tests.checkpoints.layouts import TINY_RELEASE, vit
from tests.checkpoints.server import closing_server


def test_names_and_files_are_unique_and_well_formed():
    names, files = ([getattr(r, n) for r in RELEASES] for n in ("name", "filename"))
    assert len(set(names)) == len(names) and len(set(files)) == len(files)
    for release in RELEASES:
        assert re.fullmatch(r"[0-9a-f]{0,64}", release.sha256)
        assert release.url.startswith("https://") or release.url == ""
        assert release.epochs >= 0 and release.views >= 1
        if release.sha256 and len(release.sha256) < 64:  # torch.hub's convention
            assert release.filename.endswith(f"-{release.sha256}.pth")


def test_which_network_is_meant():
    """iBOT's README: IN-1K releases are evaluated by the teacher, IN-22K ones are the student."""
    known = download.releases()
    assert known["ibot_vits16"].key == "teacher" and known["ibot_vitb16_22k"].key == "student"
    assert "checkpoint_student.pth" in known["ibot_vitb16_22k"].url


@pytest.mark.parametrize("name", ["dino_deitsmall16_pretrain.pth", "dino_vits16.pth"])
def test_a_file_is_known_by_either_name(tmp_path, name):
    assert download.release_of(tmp_path / name).name == "dino_vits16"
    assert download.release_of(tmp_path / "mine.pth") is None


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Our home, a folder of the user's, and a release "tiny" that only they can have."""
    monkeypatch.setenv("SSLBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(download.OVERRIDE, str(tmp_path / "own"))
    monkeypatch.setattr(download, "RELEASES", (TINY_RELEASE,))
    return tmp_path


@pytest.fixture
def publisher(monkeypatch):
    """A server on this machine, and `publish`, which makes it the publisher of "tiny"."""
    with closing_server() as server:
        server.publish = lambda content, sha="": publish(monkeypatch, server, content, sha)
        yield server


def publish(monkeypatch, server, content, sha):
    server.content, server.etag = content, f'"{hashlib.sha256(content).hexdigest()}"'
    url = f"http://127.0.0.1:{server.server_port}/tiny.pth"
    monkeypatch.setattr(download, "RELEASES", (replace(TINY_RELEASE, url=url, sha256=sha),))


@pytest.fixture
def offline(monkeypatch):
    def refuse(request, timeout):
        raise OSError("no route to host")

    monkeypatch.setattr(transfer, "urlopen", refuse)


def weights(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(vit(width=16, depth=2, grid=2), path)
    return path


def test_the_users_folder_comes_before_ours(places, offline):
    ours = weights(places / "home" / "weights" / "tiny.pth")
    assert download.find("tiny") == ours
    assert download.find("tiny") != weights(places / "own" / "tiny.pth") == download.find("tiny")
    model = load_backbone("tiny")
    card = model.card
    assert (card.method, card.pretrain_data, card.epochs) == ("dino", "IN-1K", 10)
    assert (card.effective_epochs, card.recipe, card.source) == (38.4, "tiny", "tiny")
    assert model.poolings == ("cls",) and model.source == str(places / "own" / "tiny.pth")


def test_a_full_checkpoint_gives_the_network_that_its_release_means(places, monkeypatch):
    t = vit(width=16, depth=2, grid=2)
    student = {k: v + 1 for k, v in t.items()}
    path = weights(places / "own" / "tiny.pth")
    torch.save({"teacher": t, "student": student}, path)
    for key, expected in (("teacher", t), ("student", student)):
        monkeypatch.setattr(download, "RELEASES", (replace(TINY_RELEASE, key=key),))
        assert torch.equal(load_backbone("tiny").backbone.cls_token, expected["cls_token"])
    asked = load_backbone(f"{path}?key=teacher")
    assert torch.equal(asked.backbone.cls_token, t["cls_token"])


def test_a_download_is_kept(places, publisher, capsys):
    content = weights(places / "x.pth").read_bytes()
    publisher.publish(content, hashlib.sha256(content).hexdigest()[:8])
    path = download.find("tiny")
    assert path == places / "home" / "weights" / "tiny.pth" and path.read_bytes() == content
    assert [p.name for p in path.parent.iterdir()] == ["tiny.pth"]
    assert f":{publisher.server_port}/tiny.pth" in capsys.readouterr().err
    assert download.find("tiny") == path and len(publisher.ranges) == 1


@pytest.mark.parametrize(
    "content, cuts, sha, reason",
    [
        (b"<html>moved</html>", [], "", "sends is a web page"),
        (b"version https://git-lfs.github.com/spec/v1", [], "", "is a Git LFS pointer"),
        (b"\x80\x02abc" + bytes(94), [5, 5], "", "the connection ended 94 bytes early"),
        (b"\x80\x02abc", [], "00000000", "whose SHA-256 is"),
    ],
)
def test_a_bad_download_leaves_nothing_and_says_what_to_do(
    places, publisher, content, cuts, sha, reason
):
    publisher.publish(content, sha)
    publisher.etag, publisher.cuts = "", cuts
    with pytest.raises(UserError, match=reason) as refused:
        download.find("tiny")
    (release,) = download.RELEASES
    for part in (release.url, "tiny.pth", str(places / "home" / "weights"), download.OVERRIDE):
        assert part in str(refused.value)
    assert not list((places / "home" / "weights").iterdir())


def test_the_next_command_resumes_what_a_connection_cut(places, publisher):
    content = weights(places / "x.pth").read_bytes()
    publisher.publish(content)
    publisher.cuts = [1000, 0]  # bytes of the first connection; the second brings none
    with pytest.raises(UserError, match=r"resume after 1,000 bytes, or fetch it elsewhere"):
        download.find("tiny")
    assert not (places / "home" / "weights" / "tiny.pth").exists()
    assert download.find("tiny").read_bytes() == content
    assert publisher.ranges == [None, "bytes=1000-", "bytes=1000-"]
    assert [p.name for p in (places / "home" / "weights").iterdir()] == ["tiny.pth"]


def test_two_processes_download_a_file_once(places, publisher):
    content = weights(places / "x.pth").read_bytes()
    publisher.publish(content)
    with ThreadPoolExecutor() as pool:
        paths = list(pool.map(download.find, ["tiny"] * 4))
    assert {p.read_bytes() for p in paths} == {content} and len(publisher.ranges) == 1
    assert [p.name for p in paths[0].parent.iterdir()] == ["tiny.pth"]


def test_no_network_is_one_sentence(places, offline):
    with pytest.raises(UserError, match=r"cannot be downloaded \(no route to host\); fetch it"):
        load_backbone("tiny")


def test_a_folder_that_cannot_be_written_is_one_sentence(places, publisher, monkeypatch):
    publisher.publish(b"\x80\x02abc")

    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download.os, "fsync", full)
    with pytest.raises(UserError, match=r"weights cannot be written \(No space left on device\)"):
        download.find("tiny")


def test_no_link_is_one_sentence(places, monkeypatch):
    monkeypatch.setattr(download, "RELEASES", (replace(TINY_RELEASE, url=""),))
    with pytest.raises(UserError, match=r"tiny has no lasting link; put the file at .*tiny.pth"):
        download.find("tiny")


def test_unknown_names_are_refused(places):
    with pytest.raises(UserError, match="unknown weights 'tinny': did you mean 'tiny'"):
        download.find("tinny")
