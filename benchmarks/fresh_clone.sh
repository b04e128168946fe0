#!/bin/sh
# What a newcomer waits for: both commands of the README in a fresh clone, with wall time and peak memory of each.
# Peak memory is the sum of the resident sets of everything below the command, sampled every other second; pages that
# processes share count once for each, so it is an upper bound.
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
        now=$(ps -e -o pid= -o ppid= -o rss= | awk -v leader="$leader" '
            { parent[$1] = $2; rss[$1] = $3 }
            END {
                for (pid in rss) {
                    up = pid
                    while (up > 1 && up != leader) up = parent[up]
                    if (up == leader) total += rss[pid]
                }
                print int(total / 1024)
            }')
        [ "$now" -gt "$peak" ] && peak=$now
        sleep 2
    done
    status=0
    wait "$leader" || status=$?
    echo "$label: $(($(date +%s) - started)) s, peak ${peak} MiB, exit status $status, log $folder/$label.log"
}

measure demo make demo DEMO_ARGS=--no-wait
measure demo-again make demo DEMO_ARGS=--no-wait
measure test make test
