#!/bin/sh
# The ledger and the toy experiments at the paper's size (n = 200, n_p = 20, 8 seeds),
# then Group Bias Adaptation beside its controls, on the grid of worlds that its defaults were not
# chosen on, and one choice changed at a time, half an hour of two cores each: `make toy`.
# An experiment goes on where it was interrupted; remove its folder to start it afresh.
set -e
wsae claims --output eval/toy/claims.json --markdown docs/claims.md
for experiment in fig2 fig3 proxies alpha; do
    wsae toy "$experiment" --threads 1 --output "eval/toy/$experiment"
done
wsae toy gba --output eval/toy/gba
python eval/toy/gba_worlds.py --output eval/toy/gba_worlds.json
python eval/toy/gba_ablation.py --output eval/toy/gba_ablation.json
