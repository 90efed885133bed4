"""Traps of requests."""

from __future__ import annotations

from typing import Final

from tests.traps.rows.trap import Trap

__all__ = ["REQUESTS"]

REQUESTS: Final = {
    "18": Trap(
        "An unhandled exception passes through; the 500 is made outside of all middleware.",
        "One error is reported, and the exception goes on as the object it is.",
        {
            "traps/test_servers.py": ["test_each_way_to_fail_is_one_error"],
            "agent/test_transparency.py": ["test_an_exception_comes_out_as_the_object_it_is"],
        },
    ),
    "19": Trap(
        "An HTTPException or a returned 500 is a status alone, without an exception.",
        "Either is one error.",
        {
            "traps/test_servers.py": ["test_each_way_to_fail_is_one_error"],
            "agent/test_requests.py": ["test_each_way_to_answer_with_a_5xx_is_one_error"],
        },
    ),
    "20": Trap(
        "A handler for Exception answers 200 outside of the middleware, which sees the exception.",
        "It is a failure, as the documentation says; a handler for a narrower class makes it none.",
        {
            "traps/test_handlers.py": [
                "test_the_app_chooses_by_its_handlers_class_whether_a_handled_exception_is_a_failure"
            ]
        },
    ),
    "21": Trap(
        "An app may fail after its response has begun.",
        "One error is reported, and the bytes that were sent are the same.",
        {
            "traps/test_servers.py": ["test_each_way_to_fail_is_one_error"],
            "agent/test_requests.py": ["test_a_failure_after_the_response_began_is_one_error"],
            "agent/test_transparency.py": [
                "test_the_server_sees_the_same_messages_with_us_as_without"
            ],
        },
    ),
    "22": Trap(
        "Background tasks run within the app's call, after the answer.",
        "The agent is active until they end; one that fails is an error.",
        {"traps/test_servers.py": ["test_background_tasks_are_work_until_their_end"]},
    ),
    "23": Trap(
        "Task groups raise groups of exceptions.",
        "A group of nothing but cancellations is no error.",
        {
            "agent/test_concurrency.py": ["test_a_group_of_cancellations_alone_is_no_error"],
            "agent/test_outcome.py": [
                "test_cancellation_and_the_end_of_the_process_are_no_failures"
            ],
        },
    ),
    "24": Trap(
        "Cancellation is no Exception, and passes by handlers of such.",
        "What was in flight is in flight no more, and the cancellation goes on.",
        {
            "agent/test_concurrency.py": ["test_a_cancelled_request_leaves_the_agent_idle"],
            "agent/test_transparency.py": ["test_an_exception_comes_out_as_the_object_it_is"],
        },
    ),
    "25": Trap(
        "When a client leaves, servers return, cancel or raise, each in its own way.",
        "The agent is idle, and never in error.",
        {
            "traps/test_servers.py": [
                "test_a_stream_is_one_piece_of_work_and_a_client_that_leaves_it_no_error"
            ],
            "agent/test_outcomes_in_responses.py": [
                "test_what_a_send_raises_when_the_client_has_left_is_no_failure"
            ],
        },
    ),
    "26": Trap(
        "Reading or buffering a body hangs apps, or costs time and memory without bound.",
        "200 MB pass in flat memory, the same bytes, and nothing is read ahead of the app.",
        {
            "traps/test_messages.py": [
                "test_an_upload_of_200_mb_passes_as_it_is_in_flat_memory_and_never_ahead_of_the_app"
            ]
        },
    ),
    "27": Trap(
        "A websocket that counts as a request makes its agent active for hours.",
        "An idle socket is idle; messages count, or the connection, or nothing, as one chooses.",
        {
            "traps/test_servers.py": [
                "test_each_websocket_message_is_work_and_the_open_socket_is_not"
            ],
            "agent/test_websockets.py": [
                "test_a_connection_can_be_one_piece_of_work",
                "test_websockets_can_be_left_out",
            ],
        },
    ),
    "28": Trap(
        "A stream may be taken for as many events as it has chunks.",
        "Ten thousand chunks make two reports.",
        {
            "agent/test_requests.py": ["test_thousands_of_chunks_make_two_reports"],
            "traps/test_servers.py": [
                "test_a_stream_is_one_piece_of_work_and_a_client_that_leaves_it_no_error"
            ],
        },
    ),
    "29": Trap(
        "Data of one request kept on the middleware is overwritten by the next.",
        "A thousand interleaved requests each keep their own.",
        {"agent/test_concurrency.py": ["test_a_thousand_interleaved_requests_keep_their_own_data"]},
    ),
    "30": Trap(
        "Context variables that are set and reset across tasks break, or leak.",
        "The app's and the server's context are the same with us as without.",
        {
            "agent/test_transparency.py": ["test_the_apps_context_variables_are_the_same"],
            "traps/test_messages.py": ["test_the_context_of_the_server_is_left_as_it_was"],
        },
    ),
    "31": Trap(
        "Starlette's BaseHTTPMiddleware is slow, and breaks context and streaming.",
        "It is not used.",
        {"agent/test_transparency.py": ["test_the_middleware_is_not_starlettes_base_class"]},
    ),
    "32": Trap(
        "HEAD, OPTIONS and probes come all the time.",
        "A thousand probes make no report.",
        {
            "agent/test_requests.py": ["test_probes_and_short_reads_make_no_report"],
            "traps/test_servers.py": ["test_probes_and_listeners_are_no_work"],
        },
    ),
    "33": Trap(
        "Test clients make a loop for each request and cancel what they find in it; trio differs.",
        "The same holds on asyncio and on trio, and delivery lives in no loop.",
        {
            "traps/test_servers.py": [
                "test_an_agent_is_idle_once_it_serves_and_active_while_it_works"
            ],
            "agent/test_transparency.py": [
                "test_the_server_sees_the_same_messages_with_us_as_without"
            ],
        },
    ),
    "34": Trap(
        "Work that outlives its request is not seen by counting requests.",
        "Tracked units count wherever they run, and for as long as they do.",
        {
            "agent/test_track.py": [
                "test_a_unit_that_outlives_its_request_keeps_the_agent_active",
                "test_a_worker_born_in_the_lifespan_makes_the_agent_active",
                "test_a_thread_without_a_context_finds_the_only_agent",
            ]
        },
    ),
    "35": Trap(
        "Agents report failures inside a 200: in JSON-RPC, tasks, events.",
        "Unmistakable ones are errors; what only looks alike is not.",
        {
            "agent/test_outcomes_in_responses.py": [
                "test_a_json_body_that_tells_of_a_failure_is_one",
                "test_an_event_that_tells_of_a_failure_is_one",
                "test_somebodys_own_word_for_failure_is_none_of_ours",
            ]
        },
    ),
    "35a": Trap(
        "One run fails while another goes on.",
        "Error is told, and active again at once.",
        {
            "agent/test_tracker.py": [
                "test_a_failure_beside_other_work_is_told_and_the_agent_is_active_again"
            ]
        },
    ),
    "35b": Trap(
        "Some apps break when the lifespan is answered for them, some exit hard inside it.",
        "It is forwarded as it comes, and draining is delivered before the app hears of the end.",
        {
            "agent/test_lifespan.py": [
                "test_draining_is_delivered_before_the_app_hears_of_the_end",
                "test_an_app_that_leaves_its_lifespan_early_goes_on_working",
            ]
        },
    ),
    "35c": Trap(
        "Something that is not ASGI may be wrapped.",
        "It is refused at once, with what it is and what to do.",
        {"agent/test_settings.py": ["test_what_is_not_asgi_is_refused_with_what_to_do"]},
    ),
    "35d": Trap(
        "Apps receive while they work, or in the loop of another thread.",
        "They get the same messages, the disconnect included.",
        {
            "traps/test_messages.py": [
                "test_an_app_that_listens_for_the_end_while_it_works_hears_of_it",
                "test_an_app_that_works_in_another_threads_loop_gets_every_message",
            ]
        },
    ),
}
