#!/bin/sh
# What a newcomer waits for: both commands of the README in a fresh clone, with wall time and peak memory of each.
# Peak memory is the sum of the resident sets of everything the command started, sampled every second.
set -eu
source=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
git clone -q "$source" "$folder/llmser"
cd "$folder/llmser"

measure() {
    label=$1
    shift
    started=$(date +%s)
    setsid "$@" >"$folder/$label.log" 2>&1 &
    leader=$!
    peak=0
    while kill -0 "$leader" 2>/dev/null; do
        now=$(ps -e -o sid= -o pgid= -o rss= -o args= | awk -v dir="$folder" -v sid="$leader" \
            '$1 == sid || index($0, dir) { total += $3 } END { print int(total / 1024) }')
        [ "$now" -gt "$peak" ] && peak=$now
        sleep 1
    done
    status=0
    wait "$leader" || status=$?
    echo "$label: $(($(date +%s) - started)) s, peak ${peak} MiB, exit status $status, log $folder/$label.log"
}

measure demo make demo DEMO_ARGS=--no-wait
measure demo-again make demo DEMO_ARGS=--no-wait
measure test make test
