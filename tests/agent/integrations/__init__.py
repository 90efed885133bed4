"""Agents on real frameworks, and what their integrations make of them."""
