//! As the command of an examination: asks for what may not be had, and for its allowed twin. An image need not have any program
//! for it.

use std::fs::{File, Permissions, set_permissions};
use std::io::{Error, Result};
use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;
use std::thread;

use crate::REFUSED;

/// A forbidden call was not refused.
const FILTER_IS_OPEN: u8 = 10;
/// More processes were had than the limit.
const LIMIT_IS_OPEN: u8 = 11;
/// How many threads are wanted: more than an examination's limit.
const THREADS: usize = 64;
/// Of each of them.
const STACK_BYTES: usize = 64 * 1024;

/// Tries both; the exit code says what was wrong.
pub(crate) fn main() -> ExitCode {
    match filter_holds() {
        Ok(true) if limit_holds() => ExitCode::SUCCESS,
        Ok(true) => ExitCode::from(LIMIT_IS_OPEN),
        Ok(false) => ExitCode::from(FILTER_IS_OPEN),
        Err(_) => ExitCode::from(REFUSED),
    }
}

/// A file of its own can be given any rights but that to run as somebody else.
fn filter_holds() -> Result<bool> {
    let path = "examined";
    File::create(path)?;
    set_permissions(path, Permissions::from_mode(0o700))?;
    let refused = set_permissions(path, Permissions::from_mode(0o4700));
    Ok(refused.is_err_and(|err| err.raw_os_error() == Some(libc::EPERM)))
}

/// Threads can be had, and not so many.
fn limit_holds() -> bool {
    let start = || thread::Builder::new().stack_size(STACK_BYTES).spawn(thread::park);
    let had: Vec<Result<_>> = (0..THREADS).map(|_| start()).collect();
    let is_limit = |err: &Error| err.raw_os_error() == Some(libc::EAGAIN);
    had.first().is_some_and(Result::is_ok) && had.iter().any(|one| one.as_ref().is_err_and(is_limit))
}
