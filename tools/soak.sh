#!/bin/sh
# Simulated histories of the write-ahead log on a disk that crashes, tears, lies and rots, and of a whole shard that crashes,
# with fresh seeds, for hours.
set -eu

usage() {
    cat <<'EOF'
usage: tools/soak.sh [SECONDS]

Runs simulated histories of the log with fresh seeds for SECONDS (3600 if not given), in a release build, and then five
histories of a whole shard for each of these seconds. It says every ten seconds how far the first are. At the first
violation it stops, fails and prints a line such as

    ANNULUS_SIM_SEED=7 ANNULUS_SIM_SEEDS=1: frame 9 is missing: ...

The same history comes again, on any machine, with

    ANNULUS_SIM_SEED=7 ANNULUS_SIM_SEEDS=1 cargo test -p annulus-shards --lib sim:: -- survives --nocapture
EOF
}

case "${1-}" in
-h | --help)
    usage
    exit
    ;;
'') seconds=3600 ;;
*[!0-9]*)
    usage >&2
    exit 2
    ;;
*) seconds=$1 ;;
esac

cd "$(dirname "$0")/.."
ANNULUS_SIM_SECONDS=$seconds cargo test -p annulus-shards --release --lib sim::tests::soak -- --exact --nocapture
ANNULUS_SIM_SEED=$(date +%s) ANNULUS_SIM_SEEDS=$((seconds * 5)) exec cargo test -p annulus-shards --release --lib \
    sim::store::tests::a_shard_survives -- --nocapture
