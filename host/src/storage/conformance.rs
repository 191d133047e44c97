//! Conformance of an engine: one function for each promise of the traits, the same for every engine.
//!
//! `run_all!` makes a test of each, so that a failure names the promise. What the traits leave open is left open here;
//! each such place says so.

mod accept;
mod apps;
mod blobs;
mod claims;
mod fixtures;
mod key_value;
mod lists;
mod maps;
mod outcomes;
mod random;
mod retention;
mod settles;
mod starts;
mod timetable;

pub(crate) use self::accept::*;
pub(crate) use self::apps::*;
pub(crate) use self::blobs::*;
pub(crate) use self::claims::*;
pub(crate) use self::key_value::*;
pub(crate) use self::lists::*;
pub(crate) use self::maps::*;
pub(crate) use self::outcomes::*;
pub(crate) use self::random::{agree, steps};
pub(crate) use self::retention::*;
pub(crate) use self::settles::*;
pub(crate) use self::starts::*;
pub(crate) use self::timetable::*;
use super::Storage;

/// Engine under test. Each test makes one, and calls `fresh` once.
pub(crate) trait Engine {
    /// Makes an empty engine; returns the first start of its host, which has not joined.
    async fn fresh(&self) -> Storage;

    /// Ends a start as a crash does, and returns the next one on the same data, which has not joined.
    async fn restart(&self, earlier: Storage) -> Storage;

    /// Returns the next start on the same data, which has not joined, while the earlier one lives. Once the next one
    /// has joined, writes of the earlier one are refused.
    async fn overtake(&self, earlier: &Storage) -> Storage;
}

/// Makes a test of each promise for the engine that an expression makes.
macro_rules! run_all {
    ($engine:expr) => {
        $crate::storage::conformance::run_all! { $engine =>
            a_new_call_is_kept_with_its_input
            a_call_is_accepted_leased_by_the_host_that_begins_it
            a_request_with_a_key_that_was_used_finds_what_the_first_one_made
            a_key_belongs_to_one_function
            requests_of_one_batch_see_each_other
            one_request_over_the_limit_costs_the_others_nothing
            calls_and_maps_are_counted_apart_and_by_app
            a_call_that_has_ended_makes_room_for_another
            a_child_of_a_cancelled_call_is_refused
            a_child_of_a_cancelled_map_is_refused
            a_parent_without_a_record_is_not_cancelled
            a_repeated_accept_changes_nothing
            a_claim_leases_the_next_attempt
            a_claim_of_a_call_that_waits_comes_later
            a_claim_of_a_call_whose_wait_is_over_leases_it
            a_repeated_claim_returns_the_lease_unchanged
            a_claim_of_a_call_that_has_ended_or_is_unknown_says_so
            an_attempt_under_way_at_a_restart_counts_as_lost
            a_call_that_waits_at_a_restart_lost_nothing
            a_settle_under_the_lease_ends_the_call
            a_settle_to_a_retry_gives_the_lease_back
            a_settle_of_an_earlier_attempt_is_fenced
            a_settle_of_another_holder_is_fenced
            a_settle_under_the_lease_of_an_earlier_start_is_fenced
            the_first_end_of_a_call_holds
            a_call_that_nobody_runs_is_ended_without_a_lease
            a_repeated_end_finds_the_call_ended_as_it_said
            a_repeated_retry_is_kept_once
            another_settle_of_an_attempt_that_gave_its_lease_back_is_fenced
            a_repeated_retry_does_not_undo_a_later_attempt
            large_payloads_of_a_call_are_read_back
            inputs_are_kept_in_order_and_in_chunks_by_length
            chunks_are_split_by_bytes
            inputs_behind_a_gap_are_not_kept
            a_closed_or_cancelled_map_takes_no_inputs
            pending_chunks_are_paged
            chunks_are_claimed_in_order_and_up_to_the_limit
            a_chunk_leased_at_a_restart_was_lost_once
            outcomes_are_counted_and_add_up
            a_repeated_settle_of_a_map_counts_once
            a_repeated_settle_that_made_a_chunk_whole_counts_once
            a_settle_with_a_chunk_of_another_writes_nothing
            a_closed_map_ends_with_its_last_outcome
            a_map_that_is_closed_after_its_last_outcome_ends_with_the_next_settle
            an_empty_map_ends_with_the_settle_after_its_close
            a_cancelled_map_ends_once_it_is_drained
            a_mark_is_idempotent
            a_mark_of_a_map_that_has_ended_changes_nothing
            a_mark_of_an_unknown_map_finds_none
            a_whole_chunk_is_one_segment_with_the_outcomes_of_all
            a_chunk_is_read_back_with_its_retries
            the_first_outcome_of_an_input_holds
            outcomes_are_read_from_an_index_on
            outcomes_too_large_for_one_answer_come_in_several
            inputs_and_outputs_of_a_map_are_read_back
            failures_are_taken_back_and_run_again
            a_cancelled_map_runs_again
            a_chunk_without_a_failure_stays_as_it_is
            what_is_open_is_held_and_counted
            what_is_open_is_held_after_a_restart
            children_are_listed_behind_a_cursor
            a_list_is_newest_first_and_goes_on_where_it_stopped
            a_list_is_filtered_by_app_and_function
            what_has_expired_is_gone
            what_ended_later_or_is_open_does_not_expire
            an_idempotency_key_is_free_once_its_call_has_expired
            a_map_that_runs_again_does_not_expire
            a_map_that_has_expired_does_not_run_again
            a_sweep_finishes_what_was_begun
            apps_with_ended_work_are_found
            the_clock_that_a_host_keeps_is_where_the_next_goes_on
            a_second_join_returns_the_same
            each_start_has_a_higher_epoch
            writes_of_an_earlier_start_are_fenced
            a_fenced_start_has_changed_nothing
            the_clock_does_not_go_back
            a_step_of_a_schedule_is_kept
            a_step_that_is_written_twice_is_there_once
            a_run_ends_with_its_call
            an_interrupted_run_ends_with_its_call_in_one_step
            a_history_is_bounded
            an_app_is_pushed_in_order
            a_push_behind_another_is_a_conflict
            displaced_records_go
            a_repeated_push_is_kept
            a_value_is_set_read_and_deleted
            apps_and_buckets_do_not_see_each_other
            keys_come_in_byte_order_and_behind_a_cursor
            buckets_with_a_key_are_listed
            a_batch_is_read_and_written_together
            a_value_that_has_expired_is_absent
            a_value_is_there_until_its_time
            a_change_of_a_value_keeps_its_time_and_a_set_does_not
            a_swap_needs_the_expected_value
            of_many_swaps_one_wins
            sums_are_exact_and_bounded
            increments_at_once_all_count
            a_blob_is_kept_under_its_digest
            a_blob_that_is_missing_is_gone
            a_sweep_of_blobs_keeps_those_that_are_named
        }
    };
    ($engine:expr => $($promise:ident)*) => {
        $(
            #[tokio::test]
            async fn $promise() {
                $crate::storage::conformance::$promise(&$engine).await;
            }
        )*
    };
}
pub(crate) use run_all;
