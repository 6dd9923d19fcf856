"""What Triton's autotuner chose for a contender, read from what it prints when it is asked to (``TRITON_PRINT_AUTOTUNING``)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

BEGUN = "-- a case begins"
"""A worker prints this before it sets a case up: a choice for an earlier one is none for this."""
_CHOICE = re.compile(r"Triton autotuning for function (\w{1,80}),.{0,4000}?best config selected: ([^;]{1,1000});", re.DOTALL)
_SETTING = re.compile(r"(\w{1,40}): (\d{1,9})(?=,|$)")

Choice = tuple[tuple[str, int], ...]
"""Settings of a kernel by name: blocks, ``num_warps``, ``num_stages``."""


def choices(log: str) -> dict[str, Choice]:
    """The last choice for each kernel since the present case began."""
    printed = log.rpartition(BEGUN)[2]
    return {
        kernel: tuple((name, int(value)) for name, value in _SETTING.findall(text)) for kernel, text in _CHOICE.findall(printed)
    }


def figures(launches: Sequence[Mapping[str, Choice]]) -> dict[str, float]:
    """For a record: each kernel's settings as most launches chose them, and how many different choices there were."""
    found: dict[str, float] = {}
    for kernel in dict.fromkeys(kernel for launch in launches for kernel in launch):
        chosen = Counter(launch[kernel] for launch in launches if kernel in launch)
        found[f"{kernel} choices"] = len(chosen)
        found |= {f"{kernel} {name}": value for name, value in chosen.most_common(1)[0][0]}
    return found
