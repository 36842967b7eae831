"""What the papers state, each statement as a check that can come out either way.

`claims.yaml` holds the statements and what each needs; the modules beside it measure the numbers;
`claim` makes verdicts of the two, `ledger` runs them all and has the page written.
"""

from wsae_plugin.toy.claims.claim import VERDICTS
from wsae_plugin.toy.claims.ledger import CLAIMS, check_claims, ledger_markdown

__all__ = ["CLAIMS", "VERDICTS", "check_claims", "ledger_markdown"]
