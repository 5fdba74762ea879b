#!/bin/sh
# Kills annulus under load, again and again, and reads back every sample that was acknowledged.
set -eu

usage() {
    cat <<'TEXT'
Usage: tools/kill-loop.sh [ROUNDS] [DIRECTORY]

Starts annulus, loads it with annulus-loadgen as Prometheus would, ends it with kill -9 ROUNDS times (50) some seconds
apart and starts it again at once, and then compares every sample with what was sent. Blocks are ten seconds long, so that
the kills also meet cuts, uploads and sweeps. DIRECTORY (a temporary one) takes data and logs.

Needs release builds: cargo build --release -p annulus -p annulus-loadgen
Exit code: 0 if nothing was lost, altered or doubled.
TEXT
}

case "${1:-}" in -h | --help) usage; exit 0 ;; esac
rounds=${1:-50}
directory=${2:-$(mktemp -d)}
root=$(cd "$(dirname "$0")/.." && pwd)
annulus=$root/target/release/annulus
loadgen=$root/target/release/annulus-loadgen
rate=${RATE:-50k}
series=${SERIES:-100k}
write=127.0.0.1:22901
query=127.0.0.1:22990

mkdir -p "$directory"
start() {
    "$annulus" all --data-dir "$directory/data" --http-address $write --grpc-address 127.0.0.1:22902 \
        --query.http-address $query --self-scrape=false --wal.ring-size=64MiB \
        --tsdb.min-block-duration=10s --tsdb.out-of-order.time-window=10s >>"$directory/annulus.log" 2>&1 &
    pid=$!
}
start
trap 'kill -9 $pid 2>/dev/null || true' EXIT
# The load generator gives up if nobody listens when it starts.
until grep -q "listens:" "$directory/annulus.log" || ! kill -0 $pid 2>/dev/null; do sleep 0.1; done
seconds=$((rounds * 4 + 20))
"$loadgen" run --url http://$write/api/v1/receive --query-url http://$query --profile single-metric-flood \
    --series "$series" --rate "$rate" --duration "${seconds}s" --as-prometheus --verify \
    --json "$directory/result.json" >"$directory/loadgen.log" 2>&1 &
load=$!
round=0
while [ "$round" -lt "$rounds" ] && kill -0 $load 2>/dev/null; do
    # Between two and five seconds, another time in each round.
    sleep $((2 + (round * 7 + 3) % 4))
    kill -9 $pid
    wait $pid 2>/dev/null || true
    start
    round=$((round + 1))
    echo "killed $round of $rounds times"
done
code=0
wait $load || code=$?
tail -60 "$directory/loadgen.log"
echo "killed $round times; logs are in $directory"
exit $code
