"""Agents that take tasks, as Ops-Core sends them."""
