"""What is asked of an attention beside q, k and v: which keys a query sees, how scores are formed, what is dropped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

UNLIMITED = -1
"""As a side of the window: every key on that side."""


class Options(NamedTuple):
    """Query i of a sequence of S queries and T keys sees key j if i + o - left <= j <= i + o + right and j < T.

    o is 0, or T - S under ``bottom_right``: the last query then stands at the last key. A score is
    softcap(scale q k^T) + mask with softcap(x) = c tanh(x / c), and the softmax runs over the keys that are seen.

    The fields are in the order of the operator's schema, tensors first.
    """

    mask: Tensor | None = None
    """(B, Hq, S, T), last stride 0 or 1: bool, true where a key is seen; or of q's dtype or float32, added to the scores.
    Not with the starts."""
    seed: Tensor | None = None
    """int64 (1,) on q's device, the Philox key of dropout; given if and only if ``dropout`` is not 0."""
    q_starts: Tensor | None = None
    """int32 (N + 1,), contiguous, on q's device: sequence n is rows q_starts[n] to q_starts[n + 1] of S, of a batch of 1.
    None: all S rows."""
    k_starts: Tensor | None = None
    """The same for keys, given if and only if ``q_starts`` is."""
    k_lengths: Tensor | None = None
    """int32 (B,), contiguous, on q's device: keys there are in each batch, T being no more than room. Not with the starts."""
    slopes: Tensor | None = None
    """float32 (batches or sequences, Hq), contiguous, on q's device: -slope |i + T - S - j|, of a sequence's own lengths, is added
    to the scores (Press et al., ALiBi, arXiv:2108.12409, section 3). Not with ``mask``."""
    scale: float = 1.0
    left: int = UNLIMITED
    right: int = UNLIMITED
    bottom_right: bool = False
    softcap: float = 0.0
    """0: none."""
    dropout: float = 0.0
    """Probability in [0, 1) that a weight is dropped; the others are divided by 1 - dropout.

    Weight (b, h, i, j) goes by word j % 4 of the seed's Philox block at counter ((b Hq + h) S + i) ceil(T / 4) + j // 4, with the
    lengths of the longest sequences for S and T and i, j within the sequence: dropped if less than round(dropout 2^32).
    """
    longest_q: int = 0
    """Length of the longest sequence, where there are ``q_starts``."""
    longest_k: int = 0

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """The fields that may hold one, or nothing if none does."""
        found = (self.mask, self.seed, self.q_starts, self.k_starts, self.k_lengths, self.slopes)
        return found if any(x is not None for x in found) else ()

    def holding(self, tensors: Sequence[Tensor | None]) -> Options:
        """The same with others for :attr:`tensors`."""
        return Options._make((*tensors, *self[len(tensors) :])) if tensors else self

    @property
    def causal(self) -> bool:
        """Whether keys after the query's own are hidden."""
        return self.right == 0

    @property
    def dropped_words(self) -> int:
        """Philox words less than this drop their weight."""
        return round(self.dropout * 2**32)

    @property
    def beyond_causal(self) -> str | None:
        """The first thing asked for beside the scale and top-left causal, in words; None if there is none."""
        asked = {
            "attn_mask": self.mask is not None,
            "dropout": self.dropout != 0,
            "sequences of several lengths": self.q_starts is not None or self.k_lengths is not None,
            "softcap": self.softcap != 0,
            "alibi_slopes": self.slopes is not None,
            "a sliding window": self.left != UNLIMITED or self.right not in (UNLIMITED, 0),
            "bottom-right alignment": self.bottom_right and self.right == 0,
        }
        found = [name for name, there in asked.items() if there]
        return f"{found[0]} is not fused" if found else None
