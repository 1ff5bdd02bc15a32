//! Signals to the helper reach the command's process group.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};

use crate::run::Run;

/// Nothing of the helper's own is left over for these: it takes them, and the command's trap runs.
#[test]
fn every_signal_that_can_be_handed_on_is() {
    let own = [libc::SIGKILL, libc::SIGSTOP, libc::SIGCHLD, libc::SIGTTIN, libc::SIGTTOU, libc::SIGPIPE];
    for signal in (1..32).filter(|signal| !own.contains(signal)) {
        // The trap runs when `wait` is interrupted; the sleep is in the same group and must not outlive the run.
        let script = format!("trap 'exit 7' {signal}; sleep 60 & kill -{signal} 1; wait; wait; exit 8");
        let ran = Run::shell(&script).run();
        assert_eq!(ran.last(), "exited 7", "{signal}: {ran:?}");
    }
}

#[test]
fn a_signal_from_outside_reaches_the_whole_group() {
    let script = "trap 'wait; echo parent; exit 9' TERM; \
                  sh -c 'trap \"echo child; exit 0\" TERM; echo ready; sleep 60 & wait' & wait; wait";
    let mut child = Run::shell(script).launch().spawn().unwrap();
    let mut output = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    kill_process(first_of(&child), Signal::TERM).unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("child\n") && rest.contains("parent\n"), "{rest:?}");
    assert_eq!(child.wait().unwrap().code(), Some(9));
}

/// The helper, as the host numbers it: bubblewrap's only child.
fn first_of(bwrap: &Child) -> Pid {
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", bwrap.id())).unwrap();
    Pid::from_raw(children.trim().parse().unwrap()).unwrap()
}
