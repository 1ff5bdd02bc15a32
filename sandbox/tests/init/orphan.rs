//! Orphans are reaped while the command runs, and end with it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use crate::run::Run;

#[test]
fn orphans_leave_no_zombie() {
    let script = "for i in $(seq 50); do (true &); done
        for i in $(seq 1000); do
            grep -q '^State:.Z' /proc/[0-9]*/status 2>/dev/null || { echo clean; exit 0; }
            sleep 0.01
        done
        exit 1";
    let ran = Run::shell(script).run();
    assert_eq!((ran.code, ran.output.as_str()), (0, "clean\n"), "{ran:?}");
    // The twin: whoever is the parent and does not wait has one.
    let script = "sh -c 'true & exec sleep 60' & for i in $(seq 1000); do
            grep -q '^State:.Z' /proc/[0-9]*/status 2>/dev/null && { echo zombie; exit 0; }
            sleep 0.01
        done";
    assert_eq!(Run::shell(script).run().output, "zombie\n");
}

/// whoever started the run is killed, and what was told of it is closed with it.
#[test]
fn a_run_ends_when_nobody_listens_any_more() {
    let mut child = Run::shell("echo up; exec sleep 3600").launch().spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!((line.as_str(), child.try_wait().unwrap()), ("up\n", None), "as long as somebody does");
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(125));
}

/// forked twice, in a session of its own, deaf to signals.
#[test]
fn a_daemon_ends_with_the_command() {
    let name = format!("{}.5", 80_000 + std::process::id());
    let running = || {
        fs::read_dir("/proc").unwrap().filter_map(Result::ok).any(|entry| {
            fs::read(entry.path().join("cmdline"))
                .is_ok_and(|line| line.split(|b| *b == 0).any(|w| w == name.as_bytes()))
        })
    };
    let script =
        format!("(setsid sh -c 'trap \"\" TERM HUP INT; echo up; exec sleep \"$0\"' {name} >&2 &); read line; exit 4");
    let mut child = Run::shell(&script).launch().stdin(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line == "up\n" && running(), "while the command runs the daemon does: {line:?}");
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(4));
    assert!(!running());
}
