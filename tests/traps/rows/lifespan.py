"""Traps of the lifespan and the process."""

from __future__ import annotations

from typing import Final

from tests.traps.rows.trap import Trap

__all__ = ["LIFESPAN"]

LIFESPAN: Final = {
    "1": Trap(
        "Middleware sees the lifespan, and is made lazily, within the server's loop.",
        "A life is told as initializing, idle, …, draining, finished.",
        {
            "traps/test_servers.py": [
                "test_an_agent_is_idle_once_it_serves_and_active_while_it_works"
            ],
            "agent/test_requests.py": ["test_a_life_is_told_from_start_to_end"],
        },
    ),
    "2": Trap(
        "There may be no lifespan at all: switched off, or a test client used without `with`.",
        "A bare request still tells active and idle.",
        {
            "traps/test_servers.py": [
                "test_an_agent_is_idle_once_it_serves_and_active_while_it_works"
            ],
            "agent/test_requests.py": ["test_without_a_lifespan_a_request_still_tells"],
        },
    ),
    "3": Trap(
        "Apps without lifespan support raise on it, which servers read as such.",
        "The exception goes through, no error is reported, and requests are served.",
        {"agent/test_lifespan.py": ["test_an_app_without_lifespans_raises_as_before_and_is_ready"]},
    ),
    "4": Trap(
        "After a failed start the server exits at once.",
        "The error and its cause are delivered before the server hears of it.",
        {
            "traps/test_servers.py": ["test_a_failed_start_is_told_before_the_server_exits"],
            "agent/test_lifespan.py": [
                "test_a_failed_startup_is_delivered_before_the_server_hears_of_it"
            ],
        },
    ),
    "5": Trap(
        "A second Ctrl-C cancels the lifespan instead of ending it.",
        "Finished is delivered all the same.",
        {
            "traps/test_servers.py": ["test_a_second_ctrl_c_still_lets_finished_be_told"],
            "agent/test_lifespan.py": ["test_a_lifespan_that_is_cancelled_still_says_finished"],
        },
    ),
    "6": Trap(
        "On SIGTERM servers wait for open streams, some without end.",
        "Draining is delivered at once, with the stream open; the server's handler runs as ever.",
        {"traps/test_servers.py": ["test_draining_is_told_at_once_though_a_stream_stays_open"]},
    ),
    "7": Trap(
        "On SIGTERM some servers end the process without any exit handler.",
        "Finished is delivered before the server hears that the shutdown is complete.",
        {
            "traps/test_servers.py": [
                "test_a_process_that_is_asked_to_end_says_draining_and_finished"
            ],
            "agent/test_lifespan.py": [
                "test_finished_is_delivered_before_the_server_hears_of_the_end"
            ],
        },
    ),
    "8": Trap(
        "At the graceful timeout requests are cancelled, yet unwind after the shutdown.",
        "A late idle of an instance that has finished changes nothing.",
        {
            "traps/test_servers.py": [
                "test_a_request_cut_at_the_graceful_timeout_leaves_finished_alone"
            ],
            "agent/test_tracker.py": ["test_a_late_end_of_a_finished_instance_changes_nothing"],
            "stores/test_reports.py": ["test_nothing_replaces_finished_for_an_instance"],
        },
    ),
    "9": Trap(
        "Mounted apps get no lifespan; middleware on both apps sees each request twice.",
        "Installed on both it counts once; on the mounted app alone it works.",
        {
            "coexistence/test_mounted.py": [
                "test_a_sub_app_with_the_middleware_is_counted_once_with_its_root_and_works_alone"
            ]
        },
    ),
    "10": Trap(
        "The middleware may be added twice.",
        "Each transition is reported once.",
        {"coexistence/test_mounted.py": ["test_the_middleware_added_twice_reports_once"]},
    ),
    "11": Trap(
        "Ops-Core mounted in the agent's process answers only after the startup.",
        "It boots within a second, and requests to Ops-Core are never the agent's work.",
        {
            "coexistence/test_mounted.py": [
                "test_ops_core_in_the_agents_process_boots_within_a_second_and_is_never_its_work"
            ]
        },
    ),
    "12": Trap(
        "A forked child has no reporting thread, and locks that nobody will release.",
        "A child forked while the lock is held reports, under an instance of its own.",
        {
            "agent/test_process.py": [
                "test_a_child_forked_while_the_lock_is_held_reports_under_an_instance_of_its_own"
            ],
            "traps/test_servers.py": [
                "test_an_agent_is_idle_once_it_serves_and_active_while_it_works"
            ],
        },
    ),
    "13": Trap(
        "Several worker processes contradict each other about one agent.",
        "Each report names its instance, and Ops-Core folds them into one state.",
        {
            "traps/test_servers.py": ["test_four_workers_are_four_instances_of_one_agent"],
            "core/test_states.py": ["test_four_workers_are_active_while_one_of_them_is"],
        },
    ),
    "14": Trap(
        "In a rolling restart the old process's finished comes after the new one's idle.",
        "The agent stays idle.",
        {
            "traps/test_servers.py": ["test_a_rolling_restart_leaves_the_agent_idle"],
            "core/test_states.py": ["test_a_rolling_restart_leaves_the_agent_idle"],
        },
    ),
    "15": Trap(
        "Several loops or lifespans may run around one app in one process.",
        "The first to stop does not say finished while another runs.",
        {
            "agent/test_lifespan.py": ["test_two_lifespans_at_once_finish_with_the_last"],
            "agent/test_tracker.py": [
                "test_the_first_of_two_lifespans_to_stop_does_not_say_finished"
            ],
        },
    ),
    "16": Trap(
        "While the interpreter exits no thread can be started.",
        "The exit is clean, without a traceback.",
        {
            "agent/test_process.py": [
                "test_work_that_begins_while_the_interpreter_exits_leaves_no_traceback"
            ]
        },
    ),
    "17": Trap(
        "Starlette refuses middleware once the app has started.",
        "The documentation names the error and the remedy.",
        {
            "traps/test_handlers.py": [
                "test_adding_it_after_the_start_fails_with_what_the_page_says"
            ]
        },
    ),
}
