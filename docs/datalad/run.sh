#!/bin/bash
# One person of a DataLad dataset, with what was done kept in git: STUDY is made, with the input in
# STUDY/inputs/bids, of which only this person is checked out and fetched, and the output in
# STUDY/outputs. Options of rela_bids come last. RELA_BIDS is the command, if it is not rela_bids.
#
#     run.sh BIDS STUDY WORK PERSON [option ...]
#
set -eu
bids=$1 study=$2 work=$3 person=$4
shift 4
datalad create "$study"
cd "$study"
datalad clone -d . "$bids" inputs/bids
git -C inputs/bids sparse-checkout set "$person"
datalad run -m "Synthetic PET of $person" --input "inputs/bids/$person" --output outputs \
    "${RELA_BIDS:-rela_bids} inputs/bids outputs participant -w $work --participant-label $person $*"
