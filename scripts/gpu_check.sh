#!/usr/bin/env bash
# Everything that needs a GPU, in ten minutes, on a machine without a network: build in place, the GPU tests, the cheats that need a
# device, the agreement of timers, and the GPU half of the quick suite, most important first, each part within its share of the time.
#
#   scripts/gpu_check.sh [FOLDER OF WHEELS]
#
# PYTHON (python3) is the interpreter that holds torch with CUDA; TOTAL (600) the seconds there are. PREBUILT=1 takes native modules
# that lie in place whatever their age, as a copied tree may have lost the times of its files; newer ones than their sources are
# always taken. Packages that PYTHON lacks come from the folder of wheels (by default wheels/, if it is there); nothing is installed
# for good. Leaves records.jsonl, log.txt, summary.txt and, of the cheats, redteam.jsonl in OUT, by default the first free of
# runs/gpu_check, runs/gpu_check-2, ...
# Exit: 0, also where there is no CUDA device; 1 if the build or a test failed, a cheat was missed, or a cell failed or was incorrect.
set -uo pipefail
wheels=$(realpath -m "${1:-$(dirname "$0")/../wheels}")
cd "$(dirname "$0")/.." || exit 1

readonly TOTAL=${TOTAL:-600} TO_CONCLUDE=25 # seconds
# Shares of 600 s; of another total as much in proportion.
readonly MOST_BUILD=180 MOST_TESTS=200 MOST_CHEATS=60 MOST_AGREEMENT=60
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

# left MOST: seconds for a part, of its share and of what the whole has left.
left() {
  local rest=$((TOTAL - TO_CONCLUDE - SECONDS)) share=$(($1 * TOTAL / 600))
  [ "$rest" -ge 1 ] || rest=1
  echo $((rest < share ? rest : share))
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

# up_to_date: whether this interpreter's native modules are there, and newer than what they are built from.
up_to_date() {
  local ending module
  ending=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))') || return 1
  for module in kernels/aieng_kernels/_cuda kernels/aieng_kernels/_cpu aieng_bench/_ceilings; do
    [ -e "$module$ending" ] || return 1
    [ "${PREBUILT:-0}" = 1 ] || [ -z "$(find csrc setup.py -newer "$module$ending" -print -quit)" ] || return 1
  done
}

# declare_suites: what an installation would, so that the suites are found, without building anything.
declare_suites() {
  "$python" - "$work/site" <<'EOF'
import pathlib, sys, tomllib
project = tomllib.loads(pathlib.Path("pyproject.toml").read_text())["project"]
folder = pathlib.Path(sys.argv[1], f"aieng_bench-{project['version']}.dist-info")
folder.mkdir(parents=True, exist_ok=True)
(folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
groups = (f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in names.items()) for group, names in project["entry-points"].items())
(folder / "entry_points.txt").write_text("\n".join(groups))
EOF
}

build() {
  local status did=""
  if up_to_date; then
    did=" (the native modules that were there)"
    declare_suites >>"$out/log.txt" 2>&1
  else
    logged "$(left $MOST_BUILD)" "$python" setup.py -q build_ext --inplace egg_info
  fi
  status=$?
  note build "$(verdict $status)$did, $SECONDS s in"
  [ $status = 0 ] || failed=1
  return $status
}

run_tests() { # other library versions than the pinned ones may warn; test files that need no device may need packages that are not here
  local at_once=() files
  mapfile -t files < <(grep -rlE 'mark\.gpu' tests/engine --include='test_*.py')
  if [ "$(nproc)" -ge 8 ] && "$python" -c 'import xdist' 2>/dev/null; then at_once=(-n 10); fi
  logged "$(left $MOST_TESTS)" "$python" -m pytest tests/kernels "${files[@]}" -m gpu -q -W default -p no:cacheprovider --timeout=120 \
    "${at_once[@]}"
  local status=$?
  [ $status = 5 ] && status="5: no GPU test was found"
  note tests "$(verdict "$status"), $SECONDS s in: $(grep -E '(passed|failed|error|no tests|deselected).* in ' "$out/log.txt" | tail -1)"
  case $status in 0 | 124 | 130 | 137) ;; *) failed=1 ;; esac
}

run_cheats() { # those that need a device
  local names
  names=$("$python" -c '
from aieng_bench.registry import cheats
print(*(name.split("/")[-1] for name, cheat in cheats().items() if cheat.full.get("cuda")))' 2>>"$out/log.txt")
  # shellcheck disable=SC2086 # one word each
  logged "$(left $MOST_CHEATS)" "$python" -m aieng_bench redteam $names --out "$work/redteam"
  local status=$?
  note redteam "$(verdict $status), $SECONDS s in: $(grep -E '^[0-9]+ cheats: ' "$out/log.txt" | tail -1)"
  case $status in 0 | 124 | 130 | 137) ;; *) failed=1 ;; esac
  compgen -G "$work/redteam/records/*.json" >/dev/null && cat "$work"/redteam/records/*.json >"$out/redteam.jsonl"
}

# measure SECONDS PATTERN...: those patterns of the suite, in that order.
measure() {
  logged "$1" "$python" -m aieng_bench run "${@:2}" --quick --device cuda --resume --out "$work/run"
  local status=$?
  note suite "${*:2}: $(verdict $status), $SECONDS s in"
  case $status in 0 | 124 | 130 | 137) ;; *) failed=1 ;; esac
}

run_suite() { # what matters most is measured first
  measure "$(left $MOST_AGREEMENT)" method/agreement
  measure "$(left 600)" attention/forward 'diffusion/*' attention/backward '*'
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
run_cheats
run_suite
conclude
