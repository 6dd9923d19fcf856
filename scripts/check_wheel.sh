#!/usr/bin/env bash
# Build the wheel, install it outside the repository, and use it there: nothing may depend on the checkout.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$PWD/.venv/bin/python
"${PYTHON:-python3}" scripts/bootstrap.py edge gpu peers report test vision
away=$(mktemp -d)
trap 'rm -rf "$away"' EXIT
"$python" -m pip wheel -q --no-deps --no-build-isolation -w "$away/dist" .
"$python" -m pip install -q --no-deps --no-index --target "$away/site" "$away"/dist/*.whl
cd "$away"
export PYTHONPATH="$away/site"
"$python" - "$away" <<'PY'
import sys
import aieng_bench, aieng_kernels, aieng_suites
for package in (aieng_bench, aieng_kernels, aieng_suites):
    assert package.__file__.startswith(sys.argv[1]), package.__file__
import torch
from aieng_kernels.attention import attention
q = torch.randn(1, 2, 33, 64, dtype=torch.bfloat16)
ours, theirs = attention(q, q, q), torch.nn.functional.scaled_dot_product_attention(q, q, q)
torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2)
PY
"$python" -m aieng_bench ls >/dev/null
"$python" -m aieng_bench run attention/forward --quick --contender eager --out "$away/run" >/dev/null
"$python" -m aieng_bench report "$away/run" --out "$away/page" >/dev/null
test -s "$away/page/index.html"
"$python" -m aieng_bench redteam all_zeros --out "$away/red" >/dev/null
echo "wheel: installed outside the repository, measured and reported"
