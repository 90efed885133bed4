"""The routes that FastAPI serves, one module per noun."""
