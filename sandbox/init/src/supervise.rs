//! The command: started with everything as the outside gave it, told of signals, waited for. When it ends, this process does,
//! and the kernel ends whatever else is in its PID namespace.

use std::env;
use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitOptions, getpid, kill_process_group, set_dumpable_behavior, umask, wait,
};

use crate::REFUSED;
use crate::args::Args;
use crate::forward::Forwarder;
use crate::report::Report;

/// What shells answer for a command that is not there.
const NOT_FOUND: u8 = 127;
/// What shells answer for a command that can't be run.
const NOT_RUNNABLE: u8 = 126;

/// Of the forwarder's thread, which does little.
const STACK_BYTES: usize = 64 * 1024;

/// What memory is mapped by, at the least.
const PAGE_BYTES: usize = 4096;

/// How long the outside may take to read what was written to a terminal: when this process ends the kernel hangs that up, and
/// throws away what is still on its way.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How the command ended.
enum End {
    Exited(u8),
    Signalled(u8),
    /// It didn't: whoever was told is gone.
    Abandoned,
}

/// All of it.
pub(crate) fn main() -> ExitCode {
    let Ok(args) = Args::parse(env::args_os().skip(1)) else {
        return ExitCode::from(REFUSED);
    };
    let Ok(mut report) = Report::open(&args.status) else {
        return ExitCode::from(REFUSED);
    };
    let signals = match prepare(&args) {
        Ok(signals) => signals,
        Err(reason) => {
            report.say("refused", reason);
            return ExitCode::from(REFUSED);
        }
    };
    report.say_isolation();
    let pid = match start(&args.command) {
        Ok(pid) => pid,
        Err(error) => {
            report.say("exec_failed", error.raw_os_error().unwrap_or_default());
            let missing = error.kind() == io::ErrorKind::NotFound;
            return ExitCode::from(if missing { NOT_FOUND } else { NOT_RUNNABLE });
        }
    };
    report.say_started();
    let_go();
    let ended = supervise(pid, &signals, report.other_end());
    let at_terminal = rustix::termios::isatty(rustix::stdio::stdin());
    if at_terminal {
        end_the_rest();
    }
    report.say_usage();
    let code = say_end(&mut report, ended);
    if at_terminal {
        report.wait_until_nobody_listens(LAST_WORDS);
    }
    code
}

/// Says how the command ended; answers what this process ends with.
fn say_end(report: &mut Report, ended: io::Result<End>) -> ExitCode {
    match ended {
        Ok(End::Exited(code)) => {
            report.say("exited", code);
            ExitCode::from(code)
        }
        Ok(End::Signalled(signal)) => {
            report.say("signalled", signal);
            ExitCode::from(signal.saturating_add(128))
        }
        Ok(End::Abandoned) => ExitCode::from(REFUSED),
        Err(error) => {
            report.say("refused", error);
            ExitCode::from(REFUSED)
        }
    }
}

/// What must stand before the command is started.
fn prepare(args: &Args) -> Result<OwnedFd, String> {
    // Elsewhere a daemon of the command would outlive it.
    if getpid() != Pid::INIT {
        return Err("not the first process of its PID namespace".to_owned());
    }
    // What the command makes is its own user's alone, whichever launcher this was started by.
    umask(Mode::RWXG | Mode::RWXO);
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|err| format!("PR_SET_DUMPABLE: {err}"))?;
    close_on_exec().map_err(|err| format!("close_range: {err}"))?;
    // Before the forwarder's thread is there, which inherits it: signals are this thread's alone.
    block_signals().map_err(|err| format!("sigprocmask: {err}"))?;
    if let Some(socket) = &args.egress {
        // It listens before the command is there: no request can come too early.
        let forwarder = Forwarder::bind(socket).map_err(|err| format!("egress: {err}"))?;
        std::thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(move || forwarder.run())
            .map_err(|err| format!("egress: {err}"))?;
    }
    signals_to_poll().map_err(|err| format!("signalfd: {err}"))
}

/// Starts the command in a process group of its own, in front of the terminal if there is one: before its first
/// instruction, or an interrupt that answers what it wrote would reach the launcher in its stead. The standard library
/// gives SIGPIPE its meaning back between fork and exec; the signal mask is inherited unless it is emptied.
fn start(command: &[OsString]) -> io::Result<Pid> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut command = Command::new(program);
    command.args(arguments).process_group(0);
    let at_terminal = rustix::termios::isatty(rustix::stdio::stdin());
    let ready = move || {
        if at_terminal {
            // While SIGTTOU is blocked: from behind this would stop it. Where it is not this session's own terminal there
            // is nothing to be in front of.
            let _ours = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), getpid());
        }
        unignore();
        set_mask(libc::sigemptyset)
    };
    #[allow(unsafe_code, reason = "nothing else runs between fork and exec")]
    // SAFETY: `ready` calls `ioctl`, `getpid`, `signal`, `sigemptyset` and `pthread_sigmask` alone, which are async-signal-safe, and
    // allocates nothing.
    unsafe {
        command.pre_exec(ready)
    };
    let child = command.spawn()?;
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Waits for the command, reaping orphans and handing on signals meanwhile. Nobody may be left to end the run: if who is told
/// of it goes away, it is over. An engine would let it run for ever.
fn supervise(command: Pid, signals: &OwnedFd, outside: Option<BorrowedFd<'_>>) -> io::Result<End> {
    loop {
        // Asked for nothing, the kernel tells of the other end's going away alone; what has none never goes away.
        let end = outside.unwrap_or_else(|| signals.as_fd());
        let mut asked = [PollFd::new(signals, PollFlags::IN), PollFd::from_borrowed_fd(end, PollFlags::empty())];
        poll(&mut asked, None)?;
        let [_, end] = asked;
        if !end.revents().is_empty() {
            return Ok(End::Abandoned);
        }
        match next_signal(signals)? {
            libc::SIGCHLD => {
                if let Some(end) = reap(command)? {
                    return Ok(end);
                }
            }
            // Those are about this process itself.
            libc::SIGTTIN | libc::SIGTTOU | libc::SIGPIPE => {}
            number => {
                if let Some(signal) = Signal::from_named_raw(number) {
                    // Gone meanwhile: its SIGCHLD is next.
                    let _gone = kill_process_group(command, signal);
                }
            }
        }
    }
}

/// Reaps every child that has ended; says how the command did, if it is one of them.
fn reap(command: Pid) -> io::Result<Option<End>> {
    let mut end = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == command => {
                let byte = |number: i32| u8::try_from(number).map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
                end = match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Some(End::Exited(byte(code)?)),
                    (None, Some(signal)) => Some(End::Signalled(byte(signal)?)),
                    (None, None) => None,
                };
            }
            Ok(Some(_orphan)) => {}
            Ok(None) | Err(Errno::CHILD) => return Ok(end),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// This program's own pages that nothing was written to are wanted for its start and its end, and seldom between: they are mapped
/// again when they are.
#[allow(unsafe_code, reason = "the range is known to the linker alone")]
fn let_go() {
    unsafe extern "C" {
        static __executable_start: u8;
        static etext: u8;
    }
    let start = &raw const __executable_start;
    // Whole pages, the last of which may hold something else as well.
    let bytes = (&raw const etext as usize).saturating_sub(start as usize) & !(PAGE_BYTES - 1);
    // SAFETY: from its headers to the end of its code the program is mapped from its file for reading alone, so the kernel
    // brings back the same bytes. That it can't is no harm.
    let _advice = unsafe { libc::madvise(start.cast_mut().cast(), bytes, libc::MADV_DONTNEED) };
}

/// Ends whatever else is in the namespace, and waits for it: nothing is written to the terminal afterwards.
fn end_the_rest() {
    // To process group 1 is `kill(-1)`: to everybody but this process. An error means that there is nobody.
    let _nobody = kill_process_group(Pid::INIT, Signal::KILL);
    while matches!(wait(WaitOptions::empty()), Ok(_) | Err(Errno::INTR)) {}
}

/// Whatever the gateway was started to ignore (`nohup`, a shell's `&`) has its meaning again.
#[allow(unsafe_code, reason = "the system call has no safe form")]
fn unignore() {
    for signal in 1..=64 {
        // SAFETY: the disposition is the default, no handler; numbers that can't be set are refused.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// No descriptor above 2 reaches the command, whatever was inherited.
#[allow(unsafe_code, reason = "the system call has no safe form")]
fn close_on_exec() -> io::Result<()> {
    // SAFETY: three integers; the call changes a flag of descriptors and closes none.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Signals wait until they are taken; and a child's end is told, even if whoever started this did not care.
#[allow(unsafe_code, reason = "dispositions have no safe form")]
fn block_signals() -> io::Result<()> {
    // SAFETY: no handler is set.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    set_mask(libc::sigfillset)
}

/// Blocks the signals that `fill` names, and no others.
#[allow(unsafe_code, reason = "signal masks have no safe form")]
fn set_mask(fill: unsafe extern "C" fn(*mut libc::sigset_t) -> libc::c_int) -> io::Result<()> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `fill` writes the whole set, which is then only read; the old mask is not asked for.
    let error = unsafe {
        fill(set.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut())
    };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// The blocked signals, to be waited for beside something else. A fault of this process's own is not among them: the kernel ends
/// it at once.
#[allow(unsafe_code, reason = "the system call has no safe form")]
fn signals_to_poll() -> io::Result<OwnedFd> {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigfillset` writes the whole set, which `signalfd` only reads; what it answers is a descriptor of nobody else's.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        match libc::signalfd(-1, all.as_ptr(), libc::SFD_CLOEXEC) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// The next signal that arrived.
fn next_signal(signals: &OwnedFd) -> io::Result<libc::c_int> {
    let mut told = [0; size_of::<libc::signalfd_siginfo>()];
    rustix::io::read(signals, &mut told)?;
    // Its number is the first field.
    let [a, b, c, d, ..] = told;
    libc::c_int::try_from(u32::from_ne_bytes([a, b, c, d])).map_err(io::Error::other)
}
