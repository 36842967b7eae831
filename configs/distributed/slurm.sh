#!/bin/sh
#SBATCH --job-name=wsae
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@900
#SBATCH --requeue
# Two machines of eight GPUs under SLURM; submit it from the folder of the project. A quarter of an
# hour before its time is over, SLURM sends SIGTERM: the processes write a checkpoint and end, and
# the next submission goes on from there.
#
#   sbatch configs/distributed/slurm.sh
set -eu
HEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export HEAD
exec srun sh configs/distributed/two_machines.sh
