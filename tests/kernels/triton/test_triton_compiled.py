"""The machine code of every kernel, configuration and dtype for sm_90: it fits, and has the instructions meant."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from aieng_kernels._aot import SHARED_LIMIT, Compiled

pytestmark = pytest.mark.timeout(1200)
Family = dict[str, list[Compiled]]


def hold(found: list[Compiled], wanted: Callable[[Compiled], bool]) -> None:
    assert found
    failing = [f"{c} local={c.local}" for c in found if not wanted(c)]
    if failing:
        pytest.fail("\n".join([f"{len(failing)} of {len(found)}:", *failing]), pytrace=False)


@pytest.mark.parametrize("family", ["attention", "hopper attention", "diffusion"])
def test_fits_without_local_memory(compiled: Family, family: str) -> None:
    """Stack and LDL/STL, and not spills alone: indexing registers at run time uses the stack without spilling."""
    hold(compiled[family], lambda c: c.shared <= SHARED_LIMIT and c.stack == 0 and c.local == 0)


def test_half_precision_attention_runs_on_the_tensor_cores(compiled: Family) -> None:
    """HGMMA is Hopper's warpgroup product; the slower HMMA would be a layout that Triton could not map."""
    half = [c for c in compiled["attention"] if ("bf16" in c.label or "fp16" in c.label) and "statistics" not in c.label]
    hold(half, lambda c: c.count("HGMMA") > 0 and c.count("HMMA") == 0)


def test_float32_attention_is_not_rounded_to_tf32(compiled: Family) -> None:
    """True float32 has no tensor core: its products are FFMA, in the smallest block (16 x 32 of 64 dimensions) 384 a thread."""
    single = [c for c in compiled["attention"] if "fp32" in c.label and "statistics" not in c.label]
    hold(single, lambda c: c.count("HGMMA") == c.count("HMMA") == 0 and c.count("FFMA") >= 384)


def test_attention_tiles_are_copied_ahead_16_bytes_at_a_time(compiled: Family) -> None:
    """LDGSTS is the asynchronous copy to shared memory that the loop's stages live on."""
    half = [c for c in compiled["attention"] if ("bf16" in c.label or "fp16" in c.label) and "statistics" not in c.label]
    hold(half, lambda c: any(o.startswith("LDGSTS") and ".128" in o for o in c.instructions))


def test_hopper_attention_has_its_roles(compiled: Family) -> None:
    """Tiles come by TMA and none by a thread's load; each role has its registers, and all products are HGMMA."""
    wanted = ("HGMMA", "UTMALDG.4D", "UTMASTG.4D", "USETMAXREG")
    hold(
        compiled["hopper attention"],
        lambda c: all(c.count(o) for o in wanted) and c.count("HMMA") == c.count("LDG.E.128") == 0 and c.threads in (384, 512),
    )


def test_diffusion_moves_16_bytes_at_a_time(compiled: Family) -> None:
    hold(compiled["diffusion"], lambda c: c.count("LDG.E.128") >= 2)
    hold(steps(compiled), lambda c: c.count("STG.E.128") >= 1)


def test_diffusion_passes_nothing_between_threads(compiled: Family) -> None:
    """Noise is made where it is added: a barrier would be a change of layout through shared memory."""
    hold(steps(compiled), lambda c: c.count("BAR") == c.count("STS") == 0)


def steps(compiled: Family) -> list[Compiled]:
    """All but what looks at whole samples first, which stores a number or two."""
    return [c for c in compiled["diffusion"] if not c.label.startswith("samples")]


def test_compiling_where_kernels_are_interpreted_is_refused() -> None:
    code = (
        "from aieng_kernels._aot import compile_variant; from aieng_kernels.diffusion.triton_fused import variants; "
        "compile_variant(next(variants()))"
    )
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "RuntimeError: step fp32" in done.stderr
    assert "is TRITON_INTERPRET set?" in done.stderr
