"""Whether torch's dispatcher may be passed by: through it to a kernel in Python takes 9 us, and 400 more where a gradient is wanted
(what torch wraps around such an operator looks up each default of its schema); this check takes 2."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

_KEY, _SET, _C = torch._C.DispatchKey, torch._C.DispatchKeySet, torch._C
_CPU, _CUDA = _SET(_KEY.CPU).add(_KEY.AutocastCPU), _SET(_KEY.CUDA).add(_KEY.AutocastCUDA)
# What the dispatcher looks at, in plain eager mode and in inference mode: the thread's keys and those of a dense tensor. As bits,
# for sets of keys are compared in a call each.
_THREAD = {keys.raw_repr() for keys in (_SET(_KEY.BackendSelect).add(_KEY.ADInplaceOrView), _SET(_KEY.BackendSelect))}
_TENSOR = {
    *(_CPU.add(_KEY.ADInplaceOrView).add(_KEY.AutogradCPU).raw_repr(), _CPU.raw_repr()),
    *(_CUDA.add(_KEY.ADInplaceOrView).add(_KEY.AutogradCUDA).raw_repr(), _CUDA.raw_repr()),
}
_TYPES = (Tensor, Parameter)


def is_plain(tensors: tuple[Tensor | None, ...], recorded: bool = False) -> bool:
    """Whether the dispatcher would go straight to the kernel: dense CPU or CUDA tensors, and nobody records or transforms the call.

    False for whatever this does not know: subclasses, fake and wrapped tensors, modes, tracing, profiling, and any gradient, unless
    the caller sees to it that the call is ``recorded``.
    """
    if torch.compiler.is_compiling() or _C._len_torch_function_stack() or torch.autograd._profiler_enabled():  # type: ignore[attr-defined]
        return False
    if _C._dispatch_tls_local_include_set().raw_repr() not in _THREAD or forward_ad._current_level >= 0:
        return False
    grad = torch.is_grad_enabled() and not recorded
    for x in tensors:
        if x is None:
            continue
        if type(x) not in _TYPES or (grad and x.requires_grad) or _C._dispatch_keys(x).raw_repr() not in _TENSOR:
            return False
    return True
