"""What breaks middleware and telemetry in the wild, and that it does not break here."""
