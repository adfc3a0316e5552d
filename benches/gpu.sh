#!/usr/bin/env bash
# Everything that wants a real GPU, in one go; about half an hour. Results in one folder:
#
#   benches/gpu.sh                                   # builds first
#   WGRAD=path/to/wgrad PYTHON=python3 MNIST_DIR=path/to/mnist benches/gpu.sh results/gpu
#
# WGRAD          a built wgrad; without it, cargo builds one
# OPS, KERNELS   built `ops` test and `kernels` bench; without them, cargo builds them
# PYTHON         a Python with numpy and torch, for the comparison [python3]
# BURN           a built burn-bench, and BURN_ARGS what else to tell it
# MNIST_DIR      the data set, for the ensemble of chapter 6
#
# Paths are absolute or from the repository's root. A step that fails costs only
# itself: `summary.txt` lists each with exit code and seconds.
set -uo pipefail
cd "$(dirname "$0")/.."

out=${1:-results/gpu}
mkdir -p "$out"
out=$(cd "$out" && pwd)
wgrad=${WGRAD:-}
python=${PYTHON:-python3}
: > "$out/summary.txt"
failed=0

# step NAME FILE COMMAND...: runs it, its output into FILE.
step() {
    local name=$1 file=$2 code=0 begun=$SECONDS
    shift 2
    echo "== $name"
    "$@" > "$out/$file" 2> "$out/$name.log" || code=$?
    [[ -s "$out/$name.log" ]] || rm -f "$out/$name.log"
    [[ $code == 0 ]] || failed=1
    printf '%-10s exit %d, %d s: %s\n' "$name" "$code" $((SECONDS - begun)) "$file" |
        tee -a "$out/summary.txt"
}

if [[ -z $wgrad ]]; then
    step build build.txt cargo build --release
    wgrad=target/release/wgrad
fi
[[ -x $wgrad ]] || { echo "no binary at $wgrad; set WGRAD" >&2; exit 2; }

step devices devices.txt "$wgrad" devices
if command -v nvidia-smi > /dev/null; then
    step driver driver.csv nvidia-smi --format=csv --query-gpu=name,driver_version,memory.total,clocks.max.sm
fi

# Is it right?
step doctor doctor.json "$wgrad" doctor --json --device gpu
export WGRAD_REQUIRE_GPU=1
if [[ -n ${OPS:-} ]]; then
    step parity parity.txt "$OPS"
else
    step parity parity.txt cargo test --release --test ops
fi

# Is it fast, and where does the time go?
step bench bench.txt "$wgrad" bench --device gpu --replicas 1,5,16,64
step profile profile.txt "$wgrad" bench --device gpu --profile
# A cache of its own, so that what is measured is measured now.
export WGRAD_CACHE=$out/tuning
rm -rf "$WGRAD_CACHE"
step cold start-cold.txt "$wgrad" train --net conv-dropout --data synthetic --train-images 100 \
    --epochs 1 --device gpu --out "$out/start"
step warm start-warm.txt "$wgrad" train --net conv-dropout --data synthetic --train-images 100 \
    --epochs 1 --device gpu --out "$out/start"
step tuned tuned.txt "$wgrad" bench --device gpu --tune --profile --replicas 1,5,16,64
rm -rf "$out/start"
unset WGRAD_CACHE
# Both fail, by name, where the adapter's matrix units are none that wgrad knows.
step mixed mixed.txt "$wgrad" bench --device gpu --mixed-precision --profile --workloads A,C
step halves doctor-mixed.json "$wgrad" doctor --json --device gpu --mixed-precision
step growth growth.txt "$wgrad" bench --device gpu --growth "$out"
if [[ -n ${KERNELS:-} ]]; then
    step kernels kernels.txt "$KERNELS" --bench
else
    step kernels kernels.txt cargo bench --bench kernels
fi
burn=()
[[ -z ${BURN:-} ]] || burn=(--burn "$BURN" --burn-args "${BURN_ARGS:-}")
step compare compare.txt "$python" benches/compare/compare.py --wgrad "$wgrad" --gpu --cuda \
    "${burn[@]}" --out "$out/compare.md"

# The ensemble of chapter 6, and every claim of its certificate.
step ensemble ensemble.txt "$wgrad" book run ch6-ensemble --device gpu --out "$out/book"
step verify verify.txt "$wgrad" book verify "$out/book/ch6-ensemble/certificate.json" --device gpu

echo "written to $out"
exit $failed
