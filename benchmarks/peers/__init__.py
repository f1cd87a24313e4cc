"""Comparison of other tools with the rules of kmsledger on the demo organization."""
