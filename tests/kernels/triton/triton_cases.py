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

# (S, T, left, right): blocks that no row sees lie before and after those that are seen, in the first
WINDOWS = [
    (140, 270, 20, 9),
    (70, 150, 5, 0),
    (150, 70, 0, 0),
    (70, 150, 17, 30),
    (150, 70, 17, 30),
    (130, 130, 80, -1),
    (70, 150, -1, 3),
    (150, 70, 3, 90),
    (1, 40, 2, 1),
    (150, 70, -1, 0),
    (70, 150, 2**40, 2**40),
]
BOOL_MASKS = ["bool", "bool of keys", "bool of queries"]
MASKS = ["added", "added to all alike", "added to rows", "added and -inf", "lowest"]
