"""``vision/sequences``: an encoder-decoder transformer that learns to reverse and to sort symbols, beside torch's nn.Transformer.

The network reads 12 of 10 symbols and writes 12, each from all that it read and those that it wrote before. In training it is shown
what it should have written before; in judging it has written it itself (greedy decoding), and a sequence counts if all its symbols
are right. Latency and throughput are of greedy decoding. torch is imported inside the functions, so that listing costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aieng_bench.define import Case, Metric, Study, grid
from aieng_suites.vision._study import PRELOAD, Run, figures_of, network, our_attention, source, torch_attention

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from aieng_suites.vision._training import Task
    from aieng_suites.vision.models.encoder_decoder import EncoderDecoder
    from aieng_suites.vision.models.vit import Attention

VALIDATION, TEST = 200, 1000
FLOOR, TARGET = 0.90, 0.95
"""What a quick run passes; a full one is to have all sequences right."""
LEARNING_RATE, BATCH = 4e-3, 64
SIZES: dict[str, Any] = {"width": 64, "depth": 1, "heads": 2}
FILES = ("sequences.py", "data/sequences.py", *(f"models/{name}.py" for name in ("encoder_decoder", "vit", "positions", "patches")))
PEER = ("peers/__init__.py", "peers/encoder_decoder.py")

benchmark = Study(
    name="vision/sequences",
    title="Sequences: an encoder-decoder transformer",
    summary="Reversing and sorting 12 of 10 symbols: exact matches of greedy decoding, beside torch's nn.Transformer.",
    baseline="transformer_nn",
    full={device: grid(rule=["reverse", "sort"], sequences=8000, epochs=5) for device in ("cpu", "cuda")},
    quick={device: grid(rule="sort", sequences=4000, epochs=4) for device in ("cpu", "cuda")},
    metrics=figures_of(Metric("exact_match", "", "higher", "test sequences wholly right", floor=FLOOR), TARGET, "sequences"),
    seeds=3,
    quick_seeds=1,
    minutes=4,
    quick_minutes=0.25,
    preload=PRELOAD,
)


@benchmark.contender("transformer_aieng", kind="ours", source=source(*FILES, attention=True))
def transformer_aieng(case: Case) -> Run:
    """Encoder and decoder on our attention."""
    return ours(case, our_attention(case))


@benchmark.contender(
    "transformer_torch",
    package="torch",
    source=source(*FILES),
    left_out=lambda case: "a quick run has our transformer and nn.Transformer",
)
def transformer_torch(case: Case) -> Run:
    """The same on torch's attention."""
    return ours(case, torch_attention())


@benchmark.contender("transformer_nn", package="torch", source=source(*FILES, *PEER))
def transformer_nn(case: Case) -> Run:
    """The two halves of ``nn.Transformer``, begun with the weights of ours."""
    from aieng_suites.vision.peers import begun, encoder_decoder

    def build() -> nn.Module:
        model = wholly(torch_attention())
        model.core = begun(model.core, encoder_decoder.TorchCore(**SIZES), encoder_decoder.NAMES)
        return model

    return trained(case, build)


def ours(case: Case, attention: Attention) -> Run:
    return trained(case, lambda: wholly(attention))


def wholly(attention: Attention) -> EncoderDecoder:
    """The core with its embedding and its scores."""
    from aieng_suites.vision.data.sequences import LENGTH, SYMBOLS
    from aieng_suites.vision.models.encoder_decoder import Core, EncoderDecoder

    return EncoderDecoder(Core(attention, **SIZES), symbols=SYMBOLS + 1, length=LENGTH, width=SIZES["width"])


def trained(case: Case, build: Callable[[], nn.Module]) -> Run:
    from aieng_suites.vision._training import Recipe

    return network(case, build, Recipe(LEARNING_RATE, batch=BATCH), task(case.rule, case.sequences))


def task(rule: str, sequences: int) -> Task:
    """Writing what sequences become by a rule."""
    import torch
    from torch.nn import functional

    from aieng_suites.vision import _training
    from aieng_suites.vision.data import Part
    from aieng_suites.vision.data.sequences import LENGTH, START, dataset

    class Writing(_training.Task):
        quality, things = "exact_match", "sequences"

        def loss(self, model: nn.Module, sequences: Tensor, wanted: Tensor, generator: Generator) -> Tensor:
            before = torch.cat([torch.full_like(wanted[:, :1], START), wanted[:, :-1]], dim=1)
            return functional.cross_entropy(model(sequences, before).flatten(0, 1), wanted.flatten())

        def predictor(self, model: Any) -> Callable[[Tensor], Tensor]:
            return lambda sequences: model.greedy(sequences, START, LENGTH)

        def score(self, predict: Callable[[Tensor], Tensor], part: Part, device: str) -> float:
            sequences, wanted = _training.tensors(part, device)
            return float((_training.in_batches(predict, sequences) == wanted).all(1).double().mean())

    return Writing(dataset((sequences, VALIDATION, TEST), rule), TARGET)
