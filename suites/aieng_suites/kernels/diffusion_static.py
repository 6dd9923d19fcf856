"""Machine code of the diffusion kernels."""

from aieng_suites.kernels._static import declare

static = declare("diffusion", "Diffusion steps, machine code", "aieng_kernels.diffusion.triton_fused")
