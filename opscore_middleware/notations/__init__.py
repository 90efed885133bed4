"""The languages that a workflow is written in: YAML and JSON, JMESPath, cron.

The core asks for these and is handed them, since it stands on pydantic alone. Needs the `server`
or the `cli` extra.
"""
