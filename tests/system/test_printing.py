"""Names are any bytes and characters; they are shown escaped in every locale, and never fail."""

import io
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from sslbench.data.coco import check as check_coco
from sslbench.data.coco import locate
from sslbench.data.dense import open_dense
from sslbench.system.printing import SafeConsole, _OneLine, printable
from sslbench.training.log import LOG, RunLog
from tests.data.dense_trees import TRAIN, copy_of, put, rewrite
from tests.pictures import write_images

ODD = os.fsdecode(b"caf\xe9\x1b[31m\n\xe2\x80\xae[/b]")  # no UTF-8, two lines, ...
SHOWN = r"caf\xe9\x1b[31m\n\u202e[/b]"
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
LOCALES = {
    "C": ASCII,
    "C, strict": {**ASCII, "PYTHONIOENCODING": "ascii:strict"},
    "UTF-8, strict": {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "utf-8:strict"},
    "Latin-1": {**ASCII, "PYTHONIOENCODING": "latin-1"},
}


def test_a_name_is_one_line_that_steers_nothing():
    assert printable(Path("a") / ODD) == f"a/{SHOWN}"
    assert printable(printable(ODD)) == SHOWN
    assert printable("né 犬 🐕") == "né 犬 🐕"


def test_the_console_escapes_what_it_is_given():
    said = io.StringIO()
    console = SafeConsole(file=said, width=200)
    console.print(f"one {ODD}", markup=False)
    console.print("[bold]two[/bold]", "three")
    assert said.getvalue() == rf"one {SHOWN}" + "\n" + "two three\n"


def test_what_is_logged_is_one_line():
    def shown(name):
        return _OneLine("%(message)s").format(
            logging.LogRecord(name, 30, "", 0, "%s\n", (ODD,), None)
        )

    assert shown("sslbench.data") == SHOWN + r"\n"
    assert "\x1b" not in shown("mmengine") and shown("mmengine").count("\n") == 2


@pytest.mark.parametrize("terminal", [False, True])
def test_the_log_of_a_run_in_an_odd_folder(tmp_path, terminal, caplog):
    folder = tmp_path / ODD.replace("/", "")
    folder.mkdir()
    said = io.StringIO()
    console = Console(file=said, force_terminal=terminal, width=400, color_system=None)
    with RunLog(folder, 0, 1, console) as log:
        log.skipped(f"{ODD}: cut short")
        log.write({"step": 1, "loss": 2.0})
    lines = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    assert lines[0] == {"note": f"skipped broken image 1: {SHOWN}: cut short"}
    assert rf"{SHOWN}: cut short" in said.getvalue()
    assert "\x1b[31m" not in said.getvalue() and "\u202e" not in said.getvalue()
    assert not terminal or SHOWN.replace("/", "") in said.getvalue()  # the bar's own name
    assert "that TensorBoard cannot open" in caplog.text


def run(arguments, locale, folder, home):
    quiet = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-m", "sslbench.cli", *map(os.fsencode, arguments)],
        env={**quiet, **locale, "SSLBENCH_HOME": str(home), "OMP_NUM_THREADS": "1"},
        cwd=folder,
        capture_output=True,
        timeout=120,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("locale", LOCALES)
def test_a_sentence_about_an_odd_name_in_every_locale(tmp_path, locale):
    """P13: printing such a name ended the command, in some locales any name with an accent."""
    code, out, err = run(["table", "--out", ODD], LOCALES[locale], tmp_path, tmp_path)
    assert code == 2 and not out
    assert err.startswith(rb"error: caf\xe9\x1b[31m \u202e[/b]/records.jsonl does not exist")
    assert err.count(b"\n") == 1 and b"\x1b" not in err


@pytest.mark.slow
def test_training_and_evaluating_where_every_name_is_odd(tmp_path):
    """Broken and sound images, classes, --out and --model, in the narrowest of locales."""
    data = tmp_path / os.fsdecode(b"d\xe9")
    for seed, name in enumerate((ODD.replace("/", ""), "plain")):
        for split in ("train", "val"):
            write_images(data / split / name, 12, seed)
            (data / split / name / f"{ODD.replace('/', '')}.jpg").write_bytes(b"broken")
    small = ["run.workers=0", "train.batch_size=8", "train.epochs=1", "method.out_dim=32"]
    small += ["backbone.image_size=32", "optim.warmup_epochs=0"]
    sets = [part for one in small for part in ("--set", one)]
    out = os.fsdecode(b"r\xe9")
    locale = LOCALES["C, strict"]
    arguments = ["pretrain", "--config", "shapes/dino", "--data", data, "--out", out, *sets]
    code, said, err = run(arguments, locale, tmp_path, tmp_path / "home")
    assert code == 0, err
    assert (
        SHOWN.replace("/", "").encode() + b".jpg: not a BMP" in said and b"\x1b" not in said + err
    )
    # the same data in another locale
    again = ["pretrain", "--method", "dino", "--resume", "--out", out]
    code, said, err = run(again, LOCALES["UTF-8, strict"], tmp_path, tmp_path / "home")
    assert code == 0, err
    judged = ["evaluate", "--benchmark", "knn", "--model", out, "--data", data, "--out", out + "2"]
    code, said, err = run(judged, locale, tmp_path, tmp_path / "home")
    assert code == 0, err
    assert b"| dino | cls |" in said and b"\x1b" not in said + err
    assert (tmp_path / (out + "2") / "table.tex").read_text(encoding="utf-8")


def test_annotated_trees_with_odd_names(tmp_path, caplog):
    odd = ODD.replace("/", "")
    maps = copy_of("ade20k", tmp_path / odd)
    for part, end in (("images", ".jpg"), ("annotations", ".png")):
        below = maps / part / "training"
        first = min(below.iterdir())
        first.rename(first.with_name(f"{odd}{end}"))
    (maps / "images" / "training" / f"{odd}.jpg").write_bytes(b"broken")
    found = open_dense("ade20k", maps)
    assert found.train.count == 5
    assert rf"training/{SHOWN.replace('/', '')}.jpg" not in caplog.text  # relative names are shown
    assert SHOWN.replace("/", "") in caplog.text and "\x1b" not in caplog.text

    tree = copy_of("coco", tmp_path / "coco" / odd)
    broken = "caf\u00e9\x1b\u202e.jpg"  # JSON holds no other bytes than UTF-8
    shutil.move(tree / "train2017/000000000001.jpg", tree / "train2017" / broken)
    (tree / "train2017" / broken).write_bytes(b"broken")
    rewrite(tree, put("images", 0, file_name=broken), TRAIN)
    caplog.clear()
    assert check_coco(*locate(tree, "train")).count == 5
    assert r"café\x1b\u202e.jpg" in caplog.text and "\x1b" not in caplog.text
