"""Handlers for the tasks that Ops-Core gives out, chosen by name."""
