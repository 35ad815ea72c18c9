//! Where photos are, as a stream said it once for a whole run.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use rebound_proto::v1;

/// The photos of consecutive tasks.
#[derive(Debug)]
pub(super) struct Photos {
    /// Task of the first.
    first: u64,
    /// The URIs, one behind the other.
    text: String,
    /// Where each ends in `text`.
    ends: Vec<u32>,
    /// For log lines.
    pub trace_id: Bytes,
}

impl Photos {
    /// Checks what was said of `count` tasks from `first` on.
    pub fn read(first: u64, count: u32, said: v1::Photos) -> Result<Photos, &'static str> {
        if said.uri_bytes.len() != count as usize {
            return Err("has another number of photos than tasks");
        }
        let mut ends = said.uri_bytes;
        let mut end = 0u32;
        for length in &mut ends {
            end = end
                .checked_add(*length)
                .ok_or("has photos of impossible length")?;
            *length = end;
            if !said.uris.is_char_boundary(end as usize) {
                return Err("has URIs that are cut off");
            }
        }
        if end as usize != said.uris.len() {
            return Err("has more text than its URIs");
        }
        Ok(Photos {
            first,
            text: said.uris,
            ends,
            trace_id: said.trace_id,
        })
    }
}

/// Where a photo is. Cheap to copy: many share one text.
#[derive(Clone)]
pub struct Uri {
    photos: Arc<Photos>,
    from: u32,
    to: u32,
}

impl Uri {
    /// The URI of a task that is among the photos.
    pub(super) fn of(photos: &Arc<Photos>, task: u64) -> Uri {
        let at = (task - photos.first) as usize;
        let from = at.checked_sub(1).map_or(0, |before| photos.ends[before]);
        Uri {
            photos: photos.clone(),
            from,
            to: photos.ends[at],
        }
    }
}

impl Deref for Uri {
    type Target = str;
    fn deref(&self) -> &str {
        &self.photos.text[self.from as usize..self.to as usize]
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &**self)
    }
}

impl PartialEq for Uri {
    fn eq(&self, other: &Uri) -> bool {
        **self == **other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(uris: &str, uri_bytes: &[u32]) -> v1::Photos {
        v1::Photos {
            uris: uris.into(),
            uri_bytes: uri_bytes.to_vec(),
            trace_id: Bytes::new(),
        }
    }

    #[test]
    fn each_task_has_its_part_of_the_text() {
        let photos = Arc::new(Photos::read(7, 3, said("abécde", &[2, 2, 3])).unwrap());
        let uris: Vec<String> = (7..10).map(|task| Uri::of(&photos, task).to_string()).collect();
        assert_eq!(uris, ["ab", "é", "cde"]);
    }

    #[test]
    fn lengths_that_do_not_fit_the_text_are_refused() {
        for (uris, lengths) in [
            ("abc", &[1, 1][..]),
            ("abc", &[1, 3]),
            ("aé", &[2, 1]),
            ("abc", &[3]),
            ("abc", &[u32::MAX, 4]),
        ] {
            assert!(
                Photos::read(0, 2, said(uris, lengths)).is_err(),
                "{uris} {lengths:?}"
            );
        }
    }
}
