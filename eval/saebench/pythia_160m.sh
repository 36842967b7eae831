#!/bin/sh
# The paper's table on Pythia-160M: 12 layers, α = 0, 0.5 and 1, three seeds, 108 SAEs of 24,576
# latents, 200 million tokens each; then SAEBench at its published settings, and the report.
#
#   make saebench && sh eval/saebench/pythia_160m.sh runs/pythia-160m
#
# Needs a GPU with 40 GB or more (16 GB of SAEs and their steps, and the language model; `wsae compare
# --dry-run` prints it), and the Hub for the model and the text. Disk: 16 GB of exported SAEs, and
# while a training run goes on its checkpoints, 5 × 18 SAEs of 450 MB (weights and Adam), 41 GB.
# Time has not been measured. What cannot be left out: the encoders' products, 0.8 exaFLOP for all
# 108, and six passes of the language model over 200 million tokens, 0.4 exaFLOP: an hour at
# 300 TFLOP/s, of which real runs reach a fraction. What SAEBench takes, `wsae bench --dry-run` guesses.
set -e
output=${1:?the folder for the runs, such as runs/pythia-160m}
compare=".venv/bin/wsae compare configs/pythia-160m/compare.yaml --output $output"
if [ ! -e "$output" ]; then
    $compare
elif ! grep -q '"status": "finished"' "$output/manifest.json"; then
    $compare --resume
fi
.venv/bin/wsae eval "$output" --dataset NeelNanda/pile-10k
.venv-saebench/bin/wsae bench "$output" --profile standard --dataset Skylion007/openwebtext \
    --evals core,sparse_probing,sae_probes,absorption,meta_structure
.venv/bin/wsae report "$output"
