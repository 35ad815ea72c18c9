//! Runs the scripts in `tests/scripts`: plain text with commands, and under `---` what they must print. They are
//! read aloud from the top; their language is [`script::Command`].
//!
//! After an intended change: `UPDATE_GOLDENFILES=1 cargo test -p rebound-core --release --test scripts`, then read
//! the difference line by line before it is committed.

use std::path::PathBuf;

mod script;
#[allow(dead_code)] // Each test crate uses a part of the stage.
mod stage;

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/scripts"))
}

macro_rules! scripts {
    ($($folder:ident: $($name:ident)*;)*) => {
        $(mod $folder {
            $(#[test]
            fn $name() {
                let path = super::folder().join(concat!(stringify!($folder), "/", stringify!($name)));
                goldenscript::run(&mut crate::script::player::Player::default(), path).unwrap();
            })*
        })*

        const ALL: &[&str] = &[$($(concat!(stringify!($folder), "/", stringify!($name)),)*)*];
    };
}

scripts! {
    jobs:
        submit_assign_complete
        reported_together
        idempotency
        limits
        open_job_closes_by_itself
        cancel
        priority_and_deadline
        environments
        expiry
        keys_limit
        late_photos;
    retries:
        by_cause_with_backoff
        attempts_exhausted
        final_causes
        lost_machines_blame_nobody
        suspects
        lost_with_a_suspect_beside;
    workers:
        drain_and_leave
        joins_again
        placement
        late_and_repeated_results
        credit_by_pace
        brake
        late_heartbeat;
    regive:
        from_a_slow_worker
        races
        after_a_leader_change
        suspects_stay;
    leases:
        leader_change_in_the_middle
        two_leader_changes
        all_paused
        silent_for_a_lease
        never_speaks_to_the_new_leader
        silence_at_each_point
        leader_change_at_each_point;
    asks:
        not_leader
        unknown
        timeout
        watch
        outlook
        overload
        stale;
    operator:
        settings
        quotas
        fair_share;
    log:
        persist_before_tell
        lost_messages
        restart
        slow_disk
        compaction_and_snapshot
        snapshot_to_a_slow_disk;
    members:
        add_and_promote
        replace_a_dead_one
        remove
        remove_the_leader
        one_at_a_time
        added_twice
        crash_while_joint
        leaving_server_leads
        lost_disk
        transfer
        snapshot_to_a_new_one
        refused
        removed_with_a_slow_disk
        full;
}

/// A script that nobody runs proves nothing.
#[test]
fn every_script_is_run() {
    let mut found = Vec::new();
    for part in std::fs::read_dir(folder()).unwrap() {
        let part = part.unwrap().path();
        for script in std::fs::read_dir(&part).unwrap() {
            let script = script.unwrap().path();
            let name = script
                .strip_prefix(folder())
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            found.push(name);
        }
    }
    found.sort();
    let mut listed = ALL.to_vec();
    listed.sort_unstable();
    assert_eq!(found, listed);
}
