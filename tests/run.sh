#!/usr/bin/env bash
# Installs what the tests need (Mesa's software Vulkan driver, where no GPU driver is
# there) and runs them. --require-gpu: an adapter that does not open is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

for flag in "$@"; do
    case "$flag" in
        --require-gpu) export WGRAD_REQUIRE_GPU=1 ;;
        *) echo "unknown flag $flag; known: --require-gpu" >&2; exit 2 ;;
    esac
done

have_driver() {
    compgen -G '/usr/share/vulkan/icd.d/*.json' > /dev/null ||
        compgen -G '/etc/vulkan/icd.d/*.json' > /dev/null
}

if [[ "$(uname)" == Linux ]] && ! have_driver; then
    root=()
    [[ $EUID -eq 0 ]] || root=(sudo)
    if command -v apt-get > /dev/null; then
        "${root[@]}" apt-get update -q || true
        "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -yq mesa-vulkan-drivers
    elif command -v dnf > /dev/null; then
        "${root[@]}" dnf install -y mesa-vulkan-drivers
    else
        echo "no Vulkan driver found, and no apt-get or dnf to install one with" >&2
    fi
fi

# Mesa looks for a display and calls it an error that a machine without a desktop has none.
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/nonexistent}"

cargo test
# A crate outside wgrad, which extends it. In one folder with wgrad's own build, so that what both
# stand on is compiled once.
CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}" \
    cargo test --manifest-path tests/foreign/Cargo.toml
