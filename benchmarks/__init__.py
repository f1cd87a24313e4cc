"""Budgets of speed, memory, size and rows written, measured; ``python -m benchmarks`` runs them and prints one table."""
