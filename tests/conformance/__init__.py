"""Starlette's own test suite, with every app of it wrapped in our middleware."""
