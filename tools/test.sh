#!/bin/sh
# All tests of the workspace, with the servers that some of them talk to.
#
#   tools/test.sh                     everything
#   tools/test.sh -p annulus-shards   arguments go to `cargo test` instead of --workspace
#
# On Debian and Ubuntu, run as root, it installs what is missing. Elsewhere it says what the tests will leave out.
set -eu
cd "$(dirname "$0")/.."

# A program and the package that brings it.
wanted='
cc gcc
curl curl
haproxy haproxy
prometheus prometheus
prometheus-node-exporter prometheus-node-exporter
setpriv util-linux
'

missing=$(echo "$wanted" | while read -r program package; do
    [ -z "$program" ] || command -v "$program" >/dev/null || echo "$package"
done)

if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        # Tests start their own servers on free ports: a policy of 101 keeps the packages from starting theirs.
        policy=/usr/sbin/policy-rc.d
        if [ ! -e "$policy" ]; then
            printf '#!/bin/sh\nexit 101\n' >"$policy"
            chmod 755 "$policy"
            trap 'rm -f "$policy"' EXIT
        fi
        export DEBIAN_FRONTEND=noninteractive
        # shellcheck disable=SC2086 # one argument per package
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing; } ||
            echo "tools/test.sh: apt-get failed; tests that need these packages are left out:" $missing >&2
    else
        echo "tools/test.sh: not installed (no root, or no apt-get); tests that need them are left out:" $missing >&2
    fi
fi

if ! command -v cargo >/dev/null; then
    echo "tools/test.sh: cargo is missing; install Rust from https://rustup.rs, the toolchain follows by itself" >&2
    exit 1
fi

# The whole-process tests say on stderr what they leave out; --nocapture lets it through.
if [ $# -gt 0 ]; then
    cargo test "$@"
else
    cargo test --workspace --lib --bins --examples
    cargo test --workspace --doc
    cargo test --package annulus --test it -- --nocapture
    cargo test --package annulus-loadgen --test it -- --nocapture
fi
