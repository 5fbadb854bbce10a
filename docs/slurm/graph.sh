#!/bin/bash
# Every step of every session a job of its own, with Nipype's SLURMGraph. Run it where jobs are
# submitted: it submits, waits and reports. Options of rela_bids come last.
#
#     graph.sh BIDS OUT WORK [option ...]
#
set -eu
bids=$1 out=$2 work=$3
shift 3
exec ${RELA_BIDS:-rela_bids} "$bids" "$out" participant -w "$work" \
    --use-plugin "$(dirname "$0")/slurmgraph.yml" "$@"
