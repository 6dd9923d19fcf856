"""torch's own attention on the CPU, for a whole program, through our kernels: models and compiled code need no change.

``torch.nn.functional.scaled_dot_product_attention`` on a CPU ends in ``aten::_scaled_dot_product_flash_attention_for_cpu`` and its
backward, whoever calls it: a module, C++, code that ``torch.compile`` made. :func:`install` puts ours in their places and hands
to torch's what ours does not take or would not do faster. What never reaches the operator stays torch's: dropout and masks
that want a gradient, for which torch forms all scores. The fast path of ``nn.MultiheadAttention`` and ``nn.TransformerEncoder``
calls no such operator, so it is switched off meanwhile, by torch's own switch. On CUDA nothing is routed: ours is not measured
to be faster there.
"""

from __future__ import annotations

import threading
import warnings
from typing import Any

import torch
from torch import Tensor

from aieng_kernels.attention import checks, ops
from aieng_kernels.attention.dropin import FEWEST_PRODUCTS, has_kernel
from aieng_kernels.attention.options import UNLIMITED, Options

_FORWARD = "_scaled_dot_product_flash_attention_for_cpu"
_BACKWARD = f"{_FORWARD}_backward"
_CPU = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)

_lock = threading.Lock()
_installed: dict[str, Any] = {}


def install() -> None:
    """Route torch's attention on the CPU to ours until :func:`uninstall`; a second call does nothing. Raises RuntimeError if the
    native module is not built."""
    with _lock:
        if _installed:
            return
        if not has_kernel("cpu", "float32"):
            raise RuntimeError("no compiled attention for the CPU is installed (it needs a C++ compiler when the package is built)")
        for name in (_FORWARD, _BACKWARD):
            _installed[name] = torch.library.get_kernel(f"aten::{name}", "CPU")
        _installed["fastpath"] = torch.backends.mha.get_fastpath_enabled()
        library: Any = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
        _installed["library"] = library
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"\s*Warning only once for all operators", UserWarning)  # replacing is what is wanted
            library.impl(_FORWARD, _forward, "CPU", allow_override=True)
            library.impl(_BACKWARD, _backward, "CPU", allow_override=True)
        torch.backends.mha.set_fastpath_enabled(False)


def uninstall() -> None:
    """Give torch's attention its own kernels and its fast path back; nothing happens if ours are not installed."""
    with _lock:
        if not _installed:
            return
        _installed["library"]._destroy()
        torch.backends.mha.set_fastpath_enabled(_installed["fastpath"])
        _installed.clear()


def _forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    o = _taken(query, key, value, dropout_p, is_causal, attn_mask, scale)
    if o is None:
        out, lse = _torchs(_FORWARD, query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)
        return out, lse
    out, lse = ops.forward(query, key, value, o)
    return out, _as_torchs(lse)


def _backward(
    grad_out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    logsumexp: Tensor,
    dropout_p: float,
    is_causal: bool,
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    o = _taken(query, key, value, dropout_p, is_causal, attn_mask, scale)
    given = (grad_out, query, key, value, out, logsumexp)
    if o is None:
        dq, dk, dv = _torchs(_BACKWARD, *given, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)
        return dq, dk, dv
    dq, dk, dv = (_as_torchs(x) for x in torch.ops.aieng.attention_backward(*given, *o, None))
    return dq, dk, dv


def _taken(
    q: Tensor, k: Tensor, v: Tensor, dropout_p: float, is_causal: bool, mask: Tensor | None, scale: float | None
) -> Options | None:
    """What to ask of our attention, or None if the call is torch's."""
    products = q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2] * q.shape[3]
    if products < FEWEST_PRODUCTS or dropout_p or k.shape != v.shape or not has_kernel("cpu", ops.DTYPES[q.dtype]):
        return None
    o = Options(scale=ops.softmax_scale(q, scale), right=0 if is_causal else UNLIMITED)
    if mask is not None:
        if mask.dtype not in (torch.float32, q.dtype):
            return None
        o = o._replace(mask=checks.check_mask(mask.detach(), q, k))
    return o


def _torchs(name: str, *arguments: Any, **options: Any) -> Any:
    return _installed[name].call_boxed(_CPU, *arguments, **options)


def _as_torchs(x: Tensor) -> Tensor:
    """The values with rows of all heads side by side in memory, as compiled code expects torch's to lie."""
    return x.transpose(1, 2).contiguous().transpose(1, 2)
