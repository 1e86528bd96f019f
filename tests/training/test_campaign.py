"""Campaigns: what comes first, what is skipped, and what happens when a run fails."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from sslbench import plugins
from sslbench.errors import RunError, UserError
from sslbench.storage import layout
from sslbench.training import campaign
from sslbench.training.campaign import Job
from tests.training import small

FINISH = "open(OUT + '/weights.safetensors', 'w').close()"
SLEEP = "import os, time; open(OUT + '/pid', 'w').write(str(os.getpid())); time.sleep(60)"


@dataclass(frozen=True)
class FakeJob(Job):
    """Runs `code` with OUT set instead of training."""

    code: str = FINISH

    def arguments(self) -> list[str]:
        return ["-S", "-c", f"OUT = {str(self.out)!r}\n{self.code}"]


@pytest.fixture
def job(tmp_path, monkeypatch):
    """job(name, code, after) below tmp_path."""
    monkeypatch.setattr(campaign, "POLL_SECONDS", 0.02)
    recipe = small.recipe("dino", Path("data"))

    def make(name: str, code: str = FINISH, after: tuple[str, ...] = ()) -> FakeJob:
        needed = tuple(tmp_path / other for other in after)
        return FakeJob(recipe, plugins.METHODS, tmp_path / name, needed, code)

    return make


def run(jobs, at_once: int = 2) -> str:
    screen = io.StringIO()
    campaign.run(jobs, at_once, Console(file=screen))
    return screen.getvalue()


def test_tokenizers_come_first_and_are_given_to_those_that_need_them(tmp_path) -> None:
    jobs = campaign.plan("shapes", tmp_path, [0, 1])
    assert [job.out.name for job in jobs] == [
        f"{name}-seed{seed}" for seed in (0, 1) for name in ("dvae", "beit", "dino", "ibot")
    ]
    by_name = {job.out.name: job for job in jobs}
    assert by_name["dvae-seed1"].group == plugins.TOKENIZERS
    beit = by_name["beit-seed1"]
    assert beit.after == (tmp_path / "dvae-seed1",)
    assert beit.recipe.needs == {"tokenizer": str(tmp_path / "dvae-seed1")}
    assert by_name["ibot-seed1"].after == by_name["dvae-seed1"].after == ()
    assert {job.recipe.train.seed for job in jobs if job.out.name.endswith("1")} == {1}


def test_an_unknown_folder_of_configs(tmp_path) -> None:
    with pytest.raises(UserError, match="no config in 'shape'"):
        campaign.plan("shape", tmp_path, [0])


def test_a_job_is_the_command_a_person_would_type(tmp_path) -> None:
    jobs = {job.recipe.method_name: job for job in campaign.plan("shapes", tmp_path, [2])}
    beit = " ".join(jobs["beit"].arguments())
    assert f"pretrain --method beit --out {tmp_path}/beit-seed2 --config shapes/beit" in beit
    assert "--set train.seed=2" in beit
    assert f"--set needs.tokenizer={tmp_path}/dvae-seed2" in beit
    assert "tokenizer train --kind dvae" in " ".join(jobs["dvae"].arguments())


@pytest.mark.parametrize("name", [layout.STATE, layout.PREVIOUS])
def test_a_job_that_has_begun_is_resumed(tmp_path, name) -> None:
    dino = next(j for j in campaign.plan("shapes", tmp_path, [0]) if "dino" in j.out.name)
    dino.out.mkdir()
    (dino.out / name).touch()
    assert dino.arguments()[-3:] == ["--out", str(dino.out), "--resume"]


def test_jobs_wait_for_what_they_need(job, tmp_path) -> None:
    first = job("first", f"import time; time.sleep(0.3); {FINISH}")
    needs = f"import os; assert os.path.exists({str(tmp_path / 'first' / layout.WEIGHTS)!r})"
    second = job("second", f"{needs}\n{FINISH}", after=("first",))
    said = run([second, first])
    assert first.done and second.done
    assert said.index("first: done") < said.index("second: done")


def test_jobs_that_need_others_come_last(job) -> None:
    first = job("first")
    jobs = [first, job("needs", after=("first",)), job("a"), job("b")]
    said = run(jobs, at_once=1)
    ends = [said.index(f"{name}: done") for name in ("first", "a", "b", "needs")]
    assert ends == sorted(ends)


def test_what_is_done_is_not_done_again(job) -> None:
    done = job("done", "raise SystemExit(1)")
    done.out.mkdir()
    (done.out / layout.WEIGHTS).touch()
    other = job("other", after=("done",))
    run([done, other])
    assert other.done


def test_no_more_jobs_at_once_than_asked_for(job, tmp_path) -> None:
    alone = f"""
import os, time
os.mkdir({str(tmp_path / "lock")!r})
time.sleep(0.1)
os.rmdir({str(tmp_path / "lock")!r})
{FINISH}"""
    jobs = [job(name, alone) for name in "abc"]
    run(jobs, at_once=1)
    assert all(j.done for j in jobs)


def test_a_failure_names_the_run_and_ends_the_others(job) -> None:
    wait = "import os, time\nwhile not os.path.exists(OUT + '/../slow/pid'): time.sleep(0.02)"
    slow = job("slow", SLEEP)
    bad = job("bad", f"{wait}\nimport sys; sys.exit('error: the disk is full.')")
    never = job("never", after=("bad",))
    begun = time.monotonic()
    with pytest.raises(RunError) as error:
        run([slow, bad, never])
    assert time.monotonic() - begun < 30
    assert "bad failed (error: the disk is full.)" in str(error.value)
    assert str(bad.out / "console.log") in str(error.value)
    with pytest.raises(ProcessLookupError):
        os.kill(int((slow.out / "pid").read_text()), 0)
    assert not never.out.exists()


def test_two_campaigns_in_one_folder(job, tmp_path) -> None:
    """The second says who is there, and leaves the first one's runs alone."""
    code = (
        "import sys, time; from pathlib import Path; from sslbench.training.folder import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        try:
            assert first.stdout is not None and first.stdout.readline() == "held\n"
            one = job("one")
            with pytest.raises(UserError, match=rf"is being trained by process {first.pid} on"):
                run([one])
            assert not one.out.exists()
        finally:
            first.kill()
    run([one])
    assert one.done


def test_a_run_that_says_nothing(job) -> None:
    with pytest.raises(RunError, match="it printed nothing"):
        run([job("bad", "raise SystemExit(1)")])


def test_a_run_that_is_killed(job) -> None:
    """Its last words tell of a step."""
    killed = job("one", "import os; print('step 3', flush=True); os.kill(os.getpid(), 9)")
    with pytest.raises(RunError, match=r"failed \(it was killed by SIGKILL .*run this again"):
        run([killed])


def test_progress_is_read_from_a_log_that_is_being_written(job) -> None:
    record = '{"step": 7, "epoch": 1.5, "loss": 2.0, "images_per_s": 100.0}'
    write = f"open(OUT + '/log.jsonl', 'w').write({record!r} + chr(10) + '{{\"step\": ')"
    said = run([job("one", f"{write}\n{FINISH}")])
    assert "one: 50%  loss 2.000  100 images/s" in said


def test_a_run_of_other_settings_is_not_taken_for_the_planned_one(job, dino_run) -> None:
    """T2: the folder's name says nothing of what was trained in it."""
    planned = job("dino")
    planned.out.mkdir()
    (planned.out / "weights.safetensors").touch()
    begun = json.loads((dino_run / layout.CONFIG).read_text())
    (planned.out / layout.CONFIG).write_text(json.dumps(begun))
    with pytest.raises(UserError, match=r"other settings \(train.epochs\); remove or rename it"):
        run([planned])
    begun["train"]["epochs"] = planned.recipe.train.epochs
    begun["train"]["seed"], begun["run"]["workers"] = 5, 3
    (planned.out / layout.CONFIG).write_text(json.dumps(begun))
    run([planned])
    (planned.out / layout.CONFIG).write_text("{")
    with pytest.raises(UserError, match=r"config.json is damaged"):
        run([planned])
