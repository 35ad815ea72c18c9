//! Who asks: until there are credentials, the OS user of this process.

use std::ffi::CStr;

use tonic::metadata::{Ascii, MetadataValue};

/// Room for one line of the user database.
const PASSWD_BYTES: usize = 16 * 1024;

/// The user's name, or `uid:N` where the user database does not know the user.
fn user_name() -> String {
    // SAFETY: getuid has no preconditions and cannot fail.
    let uid = unsafe { libc::getuid() };
    let mut buffer = vec![0; PASSWD_BYTES];
    // SAFETY: passwd is a plain C structure of integers and pointers, for which zeroes are a valid value.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    let mut found: *mut libc::passwd = std::ptr::null_mut();
    // SAFETY: all pointers are to live values of the right type, and the length is the buffer's own.
    let error = unsafe { libc::getpwuid_r(uid, &mut entry, buffer.as_mut_ptr(), buffer.len(), &mut found) };
    if error == 0 && !found.is_null() && !entry.pw_name.is_null() {
        // SAFETY: on success pw_name points to a string with an end, inside `buffer`, which is still there.
        let name = unsafe { CStr::from_ptr(entry.pw_name) };
        if let Ok(name) = name.to_str()
            && !name.is_empty()
        {
            return name.to_string();
        }
    }
    format!("uid:{uid}")
}

/// The user as gRPC metadata, which takes visible ASCII only; other characters become `?`.
pub(super) fn actor() -> MetadataValue<Ascii> {
    let name: String = user_name()
        .chars()
        .map(|c| if c.is_ascii_graphic() { c } else { '?' })
        .collect();
    MetadataValue::try_from(name).unwrap_or_else(|_| MetadataValue::from_static("?"))
}
