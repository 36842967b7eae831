"""What the WSAE papers state, each statement as a check that can come out either way."""

from wsae_plugin.toy.claims.claim import VERDICTS, Claim, Evidence, Statement, verdict
from wsae_plugin.toy.claims.ledger import CLAIMS, check_claims
from wsae_plugin.toy.claims.markdown import ledger_markdown

__all__ = [
    "CLAIMS",
    "VERDICTS",
    "Claim",
    "Evidence",
    "Statement",
    "check_claims",
    "ledger_markdown",
    "verdict",
]
