import os
import time
from pathlib import Path

import pytest

from sslbench.system.distributed import World
from tests.speed.growth import Growth, Part, PartOfProcesses, exponent, measured


def test_the_exponent_of_a_power_is_its_own():
    sizes = (10, 20, 40, 80)
    assert exponent(sizes, [3 * n**1.5 for n in sizes]) == pytest.approx(1.5)


def test_time_is_that_of_the_work_alone():
    def prepared(size: int):
        _spend(0.2)  # is not counted
        return lambda: _spend(size / 1000)

    found = measured(Part("work, size", prepared, (100, 200, 400)))
    assert found.exponent == pytest.approx(1, abs=0.25)


def test_memory_is_that_of_the_work_alone():
    def prepared(size: int):
        data = bytearray(2**25)  # is not counted

        def work() -> int:
            more = bytearray(size * 2**20)
            for place in range(0, len(more), 4096):
                more[place] = 1
            return len(data)

        return work

    found = measured(Part("work, size", prepared, (100, 200, 400)), rounds=1)
    assert found.mebibytes == pytest.approx((100, 200, 400), abs=60)  # the system frees, too
    assert "exponent" in found.line()


def test_all_processes_of_a_world_are_counted():
    def prepared(world: World):
        return lambda: _spend(0.1 * (world.rank + 1))

    cost = PartOfProcesses("work, processes", prepared, (1, 2)).cost(2)
    assert cost.seconds == pytest.approx(0.3, abs=0.1)
    alone = PartOfProcesses("work, processes", prepared, (1, 2)).cost(1)
    assert alone.seconds == pytest.approx(0.1, abs=0.05)


def test_a_work_has_an_empty_folder_for_itself_which_is_removed(tmp_path):
    def prepared(size: int):
        assert not list(Path().iterdir())
        (tmp_path / "seen").write_text(f"{Path.cwd()} {os.environ['SSLBENCH_HOME']}")
        return lambda: Path("file").write_text("text")

    Part("work, size", prepared, (1,)).cost(1)
    place, home = (tmp_path / "seen").read_text().split()
    assert place == home != str(Path.cwd()) and not Path(place).exists()


def test_a_line_says_all():
    growth = Growth("sort, numbers", (1000, 2000), (1.0, 2.0), (8, 16))
    assert growth.line() == "sort, numbers = 1,000, 2,000: 1, 2 s, exponent 1.00 of 1; 8, 16 MiB"


@pytest.mark.parametrize(("last", "steep"), [(2.2, False), (2.5, True)])
def test_a_line_says_what_is_too_steep(last, steep):
    growth = Growth("sort, numbers", (1000, 2000), (1.0, last), (8, 16))
    assert ("too steep" in growth.line()) == steep


def _spend(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
