"""Measures of trained SAEs."""
