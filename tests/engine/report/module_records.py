"""Invented records of the vision suite's studies, with exhibits, as its report reads them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import synthetic

from aieng_bench.record.exhibits import Confusion, Curve, Pictures
from aieng_bench.record.schema import Check, Correctness, MetricInfo, Record

STUDY = (
    MetricInfo(name="accuracy", unit="", better="higher", title="test accuracy"),
    MetricInfo(name="time_to_95_s", unit="s", better="lower", title="training time to 95 % validation accuracy"),
    MetricInfo(name="latency_p50_us", unit="µs", better="lower", title="latency p50, batch 1"),
    MetricInfo(name="parameters", unit="", better="lower", title="parameters"),
)
PASSED = Check(verdict=Correctness.PASSED)


def study(
    name: str, contenders: dict[str, tuple[tuple[float, ...], float]], *, baseline: str, masks: bool = False, **fields: Any
) -> list[Record]:
    """Records of a study whose contenders have these qualities, a seed each, and this latency in microseconds."""
    declared = synthetic.definition(f"vision/{name}", "study", name.capitalize(), baseline, STUDY)
    records = []
    for contender, (qualities, latency) in contenders.items():
        seeds = range(len(qualities))
        draw = random.Random(contender)
        samples = {
            "accuracy": qualities,
            "time_to_95_s": [3.0 + seed for seed in seeds],
            "latency_p50_us": [latency * draw.gauss(1, 0.004) for _ in seeds],
            "parameters": [4000.0 * len(contender)] * len(qualities),
        }
        records.append(
            synthetic.record(
                declared,
                {"epochs": 18, "device": "cpu"},
                contender,
                "ours" if contender.endswith("_aieng") else "baseline",
                samples={metric: (tuple(values),) for metric, values in samples.items()},
                rounds=(tuple(seeds),),
                memory={"peak_bytes": 2.0**20 * len(contender)},
                check=PASSED,
                schema_version=2,
                exhibits=shown(qualities, masks),
                **fields,
            )
        )
    return records


def shown(qualities: tuple[float, ...], masks: bool) -> dict[str, Any]:
    """A curve and a matrix for each seed, pictures of the first."""
    curves = [
        Curve(x="epoch", y="validation accuracy", points=tuple((float(n), q * (1 - 0.7**n)) for n in range(1, 9)))
        for q in qualities
    ]
    matrix = Confusion(labels=("one", "two", "three"), counts=((30, 1, 0), (0, 28, 4), (2, 0, 33)))
    columns = ("image", "truth", "prediction") if masks else ("image", "block 1", "block 2")
    pixels = np.random.default_rng(0).integers(0, 255, (2, 3, 8, 8, 3), np.uint8)
    pictures = Pictures.of(("two", "three, taken for two"), columns, pixels)
    return {
        "learning": tuple(curves),
        "confusion": (matrix,) * len(qualities),
        "masks" if masks else "attention": (pictures,),
    }


def module_records() -> list[Record]:
    """Three studies: a worse but faster transformer, a better and slower one, and an unmeasured rest."""
    return [
        *study(
            "digits",
            {
                "resnet": ((0.98, 0.985, 0.982), 400.0),
                "vit_aieng": ((0.95, 0.957, 0.953), 300.0),
                "svc": ((0.97, 0.97, 0.97), 90.0),
            },
            baseline="resnet",
        ),
        *study(
            "segmentation",
            {"unet": ((0.80, 0.81, 0.79), 900.0), "vit_aieng": ((0.86, 0.868, 0.851), 1200.0)},
            baseline="unet",
            masks=True,
        ),
    ]


def edge_records() -> list[Record]:
    """The same network in three runtimes, one of which is too slow for a camera."""
    runtimes = {"torch": ((0.95, 0.95), 40_000.0), "onnxruntime": ((0.95, 0.95), 300.0), "openvino": ((0.949, 0.951), 250.0)}
    records = study("edge", runtimes, baseline="torch")
    verdicts = {"torch": (0.0, 0.0), "onnxruntime": (1.0, 1.0), "openvino": (1.0, 0.0)}
    metrics = (
        *STUDY,
        MetricInfo(name="feasible", unit="", better="higher"),
        MetricInfo(name="file_bytes", unit="B", better="lower"),
    )
    return [
        r.model_copy(
            update={
                "definition": r.definition.model_copy(update={"metrics": metrics}),
                "samples": {**r.samples, "feasible": (verdicts[r.contender.name],), "file_bytes": ((2048.0, 2048.0),)},
            }
        )
        for r in records
    ]
