import time

import pytest

from tests.speed.growth import Growth, exponent, measured


def test_the_exponent_of_a_power_is_its_own():
    sizes = (10, 20, 40, 80)
    assert exponent(sizes, [3 * n**1.5 for n in sizes]) == pytest.approx(1.5)


def test_time_is_that_of_the_work_alone():
    def prepared(size: int):
        _spend(0.2)  # is not counted
        return lambda: _spend(size / 1000)

    found = measured("work, size", prepared, (100, 200, 400))
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

    found = measured("work, size", prepared, (100, 200, 400), repeats=1)
    assert found.megabytes == pytest.approx((100, 200, 400), abs=60)  # the system frees, too
    assert "exponent" in found.line()


def test_a_line_says_all():
    growth = Growth("sort, numbers", (1000, 2000), (1.0, 2.0), (8, 16))
    assert growth.line() == "sort, numbers = 1,000, 2,000: 1, 2 s, exponent 1.00 of 1; 8, 16 MB"


def _spend(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
