"""aieng_kernels: fused kernels behind torch operators, one folder per family.

Every family has a public function that picks the best implementation available on this machine, a plain-torch reference that
defines it, and drop-ins with the signatures people use today.
"""

__version__ = "0.1.0"
