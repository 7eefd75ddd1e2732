"""The generator's histogram, compiled alone, beside quantiles of sorted values."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest
from harness import toolchain

PROGRAM = r"""
#include <stdio.h>
#include "histogram.h"

int main(void) {
    static hist_t h;
    double v;
    while (scanf("%lf", &v) == 1) hist_add(&h, v);
    printf("%.3f %.3f %.3f %.3f\n", hist_quantile(&h, 0.5), hist_quantile(&h, 0.99),
           hist_quantile(&h, 0.999), h.largest / 1e3);
}
"""


@pytest.fixture(scope="module")
def histogram(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("histogram")
    (folder / "main.c").write_text(PROGRAM)
    argv = [compiler, "-Wall", "-Werror", f"-I{toolchain.SOURCES}", "-o", "main", "main.c"]
    subprocess.run(argv, cwd=folder, check=True, timeout=30)
    return folder / "main"


def quantiles(program: Path, values: list[float]) -> list[float]:
    """p50, p99, p99.9 and the largest of *values*, which are seconds, in µs."""
    text = "\n".join(f"{value:.12f}" for value in values)
    done = subprocess.run([program], input=text, capture_output=True, text=True, timeout=30)
    return [float(number) for number in done.stdout.split()]


@pytest.mark.parametrize("scale", [1e-7, 1e-6, 1e-4, 1e-2, 1.0])
def test_quantiles_are_right_within_one_per_cent(histogram: Path, scale: float) -> None:
    rng = random.Random(scale)
    values = sorted(rng.lognormvariate(0, 1) * scale for _ in range(5000))
    exact = [values[2500], values[4950], values[4995], values[-1]]
    expected = [pytest.approx(value * 1e6, rel=0.01, abs=0.001) for value in exact]
    assert quantiles(histogram, values) == expected


def test_one_value_is_all_quantiles(histogram: Path) -> None:
    assert quantiles(histogram, [1e-6]) == pytest.approx([1, 1, 1, 1], rel=0.01)


def test_nothing_and_times_before_zero_are_no_time(histogram: Path) -> None:
    """A reply cannot be earlier than it was due, but a clock can be read twice."""
    assert quantiles(histogram, []) == [0, 0, 0, 0]
    assert quantiles(histogram, [-1.0, 0.0]) == [0, 0, 0, 0]


def test_what_takes_longer_than_minutes_is_not_lost(histogram: Path) -> None:
    assert quantiles(histogram, [1e-6, 2e4])[-1] == pytest.approx(2e10)
