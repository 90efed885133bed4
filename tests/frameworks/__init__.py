"""Agents on frameworks that want an environment of their own; `make frameworks` runs them."""
