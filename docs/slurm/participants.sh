#!/bin/bash
# One person a job, all into one OUT. Options of rela_bids come last.
#
#     sbatch --array=0-$(($(ls -d BIDS/sub-*/ | wc -l) - 1))%50 participants.sh BIDS OUT WORK [option ...]
#
# RELA_BIDS is the command, if it is not rela_bids: for example
#     export RELA_BIDS="apptainer run --cleanenv --containall --bind /data rela_bids.sif"
#
#SBATCH --job-name=rela_bids
#SBATCH --cpus-per-task=2
#SBATCH --mem=6G
#SBATCH --time=01:00:00
#SBATCH --output=%x-%A_%a.log
set -eu
bids=$1 out=$2 work=$3
shift 3
people=("$bids"/sub-*/)
# With exec, SLURM's SIGTERM at the time limit reaches rela_bids itself; the same job again goes on.
exec ${RELA_BIDS:-rela_bids} "$bids" "$out" participant -w "$work" \
    --participant-label "$(basename "${people[$SLURM_ARRAY_TASK_ID]}")" \
    --nprocs "$SLURM_CPUS_PER_TASK" --mem "${SLURM_MEM_PER_NODE}M" "$@"
