#!/usr/bin/env bash
#
# The example `resp` and the programs it was made for: redis-cli and redis-benchmark.
# Installs them by package name (redis-tools) if they are missing and there is apt-get;
# where they cannot be had it says so and ends well. Takes about half a minute.
#
# Uses the release build in $CARGO_TARGET_DIR, which it builds if it is not there.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly REQUESTS=20000
readonly PATIENCE=60
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}

SERVER=
SAID=$(mktemp)

main() {
    trap clean_up EXIT
    if ! redis_tools; then
        echo "SKIPPED: redis-cli and redis-benchmark are not here and cannot be installed"
        return
    fi
    cargo build --locked --release --quiet --example resp
    start
    session
    benchmarks
    stop
    echo "redis-cli and redis-benchmark: ok"
}

clean_up() {
    if [[ -n $SERVER ]]; then
        kill -KILL "$SERVER" 2>/dev/null || true
    fi
    rm -f "$SAID"
}

redis_tools() {
    have_tools || install || true
    have_tools
}

have_tools() {
    command -v redis-cli >/dev/null && command -v redis-benchmark >/dev/null
}

install() {
    command -v apt-get >/dev/null || return
    apt-get install --yes --no-install-recommends redis-tools ||
        { apt-get update && apt-get install --yes --no-install-recommends redis-tools; }
}

# Port 0, so that nothing here depends on what else runs on this host.
start() {
    "$CARGO_TARGET_DIR/release/examples/resp" 127.0.0.1:0 >"$SAID" &
    SERVER=$!
    for ((tries = 0; tries < 200; tries++)); do
        PORT=$(sed -n 's/^listening on .*:\([0-9]*\)$/\1/p' "$SAID")
        [[ -n $PORT ]] && return
        kill -0 "$SERVER"
        sleep 0.05
    done
    echo "the server does not listen"
    return 1
}

# What a person would type, and what Redis would answer.
session() {
    answers PONG ping
    answers OK set ship windlass
    answers windlass get ship
    answers 1 expire ship 100
    answers capstan echo capstan
    answers 1 incr count
    answers 1 del ship
    answers "" get ship
    answers "" command docs
    answers save config get save
    answers "ERR unknown command, or wrong number of arguments, for 'hoist'" hoist it
    answers 1 expire count 1
    local tries
    for ((tries = 0; tries < 100; tries++)); do
        # Not asked for, so it is the timer that removes it.
        timeout "$PATIENCE" redis-cli -p "$PORT" info | grep -q '^db0:keys=0' && break
        sleep 0.05
    done
    ((tries < 100)) || { echo "a key outlives its end"; return 1; }
    echo "redis-cli: ok"
}

answers() {
    local expected=$1 answer
    shift
    answer=$(timeout "$PATIENCE" redis-cli -p "$PORT" "$@")
    if [[ $answer != "$expected" ]]; then
        echo "$*: '$answer' instead of '$expected'"
        return 1
    fi
}

benchmarks() {
    local clients pipeline said
    for clients in 1 50 500; do
        for pipeline in 1 16; do
            said=$(timeout "$PATIENCE" redis-benchmark -p "$PORT" -t ping,set,get,incr \
                -n "$REQUESTS" -c "$clients" -P "$pipeline" -q 2>&1)
            printf '%s clients, %s requests at a time\n' "$clients" "$pipeline"
            tr '\r' '\n' <<<"$said" | grep 'requests per second'
            if grep -iE 'error|warning|could not' <<<"$said"; then
                return 1
            fi
        done
    done
}

# SIGTERM ends it in good order, with status 0.
stop() {
    kill -TERM "$SERVER"
    wait "$SERVER"
    SERVER=
}

main "$@"
