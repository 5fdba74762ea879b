#!/bin/sh
# The rules of the map in ARCHITECTURE.md that a compiler does not check: who may use whom.
set -eu
cd "$(dirname "$0")/.."
failed=0

fail() {
    echo "check-architecture: $1" >&2
    failed=1
}

# Code of a directory without its comment lines.
code() {
    grep -rn --include='*.rs' '' "$@" | grep -vE '^[^:]+:[0-9]+:[[:space:]]*//'
}

# The ingest plane knows nothing of the query plane.
shards_tree=$(cargo tree --locked --package annulus-shards --edges normal,build --prefix none --format '{p}|{f}')
if echo "$shards_tree" | grep -qE '^annulus(-tools|-benches|-loadgen)? v'; then
    fail "annulus-shards depends on another package of the workspace"
fi

# hyper brings tokio's channels along; a runtime would come with one of these features.
if echo "$shards_tree" | grep -E '^tokio v' | grep -qE '[|,](rt|rt-multi-thread|net|time|fs|full)(,| |$)'; then
    fail "annulus-shards enables a tokio runtime"
fi
if code shards/src | grep -E '\btokio(_util)?::|\buse tokio\b'; then
    fail "shards/src names tokio"
fi

# Everything above `rt` is ordinary Rust, so that the simulation can drive it.
if code shards/src | grep -v '^shards/src/rt[/.]' | grep -E '\bglommio\b'; then
    fail "glommio is named outside shards/src/rt"
fi

# The query plane meets a shard in its handle; the log belongs to the shard alone.
if code src | grep -E 'annulus_shards::(wal|mesh|sim)\b'; then
    fail "src reaches into the ingest plane"
fi

# The load generator knows a server only by its network side.
loadgen_tree=$(cargo tree --locked --package annulus-loadgen --edges normal,build --prefix none --format '{p}')
if echo "$loadgen_tree" | grep -qE '^annulus(-shards)? v'; then
    fail "annulus-loadgen depends on the server"
fi

exit $failed
