#!/usr/bin/env bash
# Everything that needs a GPU, in ten minutes, on a machine without a network: build in place, the GPU tests, and the GPU half of
# the quick suite, most important first, each part within its share of the time.
#
#   scripts/gpu_check.sh [FOLDER OF WHEELS]     PYTHON (python3) is the interpreter that holds torch with CUDA
#
# Packages that PYTHON lacks come from the folder of wheels (by default wheels/, if it is there); nothing is installed for good.
# Leaves records.jsonl, log.txt and summary.txt in OUT, by default the first free of runs/gpu_check, runs/gpu_check-2, ...
# Exit: 0, also where there is no CUDA device; 1 if the build or a test failed, or a cell failed or was incorrect.
set -uo pipefail
wheels=$(realpath -m "${1:-$(dirname "$0")/../wheels}")
cd "$(dirname "$0")/.." || exit 1

readonly TOTAL=600 TO_CONCLUDE=25 # seconds
readonly MOST_BUILD=180 MOST_TESTS=200
SECONDS=0
python=${PYTHON:-python3}
out=${OUT:-}
for ((n = 2; ${#out} == 0; n++)); do
  out=runs/gpu_check$([ $n = 2 ] || echo "-$((n - 1))")
  [ ! -e "$out" ] || out=
done
mkdir -p "$out" && out=$(realpath "$out") || exit 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: >"$out/records.jsonl"
: >"$out/log.txt"
printf '%-12s %s\n' part result >"$out/summary.txt"
export PYTHONPATH="$PWD:$PWD/kernels:$PWD/suites:$work/site${PYTHONPATH:+:$PYTHONPATH}"
failed=0

note() { printf '%-12s %s\n' "$1" "$2" | tee -a "$out/log.txt" >>"$out/summary.txt"; }

# left MOST: seconds for a part, of the most it may take and of what the whole has left.
left() {
  local rest=$((TOTAL - TO_CONCLUDE - SECONDS))
  [ "$rest" -ge 1 ] || rest=1
  echo $((rest < $1 ? rest : $1))
}

# logged SECONDS COMMAND...: its output goes to the log; interrupted, then killed, when its time is over (status 124).
logged() {
  echo "+ ${*:2}" >>"$out/log.txt"
  timeout --signal=INT --kill-after=15 "$1" "${@:2}" >>"$out/log.txt" 2>&1
}

verdict() { # of a part's status
  case $1 in
    0) echo ok ;;
    124 | 130 | 137) echo "stopped when its time was over" ;;
    *) echo "FAILED (status $1)" ;;
  esac
}

conclude() {
  note total "$SECONDS s; exit $failed"
  echo "in $out: records.jsonl, log.txt, summary.txt"
  cat "$out/summary.txt"
  exit "$failed"
}

prepare() {
  if compgen -G "$wheels/*.whl" >/dev/null; then
    logged "$(left 60)" "$python" -m pip install --no-index --no-deps --no-compile --target "$work/site" "$wheels"/*.whl
    note wheels "$(verdict $?)"
  fi
  note device "$("$python" -c '
import torch
if torch.cuda.is_available():
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}")
else:
    print("no CUDA device")' 2>>"$out/log.txt" || echo "torch cannot be imported by $python")"
}

build() {
  logged "$(left $MOST_BUILD)" "$python" setup.py -q build_ext --inplace egg_info
  local status=$?
  note build "$(verdict $status), $SECONDS s in"
  [ $status = 0 ] || failed=1
  return $status
}

run_tests() { # other library versions than the pinned ones may warn
  logged "$(left $MOST_TESTS)" "$python" -m pytest tests/kernels -m gpu -q -W default -p no:cacheprovider --timeout=120
  local status=$?
  [ $status = 5 ] && status="5: no GPU test was found"
  note tests "$(verdict "$status"), $SECONDS s in: $(grep -E '(passed|failed|error|no tests|deselected).* in ' "$out/log.txt" | tail -1)"
  case $status in 0 | 124 | 130 | 137) ;; *) failed=1 ;; esac
}

run_suite() { # pattern by pattern, so that what matters most is measured first
  local pattern status
  for pattern in attention/forward 'diffusion/*' attention/backward '*'; do
    logged "$(left $TOTAL)" "$python" -m aieng_bench run "$pattern" \
      --quick --device cuda --resume --out "$work/run"
    status=$?
    note suite "$pattern: $(verdict $status), $SECONDS s in"
    case $status in 0) ;; 124 | 130 | 137) break ;; *) failed=1 ;; esac
  done
  if compgen -G "$work/run/records/*.json" >/dev/null; then
    cat "$work"/run/records/*.json >"$out/records.jsonl"
    "$python" -m aieng_bench show "$work/run" >>"$out/summary.txt" 2>>"$out/log.txt"
  else
    note suite "FAILED: nothing was measured"
    failed=1
  fi
}

prepare
grep -q 'no CUDA device' "$out/summary.txt" && conclude
grep -q 'torch cannot be imported' "$out/summary.txt" && failed=1 && conclude
build || conclude
run_tests
run_suite
conclude
