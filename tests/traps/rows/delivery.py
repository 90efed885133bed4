"""Traps of delivery."""

from __future__ import annotations

from typing import Final

from tests.traps.rows.trap import Trap

__all__ = ["DELIVERY"]

DELIVERY: Final = {
    "36": Trap(
        "A heartbeat on the event loop starves when the loop is blocked.",
        "Heartbeats go on, and say how late the loop is.",
        {
            "agent/test_heartbeats.py": [
                "test_a_blocked_loop_does_not_silence_the_agent_and_its_lag_is_told"
            ]
        },
    ),
    "37": Trap(
        "A server that is away blocks apps, or their exit.",
        "Requests take as long as ever, and the exit at most half a second longer.",
        {
            "e2e/test_outage.py": [
                "test_a_black_hole_costs_no_request_and_half_a_second_at_the_end"
            ],
            "agent/test_process.py": [
                "test_a_black_hole_delays_the_whole_exit_by_half_a_second_at_most"
            ],
            "traps/test_exits.py": [
                "test_a_black_hole_delays_the_exit_after_a_failed_start_by_half_a_second_at_most"
            ],
        },
    ),
    "38": Trap(
        "After a restart of the server all clients come at once.",
        "A fleet of a thousand spreads evenly, and waits as it is asked to.",
        {
            "agent/test_delivery.py": [
                "test_a_fleet_spreads_evenly_after_an_outage",
                "test_backoff_is_full_jitter_below_a_bound_that_doubles",
            ],
            "agent/test_courier.py": ["test_retry_after_is_honoured"],
        },
    ),
    "39": Trap(
        "An outage floods the log, or a log line makes another.",
        "An outage makes two lines, one at its start and one at its end.",
        {"agent/test_courier.py": ["test_an_outage_makes_two_lines_however_long_and_odd_it_is"]},
    ),
    "40": Trap(
        "HTTP clients log whole addresses and headers.",
        "The key is in no log, repr, traceback or error.",
        {
            "coexistence/test_logging.py": [
                "test_the_apps_logging_is_as_it_was_and_no_line_of_it_holds_the_key"
            ],
            "agent/test_process.py": ["test_no_log_at_any_level_shows_the_key"],
            "agent/test_settings.py": [
                "test_the_key_shows_in_no_repr",
                "test_a_bad_key_is_named_and_never_shown",
            ],
        },
    ),
    "41": Trap(
        "Texts of errors hold personal data.",
        "Class and a bounded message are told, which can be redacted; never headers or bodies.",
        {
            "agent/test_outcome.py": [
                "test_no_part_of_the_request_is_told",
                "test_messages_are_bounded_and_can_be_sent",
            ],
            "agent/test_hooks.py": ["test_redact_decides_what_is_told"],
        },
    ),
    "42": Trap(
        "Our own HTTP calls show up in the app's traces.",
        "No span, metric or event of theirs comes from us.",
        {
            "coexistence/test_opentelemetry.py": [
                "test_no_span_and_no_metric_of_theirs_comes_from_our_calls"
            ],
            "coexistence/test_sentry.py": ["test_sentry_is_told_the_same_with_us_as_without"],
        },
    ),
    "43": Trap(
        "A clock steps back an hour.",
        "Order is kept: sequence numbers order, clocks only inform.",
        {
            "stores/test_reports.py": ["test_a_clock_that_steps_back_does_not_disturb_sequences"],
            "core/test_opscore.py": [
                "test_a_client_s_wrong_clock_does_not_hold_back_its_next_report"
            ],
        },
    ),
    "44": Trap(
        "A queue without bound eats the host's memory during an outage.",
        "Memory is flat, the last state is right, and what was given up is counted and told.",
        {
            "agent/test_process.py": ["test_memory_is_flat_while_ops_core_is_away"],
            "agent/test_outbox.py": ["test_nothing_goes_uncounted_and_the_newest_is_never_lost"],
            "e2e/test_outage.py": ["test_what_happened_while_ops_core_was_away_arrives_in_order"],
        },
    ),
    "45": Trap(
        "A report may come before the registry has told Ops-Core of the agent.",
        "It waits quietly until the agent is known, and then comes in order.",
        {
            "agent/test_courier.py": ["test_reports_of_an_unknown_id_wait_in_order_and_quietly"],
            "e2e/test_agentkit_story.py": [
                "test_reports_before_the_webhook_wait_for_it_and_come_in_order"
            ],
        },
    ),
    "46": Trap(
        "A key that is refused is tried for ever.",
        "One line names the setting, and tries are rare.",
        {
            "agent/test_courier.py": ["test_a_refused_key_is_told_once_and_tried_slowly"],
            "e2e/test_outage.py": ["test_a_wrong_key_is_told_once_and_never_shown"],
        },
    ),
    "47": Trap(
        "The registry refuses the agent's name after its restart.",
        "The agent finds its old id and goes on.",
        {"e2e/test_agentkit_story.py": ["test_after_a_restart_the_agent_finds_its_old_id"]},
    ),
    "48": Trap(
        "Somebody waits for the id of an earlier run, which nobody knows any more.",
        "The error names the id, the nearest known agents and the command that lists them.",
        {
            "e2e/test_agentkit_story.py": [
                "test_who_polls_a_stale_id_is_told_the_id_the_nearest_agents_and_what_lists_them"
            ],
            "core/test_refusals.py": [
                "test_a_stale_id_is_answered_with_the_nearest_agents_and_how_to_list_them"
            ],
        },
    ),
}
