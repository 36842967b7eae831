"""The report: one table of scores → paired inference → a verdict → a page, Markdown and JSON.

It reads what other commands wrote and imports none of what made it: no torch, no SAELens.
"""
