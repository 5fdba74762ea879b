#!/bin/sh
# A million mutated requests of every protocol against annulus, with true ones between them that must all be read back.
set -eu

usage() {
    cat <<'TEXT'
Usage: tools/hostile.sh [REQUESTS] [SEED]

Starts annulus with small limits, sends REQUESTS (1000000) mutated requests of remote write 1.0, 2.0 and OTLP over four
connections, and every few thousand a sample of each of some hundred true series. It says every 100,000 requests how far
it is, and at the end which statuses were given. SEED (the date in seconds) makes the mutations; the times in them are
those of the clock, and the order in which the connections meet is the machine's.

PROFILE=release takes an optimised build, which is made first; the default is a debug build, whose arithmetic is checked.
Exit code: 0 if the process lived, its memory stayed bounded, no status was a wrong one, and the true series are exact,
also after kill -9.
TEXT
}

for argument in "${1:-1}" "${2:-1}"; do
    case "$argument" in
    -h | --help) usage; exit 0 ;;
    '' | *[!0-9]*) usage >&2; exit 2 ;;
    esac
done
export ANNULUS_HOSTILE_REQUESTS="${1:-1000000}"
export ANNULUS_HOSTILE_SEED="${2:-$(date +%s)}"

cd "$(dirname "$0")/.."
case "${PROFILE:-dev}" in
release) set -- --release ;;
dev) set -- ;;
*) usage >&2; exit 2 ;;
esac
exec cargo test "$@" -p annulus --test it hostile::flood::mutated_requests -- --nocapture
