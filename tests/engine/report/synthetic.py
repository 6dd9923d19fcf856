"""Invented records that look like a real run: two kernels, a study, every outcome, and names that attack the page.

All figures come from a seeded generator and a machine that does not exist.
"""

from __future__ import annotations

import random
from typing import Any

from aieng_bench.record.schema import (
    Check,
    ContenderInfo,
    Correctness,
    Definition,
    Environment,
    Limit,
    MetricInfo,
    Outcome,
    OutputError,
    Quality,
    Record,
)

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "javascript:alert(1)",
    "</script><script>alert(1)</script>",
    "a|b `c` @team *d* [e](javascript:alert(1)) {{ 7*7 }}",
    "abc\u202etxt.exe\u2066\u200b\x1b[31m",
    '"><a href="https://example.invalid/">x</a>',
)

LATENCY = (
    MetricInfo(name="latency_us", unit="µs", better="lower", title="latency, hot cache"),
    MetricInfo(name="latency_cold_us", unit="µs", better="lower", title="latency, cold cache"),
)
STUDY = (
    MetricInfo(name="accuracy", unit="%", better="higher", title="test accuracy"),
    MetricInfo(name="time_to_95_s", unit="s", better="lower", title="time to 95 %"),
    MetricInfo(name="inference_per_s", unit="images/s", better="higher", title="inference throughput"),
    MetricInfo(name="latency_p50_us", unit="µs", better="lower", title="latency p50"),
    MetricInfo(name="latency_p99_us", unit="µs", better="lower", title="latency p99"),
    MetricInfo(name="parameters", unit="", better="lower", title="parameters"),
)
BANDWIDTH, RATES = 21e9, {"float32": 160e9, "bfloat16": 640e9}


def environment(**changes: Any) -> Environment:
    machine = {
        "machine": "example-cpu-2c-16g",
        "cpu": "Example CPU 9000 @ 3.00GHz",
        "cores": 2,
        "memory_gib": 15.6,
        "isa": ("avx2", "avx512", "avx512_bf16"),
        "os": "Linux 6.1 x86_64",
        "python": "3.11.9",
        "libraries": {"torch": "2.13.0", "numpy": "2.3.5", "diffusers": "0.42.1", "scikit-learn": "1.9.1"},
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "dirty": False,
        "threads": 2,
        "malloc": "tuned",
        "variables": {"MALLOC_TRIM_THRESHOLD_": "4294967296"},
    }
    return Environment(**{**machine, **changes})


def definition(benchmark: str, kind: str, title: str, baseline: str, metrics: tuple[MetricInfo, ...], **work: Any) -> Definition:
    return Definition(
        suite="vision" if kind == "study" else "kernels",
        benchmark=benchmark,
        kind=kind,  # type: ignore[arg-type]
        title=title,
        summary=f"What {title.lower()} costs, and how right it is.",
        baseline=baseline,
        metrics=metrics,
        hash=f"{len(benchmark):016x}",
        **work,
    )


def record(
    declared: Definition,
    case: dict[str, Any],
    name: str,
    kind: str,
    *,
    run: str = "2026-11-24-0123456",
    created: str = "2026-11-24T12:00:00Z",
    machine: Environment | None = None,
    package: str = "",
    **fields: Any,
) -> Record:
    machine = machine or environment()
    pieces: dict[str, Any] = {
        "run": run,
        "created": created,
        "definition": declared,
        "case": case,
        "contender": ContenderInfo(
            name=name,
            kind=kind,  # type: ignore[arg-type]
            package=package,
            version=machine.libraries.get(package, ""),
            source_hash="ab12cd34ef56ab78",
        ),
        "outcome": Outcome.RAN,
        "check": passed(random.Random(name).uniform(0.4, 1.1)),
        "command": f"aieng-bench run {declared.benchmark} --contender '{name}' --device {case['device']}",
        "environment": machine,
    }
    return Record(**{**pieces, **fields})


def passed(ratio: float) -> Check:
    return check(Correctness.PASSED, "", ratio)


def check(verdict: Correctness, reason: str, ratio: float | None) -> Check:
    rmse = None if ratio is None else ratio * 2.1e-3
    error = OutputError(
        output="out",
        rmse=rmse,
        framework_rmse=2.1e-3,
        rmse_ratio=ratio,
        worst_row_ratio=ratio,
        max_abs_error=None if ratio is None else ratio * 7e-3,
        out_of_tolerance=0.0 if verdict is Correctness.PASSED else 0.31,
    )
    return Check(verdict=verdict, reason=reason, outputs=(error,), deterministic=verdict is Correctness.PASSED, checks=24)


def samples(centre: float, seed: str, launches: int = 5, rounds: int = 10, spread: float = 0.01) -> tuple[tuple[float, ...], ...]:
    draw = random.Random(seed)
    by_launch = [centre * draw.lognormvariate(0, spread) for _ in range(launches)]
    return tuple(tuple(at * draw.lognormvariate(0, spread) for _ in range(rounds)) for at in by_launch)


def measured(latency: float, seed: str, **more: Any) -> dict[str, Any]:
    return {
        "samples": {"latency_us": samples(latency, seed), "latency_cold_us": samples(latency * 1.18, seed + "cold")},
        "rounds": tuple(tuple(range(10)) for _ in range(5)),
        "memory": {"peak_bytes": random.Random(seed).uniform(2, 40) * 2**20},
        "setup_s": random.Random(seed).uniform(0.001, 0.4),
        **more,
    }


def floor(flops: float, moved: float, compute: str) -> Limit:
    memory, arithmetic = moved / BANDWIDTH, flops / RATES[compute]
    return Limit(
        time_us=max(memory, arithmetic) * 1e6,
        binds="memory" if memory > arithmetic else "compute",
        bandwidth_bytes_per_s=BANDWIDTH,
        rate_per_s=RATES[compute],
        source="measured",
    )


def attention(**run: Any) -> list[Record]:
    records = []
    for dtype, width, gain in (("bfloat16", 2, 1.0), ("float32", 4, 2.4)):
        for S in (512, 1024, 2048):
            case = {"B": 1, "H": 8, "S": S, "D": 64, "dtype": dtype, "causal": True, "device": "cpu"}
            flops, moved = 2.0 * 8 * S * S * 64, 4.0 * 8 * S * 64 * width
            limit = floor(flops, moved, dtype)
            declared = definition(
                "attention/forward", "kernel", "Attention, forward", "torch_sdpa", LATENCY, flops=flops, bytes=moved, compute=dtype
            )
            for name, kind, over in (
                ("cpu_avx512_bf16", "ours", 2.6),
                ("cpu_avx512", "ours", 3.1),
                ("cpu_portable", "ours", 9.0),
                ("torch_sdpa", "baseline", 4.3),
                ("torch_blocked", "baseline", 3.4),
            ):
                timed = measured(limit.time_us * over * (gain if kind == "ours" else 1), f"{name}{S}{dtype}", limit=limit)
                records.append(record(declared, case, name, kind, package="torch" if kind == "baseline" else "", **run, **timed))
            reason = "needs a CUDA device; this machine has none"
            unchecked = Check(verdict=Correctness.UNCHECKED)
            for name in ("cuda_sm90_ws", "triton_persistent"):
                records.append(
                    record(declared, case, name, "ours", outcome=Outcome.UNSUPPORTED, outcome_reason=reason, check=unchecked, **run)
                )
    return records


def failures(**run: Any) -> list[Record]:
    """One case in which everything that can go wrong goes wrong, under hostile names."""
    case = {"N": 524288, "dtype": "float32", "device": "cpu"}
    flops, moved = 8.0 * 524288, 12.0 * 524288
    limit = floor(flops, moved, "float32")
    declared = definition(
        "diffusion/ddim_step", "kernel", "DDIM step", "diffusers", LATENCY, flops=flops, bytes=moved, compute="float32"
    )
    unchecked = Check(verdict=Correctness.UNCHECKED)
    timed = {
        name: measured(limit.time_us * over, name, limit=limit)
        for name, over in (
            ("cpu_avx512", 1.4),
            ("diffusers", 6.2),
            ("torch_eager", 5.1),
            ("noisy", 1.3),
            ("fast", 0.5),
            ("wrong", 1.0),
            ("bare", 1.2),
        )
    }
    cells: list[tuple[str, str, dict[str, Any]]] = [
        ("cpu_avx512", "ours", timed["cpu_avx512"]),
        ("diffusers", "baseline", {"package": "diffusers", **timed["diffusers"]}),
        ("torch_eager", "baseline", {"package": "torch", **timed["torch_eager"]}),
        (
            "noisy_neighbour",
            "ours",
            {**timed["noisy"], "quality": Quality.NOISY, "quality_reason": "another process used 60 % of the CPU"},
        ),
        (
            "faster_than_light",
            "baseline",
            {**timed["fast"], "quality": Quality.SUSPECT, "quality_reason": "below the physical floor"},
        ),
        (HOSTILE[0], "ours", {**timed["wrong"], "check": check(Correctness.INCORRECT, f"RMSE ratio 31 > 2 {HOSTILE[2]}", 31.0)}),
        ("gives_nan", "ours", {**timed["wrong"], "check": check(Correctness.INCORRECT, "the output is not finite", None)}),
        (HOSTILE[1], "baseline", {**timed["bare"], "check": unchecked}),
        (
            HOSTILE[2],
            "ours",
            {
                "outcome": Outcome.CRASHED,
                "outcome_reason": "signal 11 (SIGSEGV)",
                "check": unchecked,
                "log": f"Fatal Python error {HOSTILE[0]}\n{HOSTILE[2]}\n```\n",
            },
        ),
        (
            HOSTILE[3],
            "baseline",
            {"outcome": Outcome.TIMEOUT, "outcome_reason": f"no answer in 600 s {HOSTILE[3]}", "check": unchecked},
        ),
        (HOSTILE[4], "baseline", {"outcome": Outcome.OOM, "outcome_reason": "out of memory\u202e", "check": unchecked}),
        (HOSTILE[5], "ours", {"outcome": Outcome.OOM_HOST, "outcome_reason": "killed by the host", "check": unchecked}),
        (
            "old_library",
            "baseline",
            {"outcome": Outcome.ERROR, "outcome_reason": "TypeError: unexpected argument", "check": unchecked},
        ),
        ("triton_fused", "ours", {"outcome": Outcome.UNSUPPORTED, "outcome_reason": "needs a CUDA device", "check": unchecked}),
    ]
    return [record(declared, case, name, kind, **{**run, **fields}) for name, kind, fields in cells]


def study(**run: Any) -> list[Record]:
    declared = definition("vision/digits", "study", "Digits, trained from scratch", "resnet", STUDY)
    case = {"dataset": "digits", "device": "cpu"}
    figures = {
        "vit_ours": ("ours", 98.4, 9.0, 41000, 240, 390, 204_000, 61),
        "vit_torch": ("baseline", 98.3, 11.5, 33000, 310, 520, 204_000, 88),
        "resnet": ("baseline", 98.9, 6.1, 28000, 420, 700, 78_000, 47),
        "svc": ("baseline", 98.8, 0.4, 9000, 1100, 1400, 71_000, 12),
    }
    records = []
    for name, (kind, *centres, mebibytes) in figures.items():
        drawn = {
            metric.name: (
                tuple(centre * random.Random(f"{name}{metric.name}{seed}").gauss(1, 0.003 if i else 0.001) for seed in range(3)),
            )
            for i, (metric, centre) in enumerate(zip(STUDY, centres, strict=True))
        }
        drawn["parameters"] = ((centres[-1],) * 3,)
        records.append(
            record(
                declared,
                case,
                name,
                kind,
                samples=drawn,
                rounds=((0, 1, 2),),
                memory={"peak_bytes": mebibytes * 2**20},
                check=Check(verdict=Correctness.PASSED),
                extra={"_epochs": 20.0},
                setup_s=0.2,
                **run,
            )
        )
    records.append(
        record(
            declared,
            case,
            "vit_flash",
            "ours",
            outcome=Outcome.UNSUPPORTED,
            outcome_reason="needs a CUDA device",
            check=Check(verdict=Correctness.UNCHECKED),
            **run,
        )
    )
    return records


def run(**fields: Any) -> list[Record]:
    """A whole run, in the order a runner would write it."""
    return attention(**fields) + failures(**fields) + study(**fields)


def two_runs() -> list[Record]:
    """A run without and, a day later, one with a GPU and uncommitted changes."""
    gpu = environment(machine="example-gpu", cpu="Example CPU 9001", gpu="Example GPU", gpu_memory_gib=80.0, dirty=True)
    return run() + run(run="2026-11-25-fedcba9", created="2026-11-25T09:00:00Z", machine=gpu)


def under_hostile_names() -> list[Record]:
    """Attention and the study, every contender but the named baselines under a name that attacks the page."""
    records = []
    for hostile, cell in zip(HOSTILE * 99, attention() + study()):
        name = cell.contender.name if cell.contender.name == cell.definition.baseline else f"{hostile}{cell.contender.name}"
        records.append(cell.model_copy(update={"contender": cell.contender.model_copy(update={"name": name})}))
    return records
