"""The shared core: models, rules and use cases, without I/O and without a framework."""
