//! Load on a cluster while something else happens to it.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::cluster::{PATIENCE_S, command};
use crate::{Deadline, run};

/// Submits job after job of so many photos until told to stop; each must be acknowledged within `timeout`. Adds their
/// ids to `acknowledged`.
pub fn submit_all(
    dir: &Path,
    addresses: &str,
    stop: &AtomicBool,
    acknowledged: &Mutex<Vec<u64>>,
    photos: usize,
    timeout: &str,
) {
    while !stop.load(Ordering::Relaxed) {
        let mut submit = command("rebound", dir);
        submit.env("REBOUND_SERVERS", addresses);
        submit.args([
            "submit",
            "--recogniser",
            "noop",
            "-o",
            "json",
            "--timeout",
            timeout,
        ]);
        submit.args((0..photos).map(|photo| format!("file:///visit/{photo}.jpg")));
        let done = run(&mut submit, Deadline::seconds(2 * PATIENCE_S));
        assert_eq!(done.code, Some(0), "a job was not acknowledged: {done:?}");
        let answer: Value = serde_json::from_str(&done.stdout).expect("JSON was asked for");
        let job = answer[0]["job"].as_u64().expect("a job has an id");
        acknowledged.lock().expect("nobody panics with it").push(job);
    }
}

/// Tells a loop to stop when it goes, whatever goes wrong.
pub struct StopOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
