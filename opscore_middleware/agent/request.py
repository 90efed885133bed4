"""One HTTP request while it is served: what of it is work, and how it ends."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Any, Final

from starlette.types import Message, Receive, Scope, Send

from opscore_middleware.agent.correlation import TaskPeek, find_task, find_task_in_headers
from opscore_middleware.agent.departure import client_has_left
from opscore_middleware.agent.ended import ACCEPTED, TaskEnd, asked_to_wait
from opscore_middleware.agent.envelopes import Failure
from opscore_middleware.agent.origin import Origin
from opscore_middleware.agent.outbox import Instance
from opscore_middleware.agent.outcome import (
    describe_exception,
    describe_failure,
    describe_status,
    describe_unfinished,
    is_failure,
    leaves_with_client,
)
from opscore_middleware.agent.results import answered
from opscore_middleware.agent.rpc import BodyPeek, is_json_type, is_work
from opscore_middleware.agent.runtime import AgentRuntime
from opscore_middleware.agent.scan import EventScanner, JsonScanner, is_event_stream, scanner_for
from opscore_middleware.agent.tracker import Read

__all__ = ["WatchedRequest"]

_KEPT: Final = (list, tuple)  # can be read again; another iterable is the server's, or the app's
Headers = Iterable[tuple[bytes, bytes]]


class WatchedRequest(Origin):
    """What is known of one request while it is served.

    Class attributes are the defaults; what every request asks for is set in each, which takes less
    time than to find a default. It holds nothing of the server's: tasks that outlive the request
    keep it alive, by the context that they copied.
    """

    unit: Instance | None = None
    """Set while it counts from its start, or has come to."""
    read: Read | None = None
    """Set while it may come to count."""
    listens = False
    """It is no work if it turns out to be an event stream."""
    looks = False
    """Parts of its body are still to be looked at."""
    undecided = False
    """It brings JSON, and nothing of that has been seen that would show whether it is work."""
    peek: BodyPeek | None = None
    """Looks at a JSON body until it is known whether that is work."""
    task_peek: TaskPeek | None = None
    """Looks for a task in a JSON body."""
    scanner: JsonScanner | EventScanner | None = None
    """Looks for failures in the response."""
    special = False
    """There is more to its end than its response: a task, or tracked units."""
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
    status = 0
    wait: float | None = None
    finished = False
    gone = False
    """The client has left."""

    def __init__(self, runtime: AgentRuntime) -> None:
        self.runtime = runtime
        self.undecided = self.special = self.finished = False
        self.peek = self.scanner = self.read = None

    # --- how it begins ---------------------------------------------------------------------------

    def begins(self, headers: Any) -> None:
        """Count it: at once, or where it brings JSON, once that shows whether it is work."""
        if isinstance(headers, _KEPT):
            for name, value in headers:
                if name == b"content-type":
                    if is_json_type(value):
                        self._waits_for_body(headers)
                        return
                    break
        self.unit = self.runtime.tracker.begin()

    def _waits_for_body(self, headers: Headers) -> None:
        self.read = self.runtime.tracker.begin_read()
        self.looks = self.undecided = True
        self.task = find_task_in_headers(headers)
        self.special = self.task is not None

    def may_come_to_count(self) -> None:
        """Count it once it has lasted, unless it turns out to listen to events."""
        self.read = self.runtime.tracker.begin_read()
        self.listens = True

    # --- what passes through ---------------------------------------------------------------------

    def between(self, receive: Receive, send: Send) -> tuple[Receive, Send]:
        """Return what the app is to be called with: the server's own two, looked at in passing.

        `watched_send` is a plain function that hands on the server's own awaitable: a coroutine of
        ours around each message would double what a request pays.
        """

        async def watched_receive() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                # After the response is complete, servers say so to everybody.
                self.gone = not self.finished
            elif self.looks:
                self._look_at(message)
            return message

        def watched_send(message: Message) -> Awaitable[None]:
            kind = message["type"]
            if kind == "http.response.body":
                if not message.get("more_body", False):
                    self.finished = True
                if self.scanner is not None:
                    self.scanner.feed(message.get("body", b""))
            elif kind == "http.response.start":
                self._starts(message)
            elif kind != "http.response.debug":
                self.finished = True  # an extension that sends the rest: a file, or trailers
            return send(message)

        return watched_receive, watched_send

    def _starts(self, message: Message) -> None:
        self.status = message["status"]
        if self.undecided or self.peek is not None:
            self.undecided, self.peek = False, None
            self._decided(work=True)
        headers = message.get("headers")
        if isinstance(headers, _KEPT):
            if self.special and self.task is not None:
                self.wait = asked_to_wait(self.status, headers)
            for name, value in headers:
                if name == b"content-type":
                    # Most answers that are neither JSON nor events end the look here.
                    if b"json" in value or b"event" in value:
                        self._scan(headers)
                    return

    def _look_at(self, message: Message) -> None:
        body, more = message.get("body", b""), message.get("more_body", False)
        if self.undecided and not more:
            # All of the body at once, as most often.
            self.looks = self.undecided = False
            if self.task is None:
                self.task = find_task(body)
                self.special = self.task is not None
            self._decided(is_work(body))
            return
        if self.undecided:
            self.undecided = False
            self.peek = BodyPeek()
            self.task_peek = TaskPeek() if self.task is None else None
        self._look_at_part(body, more)
        self.looks = self.peek is not None or self.task_peek is not None

    def _look_at_part(self, body: bytes, more: bool) -> None:
        if self.task_peek is not None:
            task = self.task_peek.feed(body, more)
            if not more:
                self.task_peek = None
            if task is not None:
                self.task, self.task_peek, self.special = task, None, True
        if self.peek is not None:
            work = self.peek.feed(body, more)
            if work is not None:
                self.peek = None
                self._decided(work)
        elif self.task is not None and self.unit is not None:
            self.runtime.tracker.mention(self.task.details())

    def _decided(self, work: bool) -> None:
        """Count a request that was waited with, or let it go."""
        read = self.read
        if read is not None:
            if work:
                details = None if self.task is None else self.task.details()
                self.unit = self.runtime.tracker.promote(read, details)
            else:
                self.runtime.tracker.end_read(read)
                self.aside = None if self.listens else read.instance
            self.read = None

    def _scan(self, headers: Headers) -> None:
        if self.listens and is_event_stream(headers):
            self._decided(work=False)
        elif self.unit is not None or self.read is not None or self.task is not None:
            self.scanner = scanner_for(headers, self.runtime.hooks.outcome)

    # --- how it ends -----------------------------------------------------------------------------

    async def raised(self, exception: BaseException, scope: Scope, receive: Receive) -> None:
        """Close it after an exception of the app's, which the caller raises on."""
        failed = is_failure(exception) and not self.gone
        if failed and leaves_with_client(exception) and not self.finished:
            failed = not await client_has_left(receive)
        if failed:
            self._fail(describe_exception(exception, scope), self._failed_end())
        else:
            self._end(self._interrupted_end())

    def returned(self, scope: Scope) -> bool:
        """Close it after the app has returned; False where `stopped_short` must."""
        status = self.status
        scanner = self.scanner
        failure = None if scanner is None else scanner.failure()
        if self.finished and status < 500 and not self.special and failure is None:
            # Most requests end here, with nothing to tell of their end.
            tracker = self.runtime.tracker
            tracker.lock.acquire()
            try:
                if not self.special:  # another thread may just have opened a tracked unit
                    self.over = True
                    if self.unit is not None:
                        tracker.ended(self.unit)
                        self.unit = None
                    elif self.read is not None:
                        tracker.read_ended(self.read)
                        self.read = None
                    return True
            finally:
                tracker.lock.release()
        return self._returned(status, failure, scope)

    def _returned(self, status: int, failure: Failure | None, scope: Scope) -> bool:
        if status >= 500:
            self._fail(describe_status(status, scope), self._failed_end())
            return True
        if failure is not None:
            self._fail(describe_failure(failure, scope), self._failed_end())
            return True
        if not self.finished:
            if status and not self.gone:
                return False
            self._end(self._interrupted_end())
            return True
        if status == ACCEPTED:
            self._end(None)
        else:
            self._end(self._completed_end() if status < 300 else self._failed_end())
        return True

    def _failed_end(self) -> TaskEnd:
        return TaskEnd("failed", self.status, retry_after=self.wait)

    def _completed_end(self) -> TaskEnd:
        """Take what was answered for what the task came to, where it is JSON."""
        wanted = self.task is not None and self.runtime.reports_results
        return TaskEnd("completed", result=answered(self.scanner) if wanted else None)

    def _interrupted_end(self) -> TaskEnd | None:
        """Say that nothing more will be said of its task, unless that was acknowledged before."""
        return None if self.finished and self.status == ACCEPTED else TaskEnd("interrupted")

    async def stopped_short(self, scope: Scope, receive: Receive) -> None:
        """Close it where the response was not finished: the client has left, or the app failed."""
        if await client_has_left(receive):
            self._end(self._interrupted_end())
        else:
            self._fail(describe_unfinished(scope), self._failed_end())

    def _fail(self, details: dict[str, Any], end: TaskEnd | None) -> None:
        if self.failure is None and not self.taken:
            self.failure = self.runtime.hooks.redacted(details)
        self._end(end)

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
        with self.runtime.tracker.lock:
            self.special = True
            self.tracked += 1
            if self.unit is None:
                details = None if self.task is None else self.task.details()
                read, self.read = self.read, None
                tracker = self.runtime.tracker
                self.unit = (
                    tracker.begin(details) if read is None else tracker.promote(read, details)
                )
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
