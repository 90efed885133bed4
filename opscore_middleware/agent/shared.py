"""A request and what is tracked within it: one unit of work, which ends with the last of them."""

from __future__ import annotations

from typing import Any

from opscore_middleware.agent.ended import TaskEnd
from opscore_middleware.agent.origin import Origin
from opscore_middleware.agent.outbox import Instance
from opscore_middleware.agent.read import Read

__all__ = ["SharedUnit"]


class SharedUnit(Origin):
    """One unit of work of the agent's, which a request shares with the units tracked within it.

    Class attributes are the defaults, so that what most requests never have costs them nothing.
    """

    unit: Instance | None = None
    """Set while it counts from its start, or has come to."""
    read: Read | None = None
    """Set while it may come to count."""
    more = False
    """There is more to its end than that it ended: a failure, an answer to be read, a task, or
    tracked units."""
    shared = False
    """Units have been tracked within it."""
    tracked = 0
    """Tracked units that are open: it and they are one unit of work, which ends with the last."""
    taken = False
    """An integration has taken it over: only its tracked units count, and how they end."""
    over = False
    """The app has returned."""
    failure: dict[str, Any] | None = None
    """The first failure of it or of a tracked unit, told when all of them are over."""
    task_end: TaskEnd | None = None
    """How its task has ended, once that is known."""
    aside: Instance | None = None
    """Where it turned out to be no work: the instance that is told if it fails."""

    # --- how it ends -----------------------------------------------------------------------------

    def _end(self, end: TaskEnd | None) -> None:
        with self.runtime.tracker.lock:
            self.over = True
            if not self.taken:
                self.task_end = end
            elif self.task_end is not None and end is not None and end.state == "completed":
                self.task_end = self.task_end._replace(result=end.result)
            if not self.tracked:
                self._close()

    def _close(self) -> None:
        """Tell how it ended, it and what was tracked within it."""
        unit, self.unit = self.unit, None
        read, self.read = self.read, None
        failure, self.failure = self.failure, None
        tracker = self.runtime.tracker
        if read is not None and self.task is not None:
            unit, read = tracker.promote(read, self.task.details()), None
        told = self._end_of_task()
        if failure is not None:
            if unit is not None:
                tracker.fail(unit, failure, told)
            elif read is not None:
                tracker.fail_read(read, failure)
            elif self.aside is not None:
                tracker.fail_aside(self.aside, failure)
        elif unit is not None:
            tracker.end(unit, told)
        elif read is not None:
            tracker.end_read(read)
        elif self.taken:
            tracker.mention(told)

    def _end_of_task(self) -> dict[str, Any] | None:
        """Return what is told of the end of its task.

        Once, whatever is tracked afterwards and however often the same attempt comes.
        """
        task, end = self.task, self.task_end
        if task is None or end is None:
            return None
        self.task = None
        if not self.runtime.ended_tasks.ends(task.task_id, for_good=end.state != "interrupted"):
            return None
        if end.result is not None:
            self.runtime.outbox.make_room(end.result)
        return {**task.details(), **end.details()}

    # --- what is tracked within ------------------------------------------------------------------

    def open_unit(self) -> Instance:
        """Count a tracked unit to this request, which becomes work if it was not."""
        tracker = self.runtime.tracker
        with tracker.lock:
            self.more = self.shared = True
            if self.unit is not None and self.unit is not tracker.instance:
                # In a child that was forked within it, or after a lifespan that went by meanwhile:
                # what is open of the instance before ends untold.
                self.unit, self.tracked = None, 0
            self.tracked += 1
            if self.unit is None:
                details = None if self.task is None else self.task.details()
                read, self.read = self.read, None
                if read is None or read.instance is not tracker.instance:
                    self.unit = tracker.begin(details)
                else:
                    self.unit = tracker.promote(read, details)
            return self.unit

    def take_over(self) -> Instance:
        """Count a tracked unit, and from here on of this request nothing else."""
        with self.runtime.tracker.lock:
            self.taken = True
            return self.open_unit()

    def close_unit(
        self,
        unit: Instance,
        failure: dict[str, Any] | None,
        *,
        cut_off: bool,
        end: TaskEnd | None = None,
    ) -> None:
        """End a tracked unit; the last one of a request that is over closes it.

        One that outlives the request says how its task ended, not the response; one that was cut
        off has not ended it.
        """
        with self.runtime.tracker.lock:
            if unit is not self.unit:
                return  # of an instance before
            self.tracked -= 1
            if self.failure is None:
                self.failure = failure
            if self.tracked or not (self.over or self.taken):
                return
            if end is None and self.failure is not None:
                self.task_end = TaskEnd("failed")
            elif end is None:
                self.task_end = None if cut_off else TaskEnd("completed")
            else:
                self.task_end = end
            if self.over:
                self._close()
            else:
                self._pause(known=end is not None)

    def _pause(self, *, known: bool) -> None:
        """Tell that the work of a request that was taken over is done, though it is still open.

        Its task has ended with that where the unit knew how, or has failed; else it ends with the
        response, which has its result.
        """
        unit, self.unit = self.unit, None
        failure, self.failure = self.failure, None
        if unit is None:
            return
        told = self._end_of_task() if known or failure is not None else None
        if failure is None:
            self.runtime.tracker.end(unit, told)
        else:
            self.runtime.tracker.fail(unit, failure, told)
