//! What the agent and a recogniser's process say to each other on the process' stdin and stdout.
//!
//! A frame is its body's length in bytes (`u32`, little-endian, at most [`MAX_FRAME_BYTES`]) and a body in
//! JSON. The process speaks first: [`FromChild::Ready`] once its model is loaded, or [`FromChild::Fatal`] and
//! it ends with exit status 1. Then each [`Request`] is answered by one [`Reply`] with the same id, in order.
//!
//! [`encode`], [`body_len`] and [`decode`] do no I/O, so that an async reader can use them; [`read`] and
//! [`write`] are for the blocking side.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Largest body of a frame, in bytes: a result of [`MAX_RESULT_BYTES`] or a path of 4 KiB, with room for the
/// rest.
pub const MAX_FRAME_BYTES: usize = 64 * 1024;

/// Bytes of the length before each body.
pub const HEADER_BYTES: usize = 4;

/// Largest result of one photo as compact JSON, in bytes.
pub const MAX_RESULT_BYTES: usize = 16 * 1024;

/// Longest message of a [`Failure`], in bytes; the rest is cut off.
pub const MAX_MESSAGE_BYTES: usize = 2 * 1024;

/// One photo to recognise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Chosen by the asker, returned in the reply.
    pub id: u64,
    /// The photo's file on this machine.
    pub path: PathBuf,
    /// Largest file taken, in bytes.
    pub max_photo_bytes: u64,
    /// Most pixels (width × height) taken.
    pub max_pixels: u64,
    /// How long a recogniser of kind `command` may run, in milliseconds; 0 takes the manifest's limit. The
    /// asker itself watches over the other kinds, and ends the process when it does not answer.
    #[serde(default)]
    pub timeout_ms: u64,
}

/// What a recogniser's process says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FromChild {
    /// The recogniser is loaded and takes requests.
    Ready {
        /// The recogniser's name, from its manifest.
        name: String,
        /// How long it took to check and load its files, in milliseconds.
        load_ms: u64,
    },
    /// The recogniser cannot work at all; the process ends.
    Fatal {
        /// What is wrong and what to do about it.
        message: String,
    },
    /// The answer to one request.
    Reply(Reply),
}

/// The answer to one [`Request`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The request's id.
    pub id: u64,
    /// `"ok": value` or `"error": {cause, message}`.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// How a photo ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The result, at most [`MAX_RESULT_BYTES`] as compact JSON.
    Ok(serde_json::Value),
    /// There is no result.
    Error(Failure),
}

/// Why a photo has no result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Error)]
#[serde(deny_unknown_fields)]
#[error("{message}")]
pub struct Failure {
    /// Which kind of trouble; the retry rules go by it.
    pub cause: FailureCause,
    /// What is wrong, at most [`MAX_MESSAGE_BYTES`].
    pub message: String,
}

/// Which kind of trouble a [`Failure`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCause {
    /// The photo itself: not an image, cut short, over a limit. Trying again gives the same.
    Input,
    /// The photo is gone or cannot be read.
    Fetch,
    /// The recogniser failed.
    Recogniser,
    /// The program of a `command` recogniser did not end in time.
    Timeout,
    /// The result is larger than [`MAX_RESULT_BYTES`].
    ResultTooLarge,
}

impl Failure {
    /// A failure with a message cut to [`MAX_MESSAGE_BYTES`].
    pub fn new(cause: FailureCause, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MAX_MESSAGE_BYTES {
            let mut end = MAX_MESSAGE_BYTES - '…'.len_utf8();
            while !message.is_char_boundary(end) {
                end -= 1;
            }
            message.truncate(end);
            message.push('…');
        }
        Self { cause, message }
    }

    /// The photo itself is at fault.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(FailureCause::Input, message)
    }

    /// The photo cannot be had.
    pub fn fetch(message: impl Into<String>) -> Self {
        Self::new(FailureCause::Fetch, message)
    }

    /// The recogniser failed.
    pub fn recogniser(message: impl Into<String>) -> Self {
        Self::new(FailureCause::Recogniser, message)
    }
}

/// Why a frame could not be read or written.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The other side is gone, or the pipe broke.
    #[error("the pipe to the other process: {0}")]
    Io(#[from] io::Error),
    /// The length in the header, or of the message to be written, is over the bound.
    #[error("a frame of {0} bytes; at most {MAX_FRAME_BYTES} are allowed")]
    TooLarge(usize),
    /// The body is not the JSON that was expected.
    #[error("a frame's body is not what was expected: {0}")]
    Body(#[from] serde_json::Error),
}

/// The message as a frame, header included.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; HEADER_BYTES];
    serde_json::to_writer(&mut frame, message)?;
    let len = frame.len() - HEADER_BYTES;
    let header = u32::try_from(len).ok().filter(|_| len <= MAX_FRAME_BYTES);
    let header = header.ok_or(FrameError::TooLarge(len))?;
    frame[..HEADER_BYTES].copy_from_slice(&header.to_le_bytes());
    Ok(frame)
}

/// How many bytes follow this header.
pub fn body_len(header: [u8; HEADER_BYTES]) -> Result<usize, FrameError> {
    let len = u32::from_le_bytes(header) as usize;
    if len > MAX_FRAME_BYTES {
        return Err(FrameError::TooLarge(len));
    }
    Ok(len)
}

/// The message in a frame's body.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    Ok(serde_json::from_slice(body)?)
}

/// Reads one frame. `None` when the other side has closed between two frames.
pub fn read<T: DeserializeOwned>(from: &mut impl Read) -> Result<Option<T>, FrameError> {
    let mut header = [0; HEADER_BYTES];
    loop {
        match from.read(&mut header[..1]) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        }
    }
    from.read_exact(&mut header[1..])?;
    let mut body = vec![0; body_len(header)?];
    from.read_exact(&mut body)?;
    decode(&body).map(Some)
}

/// Writes one frame and flushes it.
pub fn write<T: Serialize>(to: &mut impl Write, message: &T) -> Result<(), FrameError> {
    to.write_all(&encode(message)?)?;
    to.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request {
            id: 7,
            path: "/photos/a b.jpg".into(),
            max_photo_bytes: 1,
            max_pixels: 2,
            timeout_ms: 3,
        }
    }

    #[test]
    fn requests_and_replies_survive_the_pipe() {
        let reply = FromChild::Reply(Reply {
            id: 7,
            outcome: Outcome::Ok(serde_json::json!({"top": []})),
        });
        let failed = FromChild::Reply(Reply {
            id: 8,
            outcome: Outcome::Error(Failure::input("not an image")),
        });
        let mut pipe = Vec::new();
        write(&mut pipe, &request()).unwrap();
        write(&mut pipe, &reply).unwrap();
        write(&mut pipe, &failed).unwrap();
        let mut pipe = pipe.as_slice();
        assert_eq!(read::<Request>(&mut pipe).unwrap(), Some(request()));
        assert_eq!(read::<FromChild>(&mut pipe).unwrap(), Some(reply));
        assert_eq!(read::<FromChild>(&mut pipe).unwrap(), Some(failed));
        assert!(read::<FromChild>(&mut pipe).unwrap().is_none());
    }

    #[test]
    fn the_wire_form_is_the_documented_one() {
        let failed = Reply {
            id: 8,
            outcome: Outcome::Error(Failure::new(FailureCause::ResultTooLarge, "17 KiB")),
        };
        let body = encode(&FromChild::Reply(failed)).unwrap().split_off(HEADER_BYTES);
        let expected = r#"{"reply":{"id":8,"error":{"cause":"result_too_large","message":"17 KiB"}}}"#;
        assert_eq!(String::from_utf8(body).unwrap(), expected);
        let ready: FromChild = decode(br#"{"ready":{"name":"n","load_ms":5}}"#).unwrap();
        assert_eq!(
            ready,
            FromChild::Ready {
                name: "n".into(),
                load_ms: 5
            }
        );
    }

    #[test]
    fn a_frame_over_the_bound_is_refused_before_its_body_is_read() {
        let over = u32::try_from(MAX_FRAME_BYTES + 1).unwrap().to_le_bytes();
        assert!(matches!(
            read::<Request>(&mut over.as_slice()),
            Err(FrameError::TooLarge(_))
        ));
        assert!(body_len(u32::try_from(MAX_FRAME_BYTES).unwrap().to_le_bytes()).is_ok());
        let long = Request {
            path: "x".repeat(MAX_FRAME_BYTES).into(),
            ..request()
        };
        assert!(matches!(encode(&long), Err(FrameError::TooLarge(_))));
    }

    #[test]
    fn a_cut_or_foreign_frame_is_an_error() {
        let whole = encode(&request()).unwrap();
        for len in 1..whole.len() {
            assert!(
                matches!(read::<Request>(&mut &whole[..len]), Err(FrameError::Io(_))),
                "{len} bytes"
            );
        }
        assert!(matches!(
            decode::<Request>(b"{\"id\":1}"),
            Err(FrameError::Body(_))
        ));
        assert!(matches!(decode::<FromChild>(b"\xff"), Err(FrameError::Body(_))));
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let failure = Failure::recogniser("é".repeat(MAX_MESSAGE_BYTES));
        assert!(failure.message.len() <= MAX_MESSAGE_BYTES);
        assert!(failure.message.ends_with('…'));
    }
}
