"""Cron expressions, as `core.workflows` asks for them."""

from __future__ import annotations

from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

__all__ = ["next_run"]


def next_run(schedule: str, after: datetime) -> datetime:
    """Return when a cron expression next comes true after a time, in UTC.

    Raises `ValueError` for what is no cron expression, and for a day that never comes.
    """
    if len(schedule.split()) != 5:
        raise ValueError("it has five fields: minute, hour, day, month, weekday")
    try:
        return next(CronSim(schedule, after.astimezone(UTC)))
    except CronSimError as error:
        told = str(error)
        raise ValueError(f"{told[:1].lower()}{told[1:]}") from None
    except StopIteration:
        raise ValueError("that day never comes") from None
