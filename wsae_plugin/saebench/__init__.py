"""Adapters: our runs in, SAEBench's JSON and a comparison out; nothing heavy is imported here."""
