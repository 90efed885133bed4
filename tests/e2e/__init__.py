"""Real processes: agents under uvicorn, Ops-Core as `opscore serve`."""
