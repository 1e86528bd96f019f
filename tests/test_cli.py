"""The commands as people type them: what ends well, and one sentence for what cannot."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from sslbench import cli, plugins, workflow
from sslbench.cli import train
from sslbench.data.dense import DenseData
from sslbench.errors import UserError
from sslbench.training import checkpoint
from sslbench.training.log import LOG, read_log
from tests.evaluation.fakes import dense
from tests.training import small


def assert_one_sentence(ended, pattern: str, code: int = 2) -> None:
    assert ended.code == code, ended.err
    assert re.fullmatch(r"error: [^\n]+\.\n", ended.err), ended.err
    assert re.search(pattern, ended.err), ended.err


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in files(folder)}


@pytest.fixture(scope="module")
def places(tmp_path_factory, images, labelled, tokenizer, dino_run) -> dict[str, Path]:
    """Everything a bad command line may name."""
    root = tmp_path_factory.mktemp("places")
    (root / "empty").mkdir()
    (root / "syntax.py").write_text("method = dict(\n")
    (root / "division.py").write_text("method = dict(name='dino')\nx = 1 / 0\n")
    (root / "flat.py").write_text("method = 'dino'\n")
    (root / "records").mkdir()
    (root / "records" / "records.jsonl").write_text('{"model": {"sha')
    shutil.copytree(dino_run, root / "unfinished")
    (root / "unfinished" / checkpoint.WEIGHTS).unlink()
    shutil.copytree(dino_run, root / "cut")
    for state in (checkpoint.STATE, checkpoint.PREVIOUS):
        (root / "cut" / state).write_bytes(b"PK\3\4 and no more")
    shutil.copytree(dino_run, root / "cut_weights")
    whole = (dino_run / checkpoint.WEIGHTS).read_bytes()
    (root / "cut_weights" / checkpoint.WEIGHTS).write_bytes(whole[:-10])
    return {
        "root": root,
        "images": images,
        "labelled": labelled,
        "tokenizer": tokenizer,
        "run": dino_run,
        "one": small.write_images(root / "one", 1),
        "config": small.write_config(root / "dino.py", "dino", images),
        "beit": small.write_config(root / "beit.py", "beit", images),
    }


PRETRAIN = {
    "missing data": ("--data {root}/nowhere", "path .*nowhere does not exist"),
    "misspelt data": ("--data shape", "Unknown dataset 'shape'.*did you mean 'shapes'"),
    "empty data": ("--data {root}/empty", "contains no images"),
    "one image": ("--data {one} --set train.batch_size=1", "1 image"),
    "large batch": ("--set train.batch_size=64", "batch size 64 is larger.*at most 40"),
    "uneven batch": ("--set train.accumulate=3", "batch_size=8 cannot be shared"),
    "image size": ("--set backbone.image_size=30", "image_size 30 is not a multiple"),
    "crop size": ("--set method.views.global_size=30", "30 pixels is not a multiple"),
    "method": ("--method dinno", "unknown method 'dinno': did you mean 'dino'"),
    "other method": ("--method ibot", "is for method 'dino', not 'ibot'"),
    "config": ("--config shapes/dinno", "unknown config .*did you mean 'shapes/dino'"),
    "config file": ("--config nowhere.py", "config file 'nowhere.py' does not exist"),
    "config syntax": ("--config {root}/syntax.py", "cannot be read: .*never closed"),
    "config division": ("--config {root}/division.py", "cannot be read: ZeroDivisionError"),
    "config method": ("--config {root}/flat.py", "method='dino' is a value"),
    "unknown key": ("--set train.epoch=1", "unknown key 'train.epoch': did you mean 'epochs'"),
    "nested key": ("--set method.views.blurr=1", "unknown key 'method.views.blurr'.*'blur'"),
    "section": ("--set trian.epochs=1", "unknown section 'trian'.*did you mean 'train'"),
    "type": ("--set train.epochs=ten", "train.epochs='ten' is str, expected float"),
    "zero": ("--set train.epochs=0", "train.epochs=0.0 must be greater than 0"),
    "choice": ("--set train.precision=bf61", "train.precision='bf61': did you mean 'bf16'"),
    "no equals": ("--set train.epochs", "'train.epochs' is not of the form key=value"),
    "value as section": ("--set train.epochs.x=1", "'epochs' is a value, not a section"),
    "section as value": ("--set method=3", "method=3 is a value"),
    "backbone": ("--set backbone.name=vit_nanno", "unknown backbone .*did you mean 'vit_nano'"),
    "needless need": ("--set needs.tokenizer=x", "unknown key 'needs.tokenizer'"),
    "no tokenizer": (
        "--method beit --config {beit}",
        "`sslbench tokenizer train` first and pass .* `--set needs.tokenizer=DIR`",
    ),
    "missing tokenizer": (
        "--method beit --config {beit} --set needs.tokenizer={root}/nowhere",
        "model source .*nowhere' does not exist",
    ),
    "no tokenizer's run": (
        "--method beit --config {beit} --set needs.tokenizer={run}",
        "unknown tokenizer 'dino'",
    ),
    "tokens": (
        "--method beit --config {beit} --set needs.tokenizer={tokenizer} "
        "--set method.views.token_size=16",
        "2x2 codes .* 4x4 patches",
    ),
    "data of many processes": ("--nproc 2 --data {root}/empty", "contains no images"),
    "batch of many processes": ("--nproc 3", "batch_size=8 cannot be shared by 3 processes"),
    "nothing to resume": ("--resume", "holds no run to resume"),
    "unknown option": ("--epochs 3", "No such option: --epochs"),
    "ill-typed option": ("--nproc two", "Invalid value for '--nproc'"),
}


@pytest.mark.parametrize(("typed", "pattern"), PRETRAIN.values(), ids=PRETRAIN)
def test_pretrain_refuses(sslbench, tmp_path, places, typed, pattern) -> None:
    given = typed.format(**places).split()
    usual = {"--method": "dino", "--config": places["config"], "--out": tmp_path / "run"}
    for option, value in usual.items():
        given += [] if option in given else [option, value]
    assert_one_sentence(sslbench("pretrain", *given), pattern)
    assert files(tmp_path) == []


STYLES = ("md", "latex", "csv")
EVALUATE = {
    "suite": ("--suite ful", "unknown suite 'ful': did you mean 'full'"),
    "benchmark": ("--benchmark knnn", "unknown benchmark 'knnn': did you mean 'knn'"),
    "model": ("--model {root}/nowhere", "model source .*nowhere' does not exist"),
    "no run": ("--model {root}/empty", "holds no weights.safetensors"),
    "unfinished run": ("--model {root}/unfinished", "has not ended; go on with .*--resume"),
    "cut weights": ("--model {root}/cut_weights", "truncated or damaged"),
    "random weights": ("--model random-init:vit_small", "not of the form random-init:"),
    "unlabelled": ("--data {images} --split validation", "has no validation split"),
    "missing data": ("--data {root}/nowhere", "nowhere does not exist"),
    "split": ("--split tset", "Unknown split 'tset': did you mean 'test'"),
}


@pytest.mark.parametrize(("typed", "pattern"), EVALUATE.values(), ids=EVALUATE)
def test_evaluate_refuses(sslbench, tmp_path, places, typed, pattern) -> None:
    given = typed.format(**places).split()
    usual = {"--model": places["run"], "--data": places["labelled"], "--out": tmp_path / "out"}
    for option, value in usual.items():
        given += [] if option in given else [option, value]
    assert_one_sentence(sslbench("evaluate", *given), pattern)
    assert files(tmp_path) == []


def test_evaluate_needs_labels(sslbench, tmp_path, places) -> None:
    for part in ("train", "test"):
        small.write_images(tmp_path / "data" / part, 4)
    given = ("--model", places["run"], "--data", "data", "--out", "out")
    assert_one_sentence(sslbench("evaluate", *given), "has no labels.*one sub-folder a class")
    assert not (tmp_path / "out").exists()


def test_evaluate_needs_a_model(sslbench) -> None:
    assert_one_sentence(sslbench("evaluate"), "no finished run below runs.*sslbench pretrain")


@pytest.mark.parametrize(
    ("typed", "pattern"),
    [
        ("table --out {root}/records", r"records\.jsonl, line 1 is cut short"),
        ("evaluate --model {run} --data {labelled} --out {root}/records", "line 1 is cut short"),
        ("table --out {root}/nowhere", "does not exist; run `sslbench evaluate"),
        ("table --out {root}/records --format mdd", "unknown format 'mdd': did you mean 'md'"),
        ("tokenizer train --kind dva", "unknown tokenizer 'dva': did you mean 'dvae'"),
        ("pretrain --method dino --resume", "--resume needs --out DIR"),
        ("pretrain", "pass --method NAME or --config NAME"),
        ("pretrian", "No such command 'pretrian'"),
        ("tokenizer", "Missing command"),
    ],
)
def test_commands_refuse(sslbench, tmp_path, places, typed, pattern) -> None:
    before = snapshot(places["root"])
    assert_one_sentence(sslbench(*typed.format(**places).split()), pattern)
    assert files(tmp_path) == []
    assert snapshot(places["root"]) == before


@pytest.mark.parametrize(
    ("run", "typed", "pattern"),
    [
        ("run", "--method dino", "already holds a run; add --resume"),
        ("run", "--method ibot --resume", "is a run of 'dino', not 'ibot'; pass --method dino"),
        ("run", "--method dino --resume --set train.epochs=9", "only run.* may change"),
        ("run", "--method dino --resume --data shapes", "drop --config and --data"),
        ("cut", "--method dino --resume", r"state\.pt is truncated or damaged .* too; remove"),
        ("records", "--method dino --resume", r"config\.json is missing"),
    ],
)
def test_a_run_directory_is_left_as_it_is(sslbench, places, run, typed, pattern) -> None:
    out = places["run"] if run == "run" else places["root"] / run
    before = snapshot(out)
    given = typed.split() if "--resume" in typed else [*typed.split(), "--config", places["config"]]
    assert_one_sentence(sslbench("pretrain", "--out", out, *given), pattern)
    assert snapshot(out) == before


def test_a_full_disk_ends_a_run_before_it_begins(sslbench, tmp_path, places) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        ended = sslbench(
            "pretrain", "--method", "dino", "--config", places["config"], "--out", "run"
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_one_sentence(ended, r"run/state\.pt cannot be written \(File too large\); free disk")
    assert files(tmp_path) == []


def test_debug_shows_the_traceback(monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["sslbench", "--debug", "pretrain", "--method", "dinno"])
    with pytest.raises(Exception, match="unknown method 'dinno'"):
        cli.main()


def test_ctrl_c_says_how_to_go_on(sslbench, monkeypatch, places) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sslbench.training.train.set_up", interrupted)
    ended = sslbench("pretrain", "--method", "dino", "--config", places["config"])
    assert ended.code == 130
    assert "go on with --resume" in ended.err


def test_help_and_version(sslbench) -> None:
    assert sslbench().code == sslbench("--help").code == 0
    assert "pretrain" in sslbench().out
    assert re.fullmatch(r"\d+\.\d+\S*\n", sslbench("version").out)


# --- what ends well ------------------------------------------------------------------------------


def break_images(folder: Path, count: int) -> None:
    for path in sorted(folder.rglob("*.png"))[:count]:
        path.write_bytes(path.read_bytes()[:100])


@pytest.fixture
def pretrain_ibot(sslbench, tmp_path):
    """pretrain_ibot(data): five steps of the small iBOT recipe; the run is in ./run."""

    def call(data: Path):
        config = small.write_config(tmp_path / "ibot.py", "ibot", tmp_path, train={"epochs": 1})
        return sslbench(
            "pretrain", "--method", "ibot", "--config", config, "--data", data, "--out", "run"
        )

    return call


@pytest.mark.parametrize("kind", ["labelled", "images"])
def test_pretraining_needs_no_labels(pretrain_ibot, tmp_path, places, kind) -> None:
    ended = pretrain_ibot(places[kind])
    assert (ended.code, ended.err) == (0, "")
    assert "small/ibot -> run" in ended.out
    assert "step 5/5 loss" in ended.out
    assert len(read_log(tmp_path / "run")) == 5
    assert (tmp_path / "run" / checkpoint.WEIGHTS).exists()


def test_a_few_broken_files_are_skipped_counted_and_named(pretrain_ibot, tmp_path) -> None:
    data = small.write_images(tmp_path / "data")
    break_images(data, 2)  # 5 %
    ended = pretrain_ibot(data)
    assert (ended.code, ended.err) == (0, "")
    said = re.findall(r"skipped broken image (\d): (\S+): ", ended.out)
    assert [number for number, _ in said] == ["1", "2"]
    assert {name for _, name in said} == {str(data / "000.png"), str(data / "001.png")}
    assert (tmp_path / "run" / LOG).read_text().count("skipped broken image") == 2


def test_too_many_broken_files_stop_the_run(pretrain_ibot, tmp_path) -> None:
    data = small.write_images(tmp_path / "data")
    break_images(data, 12)  # 30 %
    ended = pretrain_ibot(data)
    assert_one_sentence(ended, r"12 of the 40 images .* cannot be decoded, more than 20%")
    assert not (tmp_path / "run" / checkpoint.WEIGHTS).exists()


def test_a_run_is_resumed_with_other_workers(sslbench, tmp_path, places) -> None:
    given = ("pretrain", "--method", "dino", "--out", "run")
    assert sslbench(*given, "--config", places["config"], "--set", "train.epochs=1").code == 0
    whole = small.losses(tmp_path / "run")
    shutil.copy(tmp_path / "run" / checkpoint.PREVIOUS, tmp_path / "run" / checkpoint.STATE)
    (tmp_path / "run" / checkpoint.WEIGHTS).unlink()
    assert sslbench(*given, "--resume", "--set", "run.workers=1").code == 0
    assert small.losses(tmp_path / "run") == whole
    assert (tmp_path / "run" / checkpoint.WEIGHTS).exists()


def test_a_folder_may_be_named_by_a_number(sslbench, tmp_path, places) -> None:
    small.write_images(tmp_path / "2012", 16)
    given = ("--config", places["config"], "--data", "2012", "--set", "train.epochs=1")
    assert sslbench("pretrain", "--method", "dino", *given).code == 0
    assert (tmp_path / "runs" / "dino-small-seed0" / checkpoint.WEIGHTS).exists()


def test_a_tokenizer_is_trained_and_judged(sslbench, tmp_path, images) -> None:
    config = small.write_config(tmp_path / "dvae.py", "dvae", images, train={"epochs": 1})
    ended = sslbench("tokenizer", "train", "--config", config, "--out", "run")
    assert (ended.code, ended.err) == (0, "")
    assert re.search(r"tokenizer run: mean squared error 0\.\d{4} and \d+ of 16 codes", ended.out)


@pytest.mark.parametrize("style", STYLES)
def test_published_figures_are_shown_without_records(sslbench, tmp_path, style) -> None:
    shown = sslbench("table", "--published", "--out", "nowhere", "--format", style)
    assert shown.code == 0 and "75.2" in shown.out and "iBOT" in shown.out
    assert "arXiv:2111.07832" in shown.out and "Table 1" in shown.out
    assert_one_sentence(sslbench("table", "--published", "--format", "mdd"), "did you mean 'md'")
    assert files(tmp_path) == []


def test_models_are_evaluated_and_tabled(sslbench, tmp_path, places) -> None:
    given = ("--model", places["run"], "--data", places["labelled"], "--out", "out")
    ended = sslbench("evaluate", "--benchmark", "knn", *given)
    assert ended.code == 0, ended.err
    assert {"records.jsonl", "table.md", "table.tex", "table.csv"} == {
        p.name for p in (tmp_path / "out").iterdir()
    }
    tables = {style: sslbench("table", "--out", "out", "--format", style) for style in STYLES}
    assert all(table.code == 0 and "dino" in table.out.lower() for table in tables.values())
    records = (tmp_path / "out" / "records.jsonl").read_bytes()
    assert sslbench("evaluate", "--benchmark", "knn", *given).code == 0
    assert (tmp_path / "out" / "records.jsonl").read_bytes() == records


def test_a_table_for_a_paper_is_one_command(sslbench, tmp_path, places) -> None:
    given = ("--model", places["run"], "--data", places["labelled"], "--out", "out")
    assert sslbench("evaluate", "--benchmark", "knn", *given).code == 0
    asked = ("--columns", "knn k=20 top1", "--rows", "dino", "--labels", "method, arch")
    names = ("--name", "dino=Ours", "--name", "k-NN=kNN", "--caption", "A & B", "--label", "tab:x")
    shown = sslbench("table", "--out", "out", *asked, *names, "--format", "latex").out
    assert r"\caption{A \& B}" in shown and r"\label{tab:x}" in shown
    assert "method & arch & " in shown and "{kNN}" in shown
    assert "Ours & ViT-" in shown and "pixels" not in shown
    for option in ("--columns", "--rows", "--labels", "--name", "--layout"):
        assert_one_sentence(sslbench("table", "--out", "out", option, "nothing"), "nothing")
    assert "pixels" in (tmp_path / "out" / "table.md").read_text()  # the files hold all


@pytest.fixture
def boxes(monkeypatch) -> None:
    """A benchmark of the kind "coco" is installed, and any folder but nowhere is opened."""
    available = plugins.available
    entry = EntryPoint("boxes", "tests.evaluation.fakes:Boxes", plugins.BENCHMARKS)

    def with_boxes(group: str) -> dict[str, EntryPoint]:
        return {**available(group), **({"boxes": entry} if group == plugins.BENCHMARKS else {})}

    def opened(kind: str, source: str, split: str) -> DenseData:
        if source == "nowhere":
            raise UserError("The folder nowhere does not exist.")
        return dense(kind, split=split)

    monkeypatch.setattr(plugins, "available", with_boxes)
    monkeypatch.setattr(workflow, "open_dense", opened)


def test_a_benchmark_of_scenes_needs_a_folder(sslbench, tmp_path, places, boxes) -> None:
    given = ("evaluate", "--model", places["run"], "--data", places["labelled"], "--out", "out")
    sentence = "boxes will not run: no coco data is given; name its folder with --coco DIR."
    assert_one_sentence(sslbench(*given, "--benchmark", "boxes"), re.escape(sentence))
    assert_one_sentence(sslbench(*given, "--benchmark", "boxes", "--coco", "nowhere"), "nowhere")
    assert files(tmp_path) == []
    both = sslbench(*given, "--benchmark", "boxes", "--benchmark", "knn")
    assert both.code == 0, both.err
    assert sentence in both.out.splitlines() and "| dino |" in both.out


def test_scenes_alone_are_evaluated(sslbench, tmp_path, places, boxes) -> None:
    given = ("evaluate", "--benchmark", "boxes", "--model", places["run"], "--out", "out")
    ended = sslbench(*given, "--coco", "mine", "--jobs", 3)
    assert ended.code == 0, ended.err
    assert "1/3 boxes on pixels" in ended.out
    assert "boxes on dino ViT-Nano/8 seed 0: AP^b 31.2" in ended.out
    again = sslbench(*given, "--coco", "mine")
    assert again.code == 0 and "1/3" not in again.out
    assert again.out.endswith(ended.out[ended.out.index("###") :])


def test_list_and_doctor(sslbench) -> None:
    listed = sslbench("list")
    assert listed.code == 0
    for name in ("ibot", "dvae", "knn", "shapes/dino", "vit_nano", "digits"):
        assert re.search(rf"^  {name} ", listed.out, re.MULTILINE)
    assert re.search(r"^ok  torch ", sslbench("doctor").out, re.MULTILINE)


def test_list_of_one_kind(sslbench) -> None:
    listed = sslbench("list", "configs")
    assert listed.out.startswith("configs\n  matched/")
    assert "methods" not in listed.out.splitlines()
    assert_one_sentence(sslbench("list", "config"), "kind 'config': did you mean 'configs'")


def test_a_dry_run_needs_no_data_and_writes_nothing(sslbench, tmp_path, places) -> None:
    given = ["--config", places["config"], "--set", "data.source=imagenet-1k", "--dry-run"]
    ended = sslbench("pretrain", *given, "--set", "about.images=1000", "--nproc", "2")
    assert ended.code == 0, ended.err
    assert re.search(r"^  method\.name +dino$", ended.out, re.MULTILINE)
    assert re.search(r"^  steps +375 of 8 images, 125 an epoch$", ended.out, re.MULTILINE)
    assert re.search(r"^memory of each of 2 processes", ended.out, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []
    assert_one_sentence(sslbench("pretrain", *given, "--resume"), "--resume .* --dry-run")
    assert_one_sentence(sslbench("pretrain", "--dry-run"), "pass --method NAME or --config NAME")


def test_a_config_says_its_method_itself(sslbench, tmp_path, places) -> None:
    given = ["--config", places["config"], "--set", "train.epochs=0.2", "--out", tmp_path / "run"]
    assert sslbench("pretrain", *given).code == 0
    assert sslbench("pretrain", "--out", tmp_path / "run", "--resume").code == 0


def test_papers_data_is_never_made_up(sslbench, tmp_path) -> None:
    given = ["--config", "papers/dino_vit-base-p16_32xb32-coslr-400e_in1k"]
    assert_one_sentence(sslbench("pretrain", *given), "imagenet-1k .* give the folder with --data")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["--nproc", "2", "a"], ["a"]),
        (["a", "--nproc=2", "--out=x", "b"], ["a", "b"]),
        (["--set", "x=--out", "--out", "--nproc"], ["--set", "x=--out"]),
    ],
)
def test_options_are_taken_out(given, kept) -> None:
    assert train._without(given, "--nproc", "--out") == kept


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_from_the_command_line(tmp_path, places, labelled) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "sslbench.cli", "pretrain", "--method", "dino", "--nproc", "2"]
    command += ["--config", places["config"], "--set", "train.epochs=1", "--out", run]
    command += ["--set", "backbone.drop_path=0.0"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "already holds" not in done.stderr
    assert [record["step"] for record in read_log(run)] == [1, 2, 3, 4, 5]
    assert (run / checkpoint.WEIGHTS).exists()
