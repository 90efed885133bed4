"""One HTTP request while it is served: what of it is work, and how it ends."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Iterator
from typing import Any, Final

from starlette.types import Message, Receive, Scope, Send

from opscore_middleware.agent.correlation import (
    TASK_HEADER,
    TaskPeek,
    find_task,
    find_task_in_headers,
)
from opscore_middleware.agent.departure import client_has_left
from opscore_middleware.agent.ended import ACCEPTED, TaskEnd, asked_to_wait
from opscore_middleware.agent.failure import Failure, Shown
from opscore_middleware.agent.outcome import (
    describe_exception,
    describe_failure,
    describe_status,
    describe_unfinished,
    is_failure,
    leaves_with_client,
)
from opscore_middleware.agent.results import answered
from opscore_middleware.agent.rpc import BodyPeek, is_json_type, is_plain, is_work
from opscore_middleware.agent.runtime import AgentRuntime
from opscore_middleware.agent.scan import (
    EventScanner,
    JsonScanner,
    is_event_stream,
    is_inconspicuous,
    scanner_for,
)
from opscore_middleware.agent.shared import SharedUnit

__all__ = ["WatchedRequest"]

_KEPT: Final = (list, tuple)  # can be read again; another iterable may be the server's to read
_TYPE: Final = b"content-type"
_JSON: Final = b"application/json"
_HEEDED: Final = frozenset({_TYPE, TASK_HEADER})  # in a request
_AHEAD: Final = frozenset(
    {"http.response.debug", "http.response.early_hint", "http.response.push"}
)  # tell nothing of how far a response is
_UNREAD: Final = JsonScanner()  # in place of one's own, until a part comes that needs one
Headers = Iterable[tuple[bytes, bytes]]


class WatchedRequest(SharedUnit):
    """What is known of one request while it is served.

    Class attributes are the defaults; what every request asks for is set in each, which takes less
    time than to find a default. It holds nothing of the server's: tasks that outlive the request
    keep it alive, by the context that they copied.

    A plain request, which has nothing to tell but that it began and ended, passes here as quickly
    as can be: `looks`, `scanner` and `more` say where there is more to do.
    """

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
    status = 0
    wait: float | None = None
    finished = False
    gone = False
    """The client has left."""

    __init__ = object.__init__  # a call less in every request: how it begins sets what it needs

    # --- how it begins ---------------------------------------------------------------------------

    def begins(self, runtime: AgentRuntime, headers: Any) -> None:
        """Count it: at once, or where it brings JSON, once that shows whether it is work."""
        self.runtime = runtime
        self.looks = self.more = self.finished = False
        self.scanner = None
        try:
            if isinstance(headers, _KEPT):
                for name, _ in headers:
                    if name in _HEEDED:
                        self._heeds(headers)
                        return
        except (TypeError, ValueError, AttributeError):
            pass  # no headers that a server makes; the app will see to them
        self.unit = runtime.tracker.begin()

    def _heeds(self, headers: Headers) -> None:
        said = dict(headers)
        self.task = task = find_task_in_headers(headers) if TASK_HEADER in said else None
        content_type = said.get(_TYPE)
        if content_type == _JSON or (content_type is not None and is_json_type(content_type)):
            self.unit = None
            self.read = self.runtime.tracker.begin_read()
            self.looks = self.undecided = True
            self.more = task is not None
        elif task is None:
            self.unit = self.runtime.tracker.begin()
        else:
            self.more = True
            self.unit = self.runtime.tracker.begin(task.details())

    def may_come_to_count(self, runtime: AgentRuntime) -> None:
        """Count it once it has lasted, unless it turns out to listen to events."""
        self.runtime = runtime
        self.looks = self.more = self.finished = False
        self.scanner = None
        self.unit = None
        self.read = runtime.tracker.begin_read()
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
                self.gone = self.gone or not self.finished
            elif self.looks:
                self._look_at(message)
            return message

        def watched_send(message: Message) -> Awaitable[None]:
            kind = message["type"]
            if kind == "http.response.body":
                if not message.get("more_body"):
                    self.finished = True
                if self.scanner is not None:
                    self._read_part(self.scanner, message)
            elif kind == "http.response.start":
                message = self._starts(message)
            elif kind not in _AHEAD and not message.get("more_body", False):
                self.finished = True  # an extension that sends the rest: a file, or trailers
            return send(message)

        return watched_receive, watched_send

    def _starts(self, message: Message) -> Message:
        """Look at how a response starts; return that as the server is to get it."""
        try:
            status, headers = message["status"], message.get("headers")
            if status >= 500 or self.looks or self.more:
                self._starts_with_more(status, headers)
            self.status = status
            if isinstance(headers, _KEPT):
                for name, value in headers:
                    # In lower case by the book; Django and Sanic write it as people do.
                    if name == _TYPE or (len(name) == 12 and name.lower() == _TYPE):
                        # Most answers that are neither JSON nor events end the look here.
                        if b"json" in value or b"event" in value:
                            self._scan(value, headers)
                        return message
                return message
        except (TypeError, ValueError, KeyError, AttributeError):
            return message  # not by the book: the server will see to it
        if isinstance(headers, Iterator):
            # Sanic's: the server gets what was read of them.
            return self._starts({**message, "headers": list(headers)})
        return message

    def _starts_with_more(self, status: int, headers: Any) -> None:
        if status >= 500:
            self.more = True
        if self.undecided or self.peek is not None:
            self.undecided, self.peek = False, None
            self._decided(work=True)
        if self.task is not None and isinstance(headers, _KEPT):
            self.wait = asked_to_wait(status, headers)

    def _look_at(self, message: Message) -> None:
        body, more = message.get("body", b""), message.get("more_body", False)
        if self.undecided and not more:
            # All of the body at once, as most often.
            self.looks = self.undecided = False
            if self.task is None and is_plain(body):
                read = self.read
                if read is not None:
                    self.read, self.unit = None, self.runtime.tracker.promote(read)
                return
            if self.task is None and (task := find_task(body)) is not None:
                self.task, self.more = task, True
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
                self.task, self.task_peek, self.more = task, None, True
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

    def _scan(self, content_type: bytes, headers: Headers) -> None:
        if self.unit is None and self.read is None and self.task is None:
            return
        if content_type == _JSON:
            # That it is encoded or too long shows as it is read.
            detectors = self.runtime.hooks.outcome
            if not detectors:
                self.scanner = _UNREAD
            else:
                self.scanner, self.more = JsonScanner(detectors), True
        elif self.listens and is_event_stream(headers):
            self._decided(work=False)
        else:
            self.scanner = scanner_for(headers, self.runtime.hooks.outcome)
            if self.scanner is not None:
                self.more = True

    def _read_part(self, scanner: JsonScanner | EventScanner, message: Message) -> None:
        """Look at a part of the response."""
        body = message.get("body", b"")
        if scanner is _UNREAD:
            # Most answers come whole, and nothing needs to be kept of them.
            if self.finished and self.task is None and not self.looks and is_inconspicuous(body):
                self.scanner = None
                return
            self.scanner = scanner = JsonScanner()
            self.more = True
        scanner.feed(body)

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
        failure, more = None, self.more
        if more:
            if self.scanner is not None:
                failure = self.scanner.failure()
            more = failure is not None or self.task is not None or self.status >= 500
            if not more:
                self.scanner = None  # what outlives the request keeps it alive, not its answer
        if self.finished and not more:
            tracker = self.runtime.tracker
            read = self.read if self.unit is None else None
            if read is None:
                tracker.lock.acquire()
                try:
                    # Another thread may just have opened a tracked unit.
                    if not (self.more and self.shared):
                        self.over = True
                        unit = self.unit
                        if unit is not None:
                            self.unit = None
                            tracker.ended(unit)
                        return True
                finally:
                    tracker.lock.release()
            else:
                self.over = True  # first: who tracks within it meanwhile is to close it
                if tracker.forget(read):
                    return True
        return self._returned(scope, failure)

    def _returned(self, scope: Scope, failure: Failure | None) -> bool:
        status = self.status
        if status >= 500:
            self._fail(describe_status(status, scope), self._failed_end())
            return True
        if failure is not None and not (isinstance(failure, Shown) and self._only_looks()):
            self._fail(describe_failure(failure, scope), self._failed_end())
            return True
        if not self.finished:
            if not self.gone:
                return False
            self._end(self._interrupted_end())
            return True
        if status == ACCEPTED or self.task is None:
            self._end(None)
        else:
            self._end(self._completed_end() if status < 300 else self._failed_end())
        return True

    def _only_looks(self) -> bool:
        """Whether it has done no work of its own, so that what it shows is another's."""
        read = self.read
        return self.unit is None and self.task is None and not (read is not None and read.counted)

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
            started = self.status != 0
            self._fail(describe_unfinished(scope, started=started), self._failed_end())

    def _fail(self, details: dict[str, Any], end: TaskEnd | None) -> None:
        if self.failure is None and not self.taken:
            self.failure = self.runtime.hooks.redacted(details)
        self._end(end)

    def _end(self, end: TaskEnd | None) -> None:
        # What outlives the request keeps it alive; not what it was answered as well.
        self.scanner = self.peek = self.task_peek = None
        super()._end(end)
