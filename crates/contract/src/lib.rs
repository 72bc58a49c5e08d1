//! One black-box suite that every server must pass: through the real binary, real sockets and real signals.
//!
//! A server's `tests/contract.rs` is one line:
//!
//! ```ignore
//! contract::tests!(env!("CARGO_BIN_EXE_server-threads"), &[]);
//! ```
//!
//! The rows can be asked of any server: see [`conformance`].
//!
//! "Row" in these modules is a row of `HTTP-CASES.md`, the table of HTTP cases; section numbers are of RFC 9112 unless
//! another RFC is named. Of this project's code the suite uses the decoder of answers, which the load generator has, too, and in one
//! case that of requests.

pub mod cases;
pub mod client;
pub mod postgres;
pub mod server;
pub mod trial;

pub use client::{Client, Response};
pub use server::Server;

/// A server to test.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The path of its binary.
    pub program: &'static str,
    /// The flags that select what is tested, before those of each case.
    pub flags: &'static [&'static str],
    /// Those of the cases with a real database.
    pub database_flags: &'static [&'static str],
}

/// Makes a `#[test]` of every case, against the given binary and flags.
#[macro_export]
macro_rules! tests {
    ($program:expr, $flags:expr) => {
        const TARGET: $crate::Target = $crate::Target { program: $program, flags: $flags, database_flags: &[] };

        $crate::tests!(@routes row head_is_get_without_body echo health cpu options not_found not_allowed
            unknown_method wait_is_chosen_by_client a_query_costs_cpu_time chaos_is_forbidden panic_hurts_nobody_else answers_are_dated);
        $crate::tests!(@connections keep_alive close http_1_0 pipelining every_split byte_by_byte half_close
            end_of_input reset_during_query expect_continue empty_lines_before_request absolute_form many_at_once
            forbidden_trailers status_lines upgrade_is_declined escaped_authority);
        $crate::tests!(@malformed heads heads_of_head lists framing chunks trailers_too_long long_targets noise refused_after_good_requests lingering_close);
        $crate::tests!(@limits head_too_long too_many_fields body_too_long body_just_fits head_too_slow body_too_slow
            idle_for_too_long client_that_never_reads extensions_too_long busy_clients_starve_nobody full_is_refused full_waits refused_clients_lose_nothing
            descriptors_run_out);
        $crate::tests!(@drain a_half_sent_body_is_awaited a_large_answer_is_whole a_full_servers_backlog_is_not_lost
            a_busy_servers_backlog_is_not_lost a_backlog_without_descriptors_is_not_lost who_comes_too_late_is_told_so two_signals_at_once
            who_does_not_close_is_not_awaited_for_ever an_answer_that_was_given_is_whole
            who_was_told_to_continue_is_answered who_left_does_not_hold_it_up);
        $crate::tests!(@abuse a_log_that_nobody_reads an_output_that_nobody_reads silent_clients_of_the_admin_port chunks_of_one_byte
            an_idle_connection_is_small_again few_descriptors the_refused_do_not_disturb the_refused_are_told_so_however_many a_log_in_a_file a_stray_empty_line_is_idleness);
        $crate::tests!(@mutations all_find_the_same);
        $crate::tests!(@lifecycle in_flight_is_answered sigint_drains idle_connections_are_closed a_client_that_never_pauses_is_drained
            half_a_request_does_not_hold_up_the_drain drain_has_a_timeout second_signal_forces port_in_use bad_flags
            help flags_are_environment_variables log_lines log_without_reader admin admin_answers_when_full first_process_of_a_container leaves_no_orphan
            flags_have_units addresses chaos_is_asked_for);
        $crate::tests!(@conformance the_probe_finds_nothing);
        $crate::tests!(@metrics answers_are_counted refusals_are_counted durations_are_of_whole_requests
            readiness memory_is_told held_memory_is_there a_leak_stays children_and_threads_are_counted);
        $crate::tests!(@metrics #[ignore = "needs promtool"] promtool_has_no_complaint);
    };
    (@$module:ident #[$ignore:meta] $case:ident) => {
        #[test]
        #[$ignore]
        fn $case() {
            $crate::cases::$module::$case(&TARGET);
        }
    };
    (@$module:ident $($case:ident)*) => {
        mod $module {
            $(
                #[test]
                fn $case() {
                    $crate::cases::$module::$case(&super::TARGET);
                }
            )*
        }
    };
}

/// Makes a `#[test]` of every case of a real database, against the given binary and flags. They need PostgreSQL, PgBouncer and
/// promtool, and run with `--ignored`.
#[macro_export]
macro_rules! database_tests {
    ($program:expr, $flags:expr) => {
        const TARGET: $crate::Target = $crate::Target { program: $program, flags: $flags, database_flags: &[] };

        $crate::database_tests!(the_bytes_are_those_of_the_simulated_one answers_are_the_askers_own behind_pgbouncer
            a_pool_of_one_serves_one_after_the_other who_waits_too_long_for_a_connection_is_told_so
            killed_and_started_again restarted_under_load frozen_and_thawed the_cable_is_cut_and_mended the_database_has_no_room
            a_query_takes_too_long a_connection_is_held_after_the_answer what_is_in_flight_is_answered_at_the_end
            what_is_wrong_shows_at_the_start);

        // The feature is that of the server's crate, where this is expanded.
        #[cfg(feature = "tls")]
        $crate::database_tests!(the_connection_is_encrypted);
        #[cfg(not(feature = "tls"))]
        $crate::database_tests!(a_build_without_tls_refuses_it);
    };
    // Of a server that has several queries on the way at once on a connection: without the cases of a connection of one's own.
    ($program:expr, $flags:expr, $database_flags:expr) => {
        const TARGET: $crate::Target =
            $crate::Target { program: $program, flags: $flags, database_flags: $database_flags };

        $crate::database_tests!(the_bytes_are_those_of_the_simulated_one answers_are_the_askers_own behind_pgbouncer
            killed_and_started_again restarted_under_load frozen_and_thawed the_cable_is_cut_and_mended
            a_query_takes_too_long queries_share_a_connection who_leaves_takes_no_answer_along a_failure_is_everybodys
            what_is_on_its_way_is_answered_at_the_end no_query_fails_with_a_connection_that_could_not_be_had
            what_is_wrong_shows_at_the_start);

        #[cfg(feature = "tls")]
        $crate::database_tests!(the_connection_is_encrypted);
    };
    ($($case:ident)*) => {
        $(
            #[test]
            #[ignore = "needs PostgreSQL"]
            fn $case() {
                $crate::cases::database::$case(&TARGET);
            }
        )*
    };
}
