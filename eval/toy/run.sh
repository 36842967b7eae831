#!/bin/sh
# The ledger and the toy experiments at the paper's size (n = 200, n_p = 20, 8 seeds),
# then Group Bias Adaptation beside its controls, an hour of two cores, and its ablation, a quarter: `make toy`.
# An experiment goes on where it was interrupted; remove its folder to start it afresh.
set -e
wsae claims --output eval/toy/claims.json --markdown docs/claims.md
for experiment in fig2 fig3 proxies alpha; do
    wsae toy "$experiment" --threads 1 --output "eval/toy/$experiment"
done
wsae toy gba --output eval/toy/gba
python eval/toy/gba_ablation.py --output eval/toy/gba_ablation.json
python eval/toy/gba_ablation.py --output eval/toy/gba_ablation.json \
    --variant width-2048-scale-0.05-long --seeds 5
