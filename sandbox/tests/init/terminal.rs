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

/// Everything until the other end is closed, which a terminal tells as an error.
fn rest(terminal: &mut File) -> String {
    let mut text = Vec::new();
    let _closed = terminal.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn until(terminal: &mut File, mark: &str) {
    let mut text = String::new();
    while !text.contains(mark) {
        let mut byte = [0];
        terminal.read_exact(&mut byte).unwrap();
        text.push(char::from(byte[0]));
    }
}

#[test]
fn the_command_reads_from_its_terminal() {
    let (mut terminal, mut child) = at_a_terminal("read line; echo got $line; exit 3");
    terminal.write_all(b"hello\n").unwrap();
    assert!(rest(&mut terminal).contains("got hello"));
    assert_eq!(child.wait().unwrap().code(), Some(3));
}

#[test]
fn an_interrupt_typed_there_reaches_the_command_alone() {
    let (mut terminal, mut child) = at_a_terminal("trap 'echo interrupted; exit 6' INT; echo ready; sleep 60 & wait");
    until(&mut terminal, "ready");
    terminal.write_all(&[3]).unwrap();
    assert!(rest(&mut terminal).contains("interrupted"));
    assert_eq!(child.wait().unwrap().code(), Some(6));
}
