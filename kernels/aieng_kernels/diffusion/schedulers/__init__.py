"""The schedulers of ``diffusers`` (0.42) with our kernels under them: change the import and nothing else.

Same constructors, configurations (``scheduler_config.json`` loads in either library), methods and numbers, without importing
``diffusers``. Differences:

- A ``generator`` gives exactly the noise that ``diffusers`` draws from it. Without one, noise is made inside the kernel by Philox,
  seeded from torch's default generator, so ``torch.manual_seed`` fixes a run; the numbers are others than ``torch.randn``'s.
- ``guided_step`` takes the outputs with and without the condition, and combines them in the same pass over memory.
- ``backend=`` forces an implementation.
- Learned variances, churn, and tensors that need a gradient go through plain torch, and what a step of third order has of the
  oldest estimate.
- The predicted original has the sample's dtype, where Euler's of ``diffusers`` is float32.
- ``from_pretrained`` reads local folders only.
- Where ``diffusers`` gives NaN: an ``eta`` that leaves 1 − ᾱ_prev − σ² below zero is a ValueError (rounding apart), and
  ``fixed_large_log`` is the variance β_t.
"""

from aieng_kernels.diffusion.schedulers.ddim import DDIMScheduler
from aieng_kernels.diffusion.schedulers.ddpm import DDPMScheduler
from aieng_kernels.diffusion.schedulers.dpm import DPMSolverMultistepScheduler
from aieng_kernels.diffusion.schedulers.euler import EulerAncestralDiscreteScheduler, EulerDiscreteScheduler
from aieng_kernels.diffusion.schedulers.output import SchedulerOutput

__all__ = [
    "DDIMScheduler",
    "DDPMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "SchedulerOutput",
]
