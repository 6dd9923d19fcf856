"""Philox noise: the published vectors, the statistics, and the same numbers from every backend."""

from __future__ import annotations

import math

import pytest
import torch
from aieng_kernels._family import Implementation, candidates, declared
from aieng_kernels.diffusion import Coefficients, diffusion_step
from aieng_kernels.diffusion.reference import philox4x32_10, philox_normal

ALL = 0xFFFFFFFF
KNOWN = [  # Random123, kat_vectors: philox4x32, 10 rounds
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ALL, ALL, ALL, ALL), (ALL, ALL), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
ONLY_NOISE = Coefficients(0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
HERE = [i for i in declared("diffusion") if i.unsupported() is None and (i.device == "cpu" or torch.cuda.is_available())]


def noise(count: int, seed: int, offset: int, implementation: Implementation) -> torch.Tensor:
    zero = torch.zeros(count, device=implementation.device)
    return diffusion_step(zero, zero, ONLY_NOISE, seed=seed, offset=offset, backend=implementation.name).prev_sample.cpu()


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_known_answers(counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]) -> None:
    c0, c1, c2, c3 = (torch.tensor([c]) for c in counter)
    assert tuple(int(w) for w in philox4x32_10((c0, c1, c2, c3), key)) == words


@pytest.mark.parametrize("implementation", HERE, ids=lambda i: f"{i.name}-{i.device}")
@pytest.mark.parametrize(
    ("seed", "offset"), [(0, 0), (1, 0), (0, 1), (2**32, 2**32), (2**63 - 1, 2**63 - 1), (123456789, 987654321)]
)
def test_every_backend_makes_the_same_numbers(implementation: Implementation, seed: int, offset: int) -> None:
    for count in (1, 2, 3, 5, 64, 1037):
        want = philox_normal(count, seed, offset, torch.float64)
        # A few roundings of numbers up to 6.8: the radius's, the angle's, the product's.
        assert torch.allclose(noise(count, seed, offset, implementation).double(), want, rtol=0, atol=4e-6)


@pytest.mark.parametrize("implementation", HERE, ids=lambda i: f"{i.name}-{i.device}")
def test_moments_and_independence(implementation: Implementation) -> None:
    n = 200_000
    z = noise(n, 42, 0, implementation).double()
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10170)):
        assert abs(float((z**power).mean()) - moment) < 5 * math.sqrt(variance / n), power
    for lag in range(1, 9):  # within a block of four, and across
        assert abs(float((z[lag:] * z[:-lag]).mean())) < 5 / math.sqrt(n)
        assert abs(float(((z[lag:] ** 2 - 1) * (z[:-lag] ** 2 - 1)).mean())) < 5 * 2 / math.sqrt(n)
    for other in (noise(n, 43, 0, implementation), noise(n, 42, 1, implementation), noise(n, 42 + 2**32, 0, implementation)):
        assert abs(float((z * other.double()).mean())) < 5 / math.sqrt(n)


def test_a_stream_does_not_depend_on_its_length_or_the_number_of_threads() -> None:
    threads = torch.get_num_threads()
    best = candidates("diffusion", "cpu", "float32")[0]
    try:
        torch.set_num_threads(1)
        one = noise(100_001, 7, 3, best)
        torch.set_num_threads(3)
        assert torch.equal(noise(100_001, 7, 3, best), one)
        assert torch.equal(noise(77, 7, 3, best), one[:77])
    finally:
        torch.set_num_threads(threads)
