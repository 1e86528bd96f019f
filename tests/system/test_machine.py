"""P6: workers and threads follow what the process may use, not what the machine has."""

import os

import pytest
import torch

from sslbench.errors import UserError
from sslbench.evaluation import evaluate
from sslbench.evaluation.features import workers_for
from sslbench.system import machine
from sslbench.system.distributed import World
from sslbench.system.machine import denormals_as_zeros, limit_threads, usable_cores
from sslbench.training import run
from tests.training import small


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A machine of 64 cores; place(own groups, file=content, ...) writes its control groups."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "PROCESS_CGROUPS", tmp_path / "own")
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)

    def write(own, **files):
        (tmp_path / "own").write_text(own)
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    return write


V1 = "9:name=systemd:/\n4:cpu,cpuacct:/docker/abc\n2:cpuset:/docker/abc\n0::/\n"
V2 = "0::/user.slice/job_7/step\n"
QUOTA, PERIOD = "cpu.cfs_quota_us", "cpu.cfs_period_us"


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        (V2, {}, 64),
        (V2, {"user.slice/job_7/step/cpu.max": "max 100000\n"}, 64),
        (V2, {"user.slice/job_7/step/cpu.max": "400000 100000\n"}, 4),
        (V2, {"user.slice/job_7/cpu.max": "150000 50000\n"}, 3),  # a limit further up counts too
        (V2, {"user.slice/cpu.max": "200000 100000", "user.slice/job_7/cpu.max": "800000 1000"}, 2),
        (V2, {"cpu.max": "250000 100000\n"}, 2),  # a container that sees its own group on top
        (V2, {"cpu.max": "50000 100000\n"}, 1),  # half a core
        (V2, {"cpu.max": "9000000 100000\n"}, 64),
        (V2, {"cpu.max": "nonsense"}, 64),
        (V1, {f"cpu/docker/abc/{QUOTA}": "600000\n", f"cpu/docker/abc/{PERIOD}": "100000\n"}, 6),
        (V1, {f"cpu,cpuacct/{QUOTA}": "300000\n", f"cpu,cpuacct/{PERIOD}": "100000\n"}, 3),
        (V1, {f"cpu/{QUOTA}": "-1\n", f"cpu/{PERIOD}": "100000\n"}, 64),
    ],
)
def test_an_allotment_of_the_container(place, own, files, cores):
    place(own, **files)
    assert usable_cores() == cores


def test_affinity_counts_where_it_is_less(place, monkeypatch):
    place(V2, **{"cpu.max": "800000 100000"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    assert usable_cores() == 2


def test_no_control_groups(place, tmp_path):
    assert not (tmp_path / "own").exists()
    assert usable_cores() == 64


@pytest.mark.parametrize(("processes", "each"), [("1", 8), ("3", 2), ("8", 1), ("20", 1)])
def test_processes_share(place, monkeypatch, processes, each):
    place(V2, **{"cpu.max": "800000 100000"})
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert usable_cores() == each
    assert workers_for(20_000, 16) == each


def test_torch_gets_no_more_threads_than_the_allotment(place, monkeypatch):
    had, given = [64], []
    monkeypatch.setattr(torch, "get_num_threads", lambda: had[0])
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    place(V2)
    limit_threads()
    place(V2, **{"cpu.max": "300000 100000"})
    limit_threads()
    limit_threads(5)  # who asks for more gets more
    had[0] = 1  # as OMP_NUM_THREADS says, or torchrun
    limit_threads()
    assert given == [64, 3, 5, 1]


def test_training_takes_what_there_is(place, monkeypatch, tmp_path, images):
    place(V2, **{"cpu.max": "600000 100000"})
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    asked = []
    monkeypatch.setattr(run, "make_loader", lambda *a, **k: asked.append(k["workers"]))
    recipe = small.recipe("dino", images, run={"workers": 8})
    run.load_views(run.set_up(recipe, tmp_path, World(0, 1, torch.device("cpu"))), 0)
    assert asked == [3]


def tiny() -> float:
    """A quarter of the least normal float32: 0 where denormals are taken as zeros."""
    return (torch.full((1,), torch.finfo(torch.float32).tiny) / 4).item()


def test_denormals_are_zeros_for_a_while_only():
    def fails():
        with denormals_as_zeros():
            raise OSError

    assert tiny() > 0
    with denormals_as_zeros():
        assert tiny() == 0
        with denormals_as_zeros():
            pass
        assert tiny() == 0
    assert tiny() > 0
    with pytest.raises(OSError):
        fails()
    assert tiny() > 0


def test_evaluation_takes_denormals_as_zeros(monkeypatch, tmp_path):
    found = []
    monkeypatch.setattr(evaluate, "limit_threads", lambda: found.append(tiny()))
    with pytest.raises(UserError):
        evaluate.evaluate([], "no such suite", {}, "test", tmp_path, False, None)
    assert found == [0]
    assert tiny() > 0


def test_the_first_cpu_is_read_as_linux_lists_it(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "CPUS", tmp_path / "cpuinfo")
    assert (machine.cpu_vendor(), machine.cpu_flags()) == ("", set())
    first = "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu avx512f\n"
    machine.CPUS.write_text(f"{first}\n{first.replace('AuthenticAMD', 'other')}vmx flags\t: x\n")
    assert (machine.cpu_vendor(), machine.cpu_flags()) == ("AuthenticAMD", {"fpu", "avx512f"})
