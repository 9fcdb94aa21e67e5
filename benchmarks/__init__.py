"""Benchmarks: each prints a table and runs by itself."""
