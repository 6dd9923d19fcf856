"""The native CPU module, if it was built, which can read torch's tensors as they are."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from aieng_kernels._requirements import native

cpu: Any = native("_cpu")

if cpu is not None and (_exchange := getattr(Tensor, "__dlpack_c_exchange_api__", None)) is not None:
    cpu.tensor_exchange(_exchange)
