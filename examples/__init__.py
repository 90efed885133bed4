"""Agents to run and to copy from."""
