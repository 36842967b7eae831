#!/bin/sh
# Two machines of eight GPUs without a scheduler. Run it on both, with HEAD the name of one of them.
# Code, config, data and the output folder lie on a file system that both see.
#
#   HEAD=node-1 sh configs/distributed/two_machines.sh
set -eu
: "${HEAD:?is the machine where the processes meet: HEAD=node-1 sh $0}"
config=${CONFIG:-configs/distributed/pythia_6.9b.yaml}
output=${OUTPUT:-runs/pythia-6.9b}
resume=
[ ! -e "$output/run.json" ] || resume=--resume
# At Ctrl-C or SIGTERM torchrun gives the processes so many seconds to write a checkpoint.
exec torchrun --nnodes 2 --nproc-per-node "${GPUS:-8}" --shutdown-timeout 600 \
  --rdzv-backend c10d --rdzv-endpoint "$HEAD:29500" --rdzv-id wsae \
  -m wsae_plugin train "$config" --output "$output" $resume
