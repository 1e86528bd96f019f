"""Downloads over real connections that break, and files that change at the publisher's."""

import io
import random

import pytest
from rich.console import Console

from sslbench.checkpoints import transfer
from tests.checkpoints.server import closing_server

CONTENT = random.Random(0).randbytes(3 * transfer.CHUNK + 7)


@pytest.fixture
def server():
    with closing_server() as server:
        server.content = CONTENT
        yield server


def fetch(server, part):
    with transfer.locked(part) as file:
        transfer.fetch(f"http://127.0.0.1:{server.server_port}/x", part, file)
    return part.read_bytes()


def test_a_cut_connection_is_resumed_where_it_ended(server, tmp_path):
    server.cuts = [1_000_000, 17]
    assert fetch(server, tmp_path / "x") == CONTENT
    assert server.ranges == [None, "bytes=1000000-", "bytes=1000017-"]


def test_a_connection_that_brings_nothing_more_ends_it(server, tmp_path):
    server.cuts = [1000, 0]
    with pytest.raises(transfer.TransferError, match="ended 3,144,735 bytes early"):
        fetch(server, tmp_path / "x")
    assert transfer.resumable(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT[:1000]
    assert fetch(server, tmp_path / "x") == CONTENT and server.ranges[-1] == "bytes=1000-"


def test_a_file_that_changed_meanwhile_is_downloaded_anew(server, tmp_path):
    server.cuts = [1000, 0]
    with pytest.raises(transfer.TransferError):
        fetch(server, tmp_path / "x")
    server.content, server.etag = CONTENT[::-1], '"2"'
    assert fetch(server, tmp_path / "x") == CONTENT[::-1]


def test_a_server_that_ignores_ranges_sends_everything_again(server, tmp_path):
    server.ignores_ranges, server.cuts = True, [1000]
    assert fetch(server, tmp_path / "x") == CONTENT


@pytest.mark.parametrize("etag", ["", 'W/"1"'])
def test_without_a_strong_validator_nothing_is_resumed(server, tmp_path, etag):
    server.etag, server.cuts = etag, [1000, 1000]
    with pytest.raises(transfer.TransferError, match="early"):
        fetch(server, tmp_path / "x")
    assert not transfer.resumable(tmp_path / "x") and server.ranges == [None, None]


def test_a_part_that_is_complete_already_is_kept(server, tmp_path):
    assert fetch(server, tmp_path / "x") == fetch(server, tmp_path / "x") == CONTENT
    assert server.ranges == [None, f"bytes={len(CONTENT)}-"]


def test_progress_is_shown_on_a_terminal(server, tmp_path, monkeypatch):
    for terminal in (True, False):
        screen = io.StringIO()
        console = Console(file=screen, force_terminal=terminal, width=80)
        monkeypatch.setattr(transfer, "Console", lambda stderr, console=console: console)
        fetch(server, tmp_path / f".weights-{terminal}.pth.part")
        shown = screen.getvalue()
        assert ("3.1/3.1 MB" in shown and "weights-True.pth" in shown) if terminal else not shown
