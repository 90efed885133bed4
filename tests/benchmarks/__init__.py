"""Benchmarks: each runs us and the alternatives in one go and prints the ratio."""
