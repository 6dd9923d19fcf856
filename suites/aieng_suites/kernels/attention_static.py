"""Machine code of the attention kernels."""

from aieng_suites.kernels._static import declare

static = declare("attention", "Attention, machine code", "aieng_kernels.attention.triton_configs")
