#!/bin/bash
# Train with one process for each task, on one node or several. Options of rela_bids come last.
# Reached the time limit? The same command again goes on from the last checkpoint.
#
#     sbatch --nodes=1 --ntasks-per-node=2 train.sh BIDS OUT WORK [option ...]
#
#SBATCH --job-name=rela_bids-train
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=2
#SBATCH --cpus-per-task=1
#SBATCH --mem=16G
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@300
#SBATCH --output=%x-%j.log
set -eu
bids=$1 out=$2 work=$3
shift 3
exec srun ${RELA_BIDS:-rela_bids} "$bids" "$out" group --train --resume -w "$work" \
    --devices "$SLURM_NTASKS_PER_NODE" --num-nodes "$SLURM_JOB_NUM_NODES" "$@"
