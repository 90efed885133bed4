"""Cron expressions, as `core.workflows` asks for them."""

from __future__ import annotations

from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

__all__ = ["next_run"]


def next_run(schedule: str, after: datetime) -> datetime:
    """Return when a cron expression next comes true after a time, in UTC.

    Raises `ValueError` for what is no cron expression, and for a day that never comes.
    """
    fields = schedule.split()
    if len(fields) != 5:
        raise ValueError(
            "is no cron expression: it has five fields: minute, hour, day, month, weekday"
        )
    try:
        return next(CronSim(schedule, after.astimezone(UTC)))
    except CronSimError as error:
        if _goes_with_any_month(fields):
            raise ValueError("never comes: none of its months has that day") from None
        told = str(error)
        raise ValueError(f"is no cron expression: {told[:1].lower()}{told[1:]}") from None
    except StopIteration:
        raise ValueError("never comes: no year has that day") from None


def _goes_with_any_month(fields: list[str]) -> bool:
    """Tell whether each field is right by itself: cronsim calls a day bad that its month lacks."""
    minute, hour, day, month, weekday = fields
    try:
        for one in (f"{minute} {hour} {day} * {weekday}", f"{minute} {hour} * {month} {weekday}"):
            CronSim(one, datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError:
        return False
    return True
