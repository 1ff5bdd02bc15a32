//! How a command ended is told exactly.

use std::process::Command;
use std::thread;

use crate::run::{Run, helper};

///
#[test]
fn every_exit_code_passes_through() {
    let check = |code| {
        let ran = Run::shell(&format!("exit {code}")).run();
        assert_eq!((ran.code, ran.last()), (code, format!("exited {code}").as_str()));
    };
    // A namespace costs waiting, not work.
    thread::scope(|scope| {
        for first in 0..8 {
            scope.spawn(move || (first..=255).step_by(8).for_each(check));
        }
    });
}

/// signals that end a process by default; those that don't are the twin.
#[test]
fn every_signal_that_ends_the_command_is_told_from_an_exit_code() {
    let harmless = [libc::SIGCHLD, libc::SIGCONT, libc::SIGURG, libc::SIGWINCH];
    let stopping = [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
    for signal in (1..=64).filter(|signal| !stopping.contains(signal) && ![32, 33].contains(signal)) {
        let ran = Run::shell(&format!("kill -{signal} $$; exit 5")).run();
        if harmless.contains(&signal) {
            assert_eq!((ran.code, ran.last()), (5, "exited 5"), "{signal}");
        } else {
            assert_eq!((ran.code, ran.last()), (128 + signal, format!("signalled {signal}").as_str()));
        }
    }
}

#[test]
fn a_command_that_cannot_be_started_is_no_exit_code() {
    for (command, code, told) in
        [("/nowhere/to/be/found", 127, "exec_failed 2"), ("/etc/passwd", 126, "exec_failed 13")]
    {
        let ran = Run { command: vec![command.into()], ..Run::default() }.run();
        assert_eq!((ran.code, ran.last()), (code, told), "{command}");
        assert!(!ran.report.contains(&"started".to_owned()), "{ran:?}");
    }
    let ran = Run::shell("exit 127").run();
    assert_eq!((ran.code, ran.last()), (127, "exited 127"));
    assert!(ran.report.contains(&"started".to_owned()), "{ran:?}");
}

/// Where it isn't PID 1 a daemon would outlive the command, so nothing is started.
#[test]
fn outside_a_namespace_of_its_own_nothing_is_started() {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("ran");
    let touch = |program: &str, options: &[&str]| {
        let ended = Command::new(program).args(options).arg("touch").arg(&mark).status().unwrap();
        (ended.code(), mark.exists())
    };
    assert_eq!(touch(&helper(), &["--"]), (Some(125), false));
    let bwrap = ["--bind", "/", "/", "--unshare-pid", "--as-pid-1", &helper(), "--"];
    assert_eq!(touch("bwrap", &bwrap), (Some(0), true), "the same where it is");
}
