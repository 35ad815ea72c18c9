//! User content is checked here before it is proposed, so that `apply` need not.

use crate::command::{Allot, Deadline, Join, Open, Report};
use crate::env_rule::is_region;
use crate::limits::*;
use crate::photos::Photos;
use crate::reply::Rejected;
use crate::types::{Caller, Time};

/// Checks a whole open request at the leader's clock. The deadline of one that is repeated may have passed meanwhile.
pub fn open(open: &Open, now: Time, repeated: bool) -> Result<(), Rejected> {
    name("spec.name", &open.name, true)?;
    name("spec.recogniser", &open.spec.recogniser, false)?;
    if open.key.len() > KEY_BYTES_MAX {
        return Err(too_many("idempotency_key", KEY_BYTES_MAX, "bytes"));
    }
    if u32::from(open.priority) > PRIORITY_MAX {
        return Err(too_many(
            "spec.priority",
            PRIORITY_MAX as usize,
            "(0 is the lowest)",
        ));
    }
    if open.spec.photo_timeout > PHOTO_TIMEOUT_MAX {
        return Err(invalid(
            "spec.photo_timeout",
            format!("at most {} s", PHOTO_TIMEOUT_MAX / 1_000_000),
        ));
    }
    if open.spec.max_attempts > ATTEMPTS_MAX {
        return Err(too_many("spec.max_attempts", ATTEMPTS_MAX as usize, "attempts"));
    }
    deadline(open.deadline, now, repeated)?;
    if !open.spec.region.is_empty() && !is_region(&open.spec.region) {
        return Err(invalid(
            "spec.region",
            "is no region; write one as eu-central-1, or leave it out",
        ));
    }
    if open.spec.drop_late && open.deadline == Deadline::None {
        return Err(invalid(
            "spec.drop_late",
            "nothing is ever late without a deadline; name one, or leave this out",
        ));
    }
    labels(&open.labels)?;
    photos(&open.photos)
}

fn deadline(deadline: Deadline, now: Time, may_have_passed: bool) -> Result<(), Rejected> {
    let ahead = match deadline {
        Deadline::None => return Ok(()),
        Deadline::In(us) => us,
        Deadline::At(at) if at <= now && may_have_passed => return Ok(()),
        Deadline::At(at) if at <= now => {
            return Err(invalid(
                "spec.deadline",
                "the instant has passed; name a later one or leave it out",
            ));
        }
        Deadline::At(at) => at.0 - now.0,
    };
    if ahead == 0 {
        return Err(invalid(
            "spec.deadline",
            "must be longer than 0; leave it out for none",
        ));
    }
    if ahead > DEADLINE_MAX {
        return Err(invalid("spec.deadline", "is more than 366 days away"));
    }
    Ok(())
}

fn labels(labels: &[(String, String)]) -> Result<(), Rejected> {
    if labels.len() > LABELS_MAX {
        return Err(too_many("spec.labels", LABELS_MAX, "labels"));
    }
    for (key, value) in labels {
        name("spec.labels", key, false)?;
        name("spec.labels", value, true)?;
    }
    match labels.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
        true => Err(invalid("spec.labels", "each key may be there once")),
        false => Ok(()),
    }
}

/// Checks the photos of one append.
pub fn photos(photos: &Photos) -> Result<(), Rejected> {
    sound(photos)?;
    if photos.len() > APPEND_PHOTOS_MAX as u64 {
        return Err(too_many(
            "photos",
            APPEND_PHOTOS_MAX,
            "photos in one append; send the rest in further appends",
        ));
    }
    for (at, uri) in photos.iter().enumerate() {
        if uri.is_empty() {
            return Err(invalid("photos.uri", format!("photo {at} has none")));
        }
        if uri.len() > URI_BYTES_MAX {
            return Err(invalid(
                "photos.uri",
                format!("that of photo {at} is longer than {URI_BYTES_MAX} bytes"),
            ));
        }
        if uri.chars().any(char::is_control) {
            return Err(invalid(
                "photos.uri",
                format!("that of photo {at} has control characters"),
            ));
        }
    }
    match photos.bytes() > APPEND_BYTES_MAX {
        true => Err(too_many(
            "photos",
            APPEND_BYTES_MAX,
            "bytes of URIs in one append; send further appends",
        )),
        false => Ok(()),
    }
}

/// Refuses photos whose bytes are none of ours. Once more when they are applied: what is kept of them is read for ever.
pub(crate) fn sound(photos: &Photos) -> Result<(), Rejected> {
    match photos.is_sound() {
        true => Ok(()),
        false => Err(invalid("photos", "are not packed as they should be")),
    }
}

/// Checks what an environment shall be allotted.
pub fn allot(change: &Allot) -> Result<(), Rejected> {
    name("name", &change.name, false)?;
    match change.weight {
        Some(weight) if !(1..=WEIGHT_MAX).contains(&weight) => {
            Err(invalid("weight", format!("must be 1 to {WEIGHT_MAX}")))
        }
        _ => Ok(()),
    }
}

/// Checks who asks.
pub fn caller(by: &Caller) -> Result<(), Rejected> {
    name("environment", &by.environment, false)?;
    name("actor", &by.actor, true)
}

/// Checks a worker that wants to join.
pub fn join(join: &Join) -> Result<(), Rejected> {
    name("name", &join.name, false)?;
    name("version", &join.version, true)?;
    name("pool.region", &join.pool.region, true)?;
    name("pool.zone_id", &join.pool.zone_id, true)?;
    name("pool.instance_type", &join.pool.instance_type, true)?;
    if join.slots == 0 || join.slots > SLOTS_MAX {
        return Err(invalid("slots", format!("must be 1 to {SLOTS_MAX}")));
    }
    if join.recognisers.len() > RECOGNISERS_PER_WORKER_MAX {
        return Err(too_many(
            "recognisers",
            RECOGNISERS_PER_WORKER_MAX,
            "recognisers on a worker",
        ));
    }
    for recogniser in &join.recognisers {
        name("recognisers.name", &recogniser.name, false)?;
        if !matches!(recogniser.digest.len(), 0 | 32) {
            return Err(invalid(
                "recognisers.digest",
                "must be sha256 (32 bytes) or empty",
            ));
        }
    }
    Ok(())
}

/// Checks reported results: the first that is too large is named.
pub fn report(report: &Report) -> Result<(), Rejected> {
    let limit = if report.cause.is_none() {
        RESULT_BYTES_MAX
    } else {
        MESSAGE_BYTES_MAX
    };
    let too_large = report
        .rows
        .iter()
        .zip(report.first..)
        .find(|(row, _)| row.output.len() > limit);
    match too_large {
        Some((row, task)) => Err(Rejected::ResultTooLarge {
            task,
            bytes: row.output.len(),
            limit,
        }),
        None => Ok(()),
    }
}

fn name(field: &'static str, value: &str, may_be_empty: bool) -> Result<(), Rejected> {
    if value.is_empty() && !may_be_empty {
        return Err(invalid(field, "must not be empty"));
    }
    // A recogniser's name may carry its digest.
    let limit = if field == "spec.recogniser" {
        NAME_BYTES_MAX * 2 + 1
    } else {
        NAME_BYTES_MAX
    };
    if value.len() > limit {
        return Err(too_many(field, limit, "bytes"));
    }
    match value.chars().any(char::is_control) {
        true => Err(invalid(field, "must not have control characters")),
        false => Ok(()),
    }
}

fn invalid(field: &'static str, why: impl Into<String>) -> Rejected {
    Rejected::Invalid {
        field,
        why: why.into(),
    }
}

fn too_many(field: &'static str, limit: usize, what: &'static str) -> Rejected {
    Rejected::TooMany {
        field,
        limit: limit as u64,
        what,
    }
}
