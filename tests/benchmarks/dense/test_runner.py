"""Runs of detectors and segmenters: the same for any number of processes, after a kill, exported.

mmdet's import alone takes ten seconds.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from PIL import Image

from sslbench.benchmarks.dense import register  # noqa: F401 (fills the registries)
from sslbench.benchmarks.dense.__main__ import main
from sslbench.benchmarks.dense.runner import localised, run
from sslbench.errors import RunError, UserError
from sslbench.system.distributed import World
from tests.benchmarks.dense.small import (
    DETECTOR,
    LINEAR,
    UPERNET,
    metrics_of,
    small_config,
    steps_of,
    truth_of,
    write_config,
)

ALONE = World(0, 1, torch.device("cpu"))

pytestmark = pytest.mark.slow


class Killed(BaseException):
    """Ends a run as a signal would: nothing catches it."""


@HOOKS.register_module()
class KillHook(Hook):
    """Ends the run after a step, when everything else has been done about the step."""

    priority = "LOWEST"

    def __init__(self, step: int) -> None:
        self.step = step

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if batch_idx + 1 == self.step:
            raise Killed


def launch(folder: Path, processes: int) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    module = ["-m", "sslbench.benchmarks.dense", "run", str(folder)]
    done = subprocess.run([sys.executable, *launcher, *module], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def kill_after(folder: Path, config, step: int) -> None:
    """Runs `config` until it is killed after `step`; `folder` is then as a kill leaves it."""
    hooks = config.custom_hooks
    config.custom_hooks = [*hooks, {"type": "KillHook", "step": step}]
    write_config(folder, config)
    with pytest.raises(Killed):
        run(folder)
    config.custom_hooks = hooks
    write_config(folder, config)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "detector.pth", weights_only=True)["state_dict"]


@pytest.mark.parametrize("what", [DETECTOR, UPERNET], ids=["detector", "segmenter"])
def test_two_processes_take_the_steps_of_one(ended, root: Path, tmp_path: Path, what):
    launch(write_config(tmp_path, small_config(root, *what)), processes=2)
    alone, shared = steps_of(ended(what)), steps_of(tmp_path)
    assert [row["step"] for row in shared] == [1, 2, 3, 4]
    for one, two in zip(alone, shared, strict=True):
        assert two == pytest.approx(one, rel=1e-6 if one["step"] == 1 else 1e-4, abs=1e-9)
    found = weights_of(tmp_path)
    for name, values in weights_of(ended(what)).items():
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            torch.testing.assert_close(found[name], values, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("what", [DETECTOR, UPERNET], ids=["detector", "segmenter"])
def test_a_killed_run_ends_as_if_it_had_not_been(ended, root: Path, tmp_path: Path, what):
    kill_after(tmp_path, small_config(root, *what, save=True), step=2)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["step"] == 2
    assert not (tmp_path / "detector.pth").exists()
    run(tmp_path)
    assert steps_of(tmp_path) == steps_of(ended(what))
    assert metrics_of(tmp_path) == metrics_of(ended(what))
    found, expected = weights_of(tmp_path), weights_of(ended(what))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_what_a_run_leaves_behind(ended):
    folder = ended(LINEAR)
    files = {path.name: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    assert {"config.py", "log.jsonl", "detector.pth", "detector.py", "metrics.json"} <= set(files)
    assert not [name for name in files if name.endswith(".tmp") or name.startswith("state")]
    assert sum(size for name, size in files.items() if name != "detector.pth") < 300_000


def test_a_finished_training_is_only_tested_again(ended):
    folder = ended(LINEAR)
    before, trained = metrics_of(folder), (folder / "detector.pth").stat().st_mtime_ns
    (folder / "metrics.json").unlink()
    run(folder)
    assert metrics_of(folder) == before
    assert (folder / "detector.pth").stat().st_mtime_ns == trained


@HOOKS.register_module()
class ZeroHook(Hook):
    """Zeroes the head after the last step, hence after the last state.pt: every pixel is ground."""

    def after_train(self, runner) -> None:
        for parameter in runner.network.decode_head.parameters():
            torch.nn.init.zeros_(parameter)


def test_what_is_tested_is_the_end_not_the_last_state(root: Path, tmp_path: Path):
    config = small_config(root, *LINEAR, save=True)
    config.custom_hooks.append({"type": "ZeroHook"})
    run(write_config(tmp_path, config))
    labels = [np.asarray(Image.open(path)) for path in truth_of(root)]
    share = np.concatenate([found[found > 0] for found in labels]) == 1
    assert metrics_of(tmp_path)["aAcc"] == pytest.approx(100 * share.mean(), abs=0.01)


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_damaged_state_gives_way_to_the_one_before(ended, root: Path, tmp_path: Path, caplog):
    kill_after(tmp_path, small_config(root, *LINEAR, save=True), step=2)
    flip_a_bit(tmp_path / "state.pt")
    (tmp_path / "state.previous.pt").rename(before := tmp_path / "kept")
    absent = r"state.pt is truncated or damaged \(it does not match.*does not exist"
    with pytest.raises(UserError, match=absent):
        run(tmp_path)
    before.rename(tmp_path / "state.previous.pt")
    run(tmp_path)
    assert re.search(r"Resuming from .*state\.previous\.pt, step 1\.", caplog.text)
    assert steps_of(tmp_path) == steps_of(ended(LINEAR))
    assert metrics_of(tmp_path) == metrics_of(ended(LINEAR))


def test_the_state_of_another_job_is_refused(root: Path, tmp_path: Path):
    kill_after(tmp_path / "one", small_config(root, *LINEAR, save=True), step=2)
    (tmp_path / "one").rename(tmp_path / "two")
    with pytest.raises(UserError, match=r"state.pt belongs to another run \(job 'one', not 'two'"):
        run(tmp_path / "two")


def test_a_damaged_detector_is_made_anew(ended, tmp_path: Path, caplog):
    folder = tmp_path / ended(LINEAR).name
    shutil.copytree(ended(LINEAR), folder)
    (folder / "metrics.json").unlink()
    flip_a_bit(folder / "detector.pth")
    run(folder)
    assert re.search(r"detector\.pth is truncated or damaged .*made anew", caplog.text)
    assert metrics_of(folder) == metrics_of(ended(LINEAR))
    shutil.copy(folder / "detector.pth", folder / "state.pt")
    (folder / "detector.pth").unlink()
    with pytest.raises(UserError, match=r"state\.pt is damaged \(it has no 'step'\)"):
        run(folder)
    (folder / "state.pt").rename(folder / "detector.pth")
    folder.rename(other := tmp_path / "other")
    with pytest.raises(UserError, match=r"detector\.pth belongs to another run"):
        run(other)


def test_a_full_disk_leaves_no_half_written_detector(root: Path, tmp_path: Path, monkeypatch):
    write_config(tmp_path, small_config(root, *LINEAR))
    save = torch.save

    def fail(content, file) -> None:
        if "detector" in file.name:
            file.write(b"half")
            raise OSError(28, "No space left on device")
        save(content, file)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", fail)
        with pytest.raises(UserError, match=r"detector.pth cannot be written \(No space left"):
            run(tmp_path)
    assert not [*tmp_path.glob("*.pth"), *tmp_path.glob(".*.tmp")]
    run(tmp_path)
    assert [row["step"] for row in steps_of(tmp_path)] == [1, 2, 3, 4]


def test_a_loss_that_is_not_finite_ends_the_run(root: Path, tmp_path: Path):
    config = small_config(root, *UPERNET)
    config.optim_wrapper.optimizer.lr = 1e30
    with pytest.raises(RunError, match=r"is not finite at step \d .* lower the learning rate"):
        run(write_config(tmp_path, config))
    assert not (tmp_path / "detector.pth").exists()


def test_a_folder_without_a_config_is_named(tmp_path: Path, capsys):
    assert main(["run", str(tmp_path)]) == 2
    assert "holds no config.py" in capsys.readouterr().err


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_sync_bn_stays_where_there_are_gpus(root: Path, tmp_path: Path, device: str):
    config = small_config(root, *UPERNET)
    config.model.backbone.norm_cfg = {"type": "SyncBN"}
    found = localised(config, tmp_path, World(1, 2, torch.device(device)))
    assert found.model.backbone.norm_cfg.type == {"cpu": "BN", "cuda": "SyncBN"}[device]
    assert found.launcher == "pytorch"


@pytest.mark.parametrize(("images", "accumulate"), [(1, 4), (2, 2), (3, 2), (8, 1)])
def test_micro_batches_make_up_a_step(root: Path, tmp_path: Path, images: int, accumulate: int):
    config = small_config(root, *LINEAR)
    config.train_dataloader.batch_size = images
    found = localised(config, tmp_path, ALONE)
    assert found.train_dataloader.batch_size * accumulate == 4
    assert found.train_dataloader.batch_sampler.accumulate == accumulate
    assert found.optim_wrapper.accumulative_counts == accumulate
