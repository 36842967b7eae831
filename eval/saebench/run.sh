#!/bin/sh
# The study of README's "What weighting did": 160 SAEs on the bundled model, every layer, eight arms,
# five seeds; then the report, into eval/saebench/. Every step goes on where it was interrupted.
#
#   make saebench && sh eval/saebench/run.sh runs/study
#
# An hour or two of two cores. Left out of SAEBench's evals: tpp and scr, which failed an audit of its
# metrics (arXiv 2605.18229), absorption, since no letter passes its thresholds on so small a model
# (best probe F1 0.17 of 0.6), and autointerp for want of a judge. The two arms that ask only about
# the scale of Γ (literal, constant) get no SAEBench.
set -e
output=${1:?the folder for the runs, such as runs/study}
export OMP_NUM_THREADS=1
if [ ! -e "$output" ]; then
    .venv/bin/wsae compare configs/bundled/study.yaml --output "$output"
elif ! grep -q '"status": "finished"' "$output/manifest.json"; then
    .venv/bin/wsae compare configs/bundled/study.yaml --output "$output" --resume
fi
.venv/bin/wsae eval "$output"
.venv-saebench/bin/wsae bench "$output" \
    --evals core,sparse_probing,sae_probes,meta_structure \
    --arms sae,alpha-half,alpha-1,shuffled,opposite,whitened
.venv/bin/wsae report "$output" --output eval/saebench
