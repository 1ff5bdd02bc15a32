//! A new process that costs the same however much memory the gateway has.
//!
//! `fork` copies the tables of all memory, and leaves every page to be copied by whoever writes to it next, which is the
//! gateway. Here the child has the parent's memory, as with `vfork`, on a stack of its own, and the thread that made it waits
//! until it has become another program or ended. So the child may do what [`Child`] says and nothing else.

#![allow(unsafe_code, reason = "clone, and the dispositions and masks of signals")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::{Mutex, PoisonError};

use rustix::process::{DumpableBehavior, Pid, Signal, WaitOptions, dumpable_behavior, set_dumpable_behavior};

use super::child::{Child, Failed};

/// Of the child, which calls no deeper than its steps do.
const STACK_BYTES: usize = 64 << 10;
/// What the child ends with where it could not become the program; nobody reads it.
const NOT_BEGUN: c_int = 127;

/// A process that was started and has not been waited for.
#[derive(Debug)]
pub(super) struct Process(Pid);

/// What the child is told, and where it leaves why it failed.
struct Orders<'a> {
    child: &'a Child,
    program: &'a CStr,
    /// Ended by a null pointer.
    arguments: &'a [*const c_char],
    failed: Option<Failed>,
}

/// Starts `program` with an empty environment, after all steps of `child`.
///
/// # Errors
/// The step that failed. Then there is no process.
pub(super) fn spawn(child: &Child, program: &CStr, arguments: &[CString]) -> Result<Process, Failed> {
    let cloning = |err| ("a new process", err);
    let arguments: Vec<_> = arguments.iter().map(|one| one.as_ptr()).chain([ptr::null()]).collect();
    let mut stack = vec![0_u128; STACK_BYTES / size_of::<u128>()];
    let mut orders = Orders { child, program, arguments: &arguments, failed: None };
    let process = unseen(|| masked(|| clone(&mut stack, &mut orders))).and_then(|started| started).map_err(cloning)?;
    let Some(failed) = orders.failed else { return Ok(process) };
    process.kill();
    process.wait().map_err(cloning)?;
    Err(failed)
}

/// Does something while nobody can look into this process's memory: a child that has it may be another user meanwhile.
fn unseen<T>(work: impl FnOnce() -> T) -> io::Result<T> {
    // One at a time: the first to be done would make it visible again under the second.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let was_seen = dumpable_behavior()? == DumpableBehavior::Dumpable;
    if was_seen {
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    }
    let done = work();
    if was_seen {
        set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    }
    Ok(done)
}

/// Waits until the child has become the program, or ended.
fn clone(stack: &mut [u128], orders: &mut Orders) -> io::Result<Process> {
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let top = stack.as_mut_ptr_range().end;
    // SAFETY: the child runs `begin` on a stack that nothing else uses and that is aligned; both the stack and the orders live
    // until this call returns, which is when the child uses them no more (`CLONE_VFORK`).
    let pid = unsafe { libc::clone(begin, top.cast(), flags, ptr::from_mut(orders).cast()) };
    match Pid::from_raw(pid) {
        Some(pid) if pid.as_raw_nonzero().get() > 0 => Ok(Process(pid)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The child.
extern "C" fn begin(orders: *mut c_void) -> c_int {
    // SAFETY: these are the orders that `clone` was given; the parent does not look at them before this process is done.
    let orders = unsafe { &mut *orders.cast::<Orders>() };
    orders.failed = orders.child.enter().err().or_else(|| {
        let environment = [ptr::null()];
        // SAFETY: the path ends in a NUL, both lists in a null pointer; what they point to lives until the parent goes on.
        unsafe { libc::execve(orders.program.as_ptr(), orders.arguments.as_ptr(), environment.as_ptr()) };
        Some(("starting bubblewrap", io::Error::last_os_error()))
    });
    // SAFETY: ends this process alone, without a word to what the parent has registered for its own end.
    unsafe { libc::_exit(NOT_BEGUN) }
}

impl Process {
    pub(super) fn pid(&self) -> Pid {
        self.0
    }

    pub(super) fn kill(&self) {
        // An error means that it has ended. Its number can't be another's before it has been waited for.
        let _ = rustix::process::kill_process(self.0, Signal::KILL);
    }

    /// Waits for its end.
    pub(super) fn wait(self) -> io::Result<()> {
        loop {
            match rustix::process::waitpid(Some(self.0), WaitOptions::empty()) {
                Err(rustix::io::Errno::INTR) => {}
                done => return done.map(drop).map_err(io::Error::from),
            }
        }
    }
}

/// Does something while this thread takes no signal: a handler must not run in a child that has this process's memory.
fn masked<T>(work: impl FnOnce() -> T) -> T {
    let (mut all, mut before) = (MaybeUninit::<libc::sigset_t>::uninit(), MaybeUninit::<libc::sigset_t>::uninit());
    // SAFETY: `sigfillset` and `pthread_sigmask` write the whole sets, the old one unless they fail, which they can't with
    // these arguments; `work` returns in this process alone.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
    }
    let done = work();
    // SAFETY: as above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    done
}

/// Blocks the signals that `fill` names, and no others.
pub(super) fn set_mask(fill: unsafe extern "C" fn(*mut libc::sigset_t) -> c_int) -> io::Result<()> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `fill` writes the whole set, which is then only read; the old mask is not asked for.
    let error = unsafe {
        fill(set.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, set.as_ptr(), ptr::null_mut())
    };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}
