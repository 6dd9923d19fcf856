"""Shapes that the interpreter and a GPU are asked: odd lengths, S ≠ T, shared heads, head dims that fill no tile."""

# (B, Hq, Hkv, S, T, D)
ATTENTION = [
    (1, 1, 1, 1, 1, 8),
    (2, 2, 1, 65, 33, 32),
    (1, 4, 2, 63, 130, 24),
    (1, 2, 2, 130, 70, 64),
    (1, 3, 1, 70, 65, 40),
    (1, 1, 1, 65, 103, 96),
    (2, 1, 1, 33, 34, 128),
    (1, 2, 1, 17, 40, 256),
    (1, 1, 1, 40, 35, 192),
    (1, 1, 1, 239, 1, 16),
]
# On a GPU, where each head dimension is compiled anew, but lengths cost nothing.
ATTENTION_ON_A_GPU = [
    (2, 2, 2, 1, 1, 8),
    (1, 4, 1, 63, 130, 24),
    (1, 2, 1, 1023, 1024, 64),
    (2, 8, 2, 799, 3, 128),
    (1, 8, 2, 2048, 2048, 128),
    (1, 2, 1, 1000, 1500, 256),
]
COUNTS = [1, 3, 1023, 1024, 1025, 5002]
SEEDS = [(0, 0), (1, 0), (0xDEADBEEF, 0xFFFFFFFF), (2**63 - 1, 2**63 - 1), (0x1_0000_0001, 0xF_8000_0000)]
NO_BFLOAT16 = "Triton's interpreter (3.6) computes bfloat16 wrongly, on its raw bits; it is compiled, and runs on a GPU"
