//! At a terminal the command is in front: it may read, and Ctrl-C is its own.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::run::{helper, words};

/// Starts `script` at a terminal of its own; answers the other end of that.
fn at_a_terminal(script: &str) -> (File, std::process::Child) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let theirs = || {
        Stdio::from(rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap())
    };
    let child = Command::new("setsid")
        .args(["--ctty", "--wait", "bwrap"])
        .args(words("--ro-bind / / --dev /dev --proc /proc --unshare-pid --die-with-parent --as-pid-1 --"))
        .args([&helper(), "--", "sh", "-c", script])
        .stdin(theirs())
        .stdout(theirs())
        .stderr(theirs())
        .spawn()
        .unwrap();
    (File::from(ours), child)
}

/// Reads until `mark` was written. A script waits for an answer to its last words: when a terminal's session ends, the
/// kernel throws away what is still on its way to the other end.
fn until(terminal: &mut File, mark: &str) {
    let mut text = String::new();
    while !text.contains(mark) {
        let mut byte = [0];
        terminal.read_exact(&mut byte).unwrap_or_else(|err| panic!("{err} after {text:?}, without {mark:?}"));
        text.push(char::from(byte[0]));
    }
}

#[test]
fn the_command_reads_from_its_terminal() {
    let (mut terminal, mut child) = at_a_terminal("read line; echo got $line; read end; exit 3");
    terminal.write_all(b"hello\n").unwrap();
    until(&mut terminal, "got hello");
    terminal.write_all(b"\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3));
}

#[test]
fn an_interrupt_typed_there_reaches_the_command_alone() {
    let (mut terminal, mut child) =
        at_a_terminal("trap 'echo interrupted; read end; exit 6' INT; echo ready; sleep 60 & wait");
    until(&mut terminal, "ready");
    terminal.write_all(&[3]).unwrap();
    until(&mut terminal, "interrupted");
    terminal.write_all(b"\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(6));
}
