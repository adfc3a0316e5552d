#!/usr/bin/env bash
# What a GPU is wanted for, in order of worth, each step with a limit of its own: whatever ends is
# complete. Nine minutes, of which the ensemble of chapter 6 takes up to four; then, with --all, what is
# left. Results in one folder:
#
#   benches/gpu.sh                                   # builds first
#   WGRAD=path/to/wgrad PYTHON=python3 MNIST_DIR=path/to/mnist benches/gpu.sh results/gpu
#   benches/gpu.sh results/gpu --all                 # also tuning, growth, start, mixed precision
#
# WGRAD                  a built wgrad; without it, cargo builds one
# OPS, KERNELS, MODELS   built `ops` test, `kernels` bench, `models` example; without them, cargo builds them
# PYTHON                 a Python with numpy and torch, for the comparison [python3]
# BURN                   a built burn-bench, and BURN_ARGS what else to tell it
# MNIST_DIR              the data set, for the ensemble of chapter 6
#
# Paths are absolute or from the repository's root. A step that fails costs only
# itself: `summary.txt` lists each with exit code (124: its limit) and seconds.
set -uo pipefail
cd "$(dirname "$0")/.."

all=
[[ ${2:-} == --all ]] && all=yes
out=${1:-results/gpu}
mkdir -p "$out"
out=$(cd "$out" && pwd)
wgrad=${WGRAD:-}
python=${PYTHON:-python3}
: > "$out/summary.txt"
failed=0

# step LIMIT NAME FILE COMMAND...: runs it for LIMIT seconds at most, its output into FILE.
step() {
    local limit=$1 name=$2 file=$3 code=0 begun=$SECONDS
    shift 3
    echo "== $name"
    timeout "$limit" "$@" > "$out/$file" 2> "$out/$name.log" || code=$?
    [[ -s "$out/$name.log" ]] || rm -f "$out/$name.log"
    [[ $code == 0 ]] || failed=1
    printf '%-10s exit %d, %d s: %s\n' "$name" "$code" $((SECONDS - begun)) "$file" |
        tee -a "$out/summary.txt"
}

if [[ -z $wgrad ]]; then
    step 1800 build build.txt cargo build --release
    wgrad=target/release/wgrad
fi
[[ -x $wgrad ]] || { echo "no binary at $wgrad; set WGRAD" >&2; exit 2; }
ops=(${OPS:-cargo test --release --test ops --})
kernels=(${KERNELS:-cargo bench --bench kernels --})
models=(${MODELS:-cargo run --release --example models --})
export WGRAD_REQUIRE_GPU=1

step 10 devices devices.txt "$wgrad" devices
if command -v nvidia-smi > /dev/null; then
    step 10 driver driver.csv nvidia-smi --format=csv --query-gpu=name,driver_version,memory.total,clocks.max.sm
fi

# Is it fast, beside what, and does a real job come out right?
step 40 bench bench.txt "$wgrad" bench --device gpu --replicas 1,5,16,64
step 20 whole whole-programs.txt "$wgrad" bench --device gpu --workloads D --replicas 1,5,64 --seconds 1 \
    --whole-programs always
burn=()
[[ -z ${BURN:-} ]] || burn=(--burn "$BURN" --burn-args "${BURN_ARGS:-}")
step 120 compare compare.txt "$python" benches/compare/compare.py --wgrad "$wgrad" --gpu --cuda \
    --rounds 3 --seconds 0.4 "${burn[@]}" --out "$out/compare.md"
step 240 ensemble ensemble.txt "$wgrad" book run ch6-ensemble --device gpu --out "$out/book"
step 20 verify verify.txt "$wgrad" book verify "$out/book/ch6-ensemble/certificate.json" --device gpu
step 20 profile profile.txt "$wgrad" bench --device gpu --profile
step 40 models models.txt "${models[@]}" gpu 2 profile resnet lstm table transformer latency
# Ops whose kernels hardware has of its own; whatever is launched is held to the reference.
step 60 parity parity.txt env WGRAD_OPS=matmul,dense_grad,dense_loss,recurrent "${ops[@]}" parity
[[ -n $all ]] || { echo "written to $out"; exit $failed; }

# Where does the time go, and is everything right?
step 120 kernels kernels.txt "${kernels[@]}" --bench
step 900 everything parity-all.txt "${ops[@]}" parity
step 600 doctor doctor.json "$wgrad" doctor --json --device gpu
# A cache of its own, so that what is measured is measured now.
export WGRAD_CACHE=$out/tuning
rm -rf "$WGRAD_CACHE"
start=(train --net conv-dropout --data synthetic --train-images 100 --epochs 1 --device gpu --out "$out/start")
step 60 cold start-cold.txt "$wgrad" "${start[@]}"
step 60 warm start-warm.txt "$wgrad" "${start[@]}"
step 180 tuned tuned.txt "$wgrad" bench --device gpu --tune --profile --replicas 1,5,16,64
rm -rf "$out/start"
unset WGRAD_CACHE
# Both fail, by name, where the adapter's matrix units are none that wgrad knows.
step 60 mixed mixed.txt "$wgrad" bench --device gpu --mixed-precision --profile --workloads A,C
step 600 halves doctor-mixed.json "$wgrad" doctor --json --device gpu --mixed-precision
step 240 growth growth.txt "$wgrad" bench --device gpu --growth "$out"

echo "written to $out"
exit $failed
