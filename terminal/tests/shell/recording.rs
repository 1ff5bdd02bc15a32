//! What is kept of a session.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use openclawmu_terminal::{Reason, TerminalError};
use serde_json::Value;

use crate::client::Client;
use crate::place::{driver, logged, on_a_place, processes_with};

/// What a recording shows.
pub(crate) fn shown(recording: &str) -> String {
    events(recording, "o").concat()
}

fn events(recording: &str, code: &str) -> Vec<String> {
    let lines = recording.lines().skip(1).map(|line| serde_json::from_str::<Vec<Value>>(line).unwrap());
    lines.filter(|event| event[1] == code).map(|event| event[2].as_str().unwrap().to_owned()).collect()
}

/// T-07.
#[test]
fn a_recording_shows_what_was_shown_and_its_digest_is_told() {
    on_a_place(
        |_| {},
        |mut place| async move {
            let (session, mut client) =
                place.script("printf '\\033[1mgr\\303\\274n\\033[0m'; seq 1 5000; exit 9").await;
            client.end().await;
            let closed = place.closed().await;
            let (recording, digest) = place.recording(session.recording());
            assert_eq!((closed.reason, closed.exit, closed.sha256), (Reason::Exited, Some(9), Some(digest)));
            assert_eq!(
                (closed.recording, closed.recording_bytes),
                (format!("{}.cast", session.id()), recording.len() as u64)
            );
            assert_eq!(shown(&recording), client.text());
            let heading: Value = serde_json::from_str(recording.lines().next().unwrap()).unwrap();
            assert_eq!((&heading["version"], &heading["timestamp"]), (&2.into(), &1_700_000_000.into()));
            assert_eq!((&heading["width"], &heading["height"]), (&80.into(), &24.into()));
            assert_eq!(heading["env"]["TERM"], "xterm-256color");
            assert!(events(&recording, "i").is_empty(), "what is typed is not recorded unless it is asked for");
            let path = place.path("recordings").join(session.recording());
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        },
    );
}

/// T-07.
#[test]
fn what_is_typed_is_recorded_where_it_is_asked_for_and_shown_alone() {
    on_a_place(
        |_| {},
        |place| async move {
            let script = "echo up; read open; stty -echo; echo off; read secret; stty echo; echo on; read open";
            let mut order = place.order(&["sh", "-c", script]);
            order.record_input = true;
            let session = place.terminals.open(order).await.unwrap();
            let mut client = Client::new(&session, driver("ann"), None);
            for (mark, line) in [("up", "first"), ("off", "hunter2"), ("on", "last")] {
                client.until(&format!("{mark}\r\n")).await;
                client.types(&format!("{line}\r")).await;
            }
            client.end().await;
            session.gone().await;
            let (recording, _) = place.recording(session.recording());
            assert_eq!(events(&recording, "i").concat(), "first\rlast\r");
            assert!(!recording.contains("hunter2"), "{recording}");
        },
    );
}

/// T-07.
#[test]
fn a_recording_that_is_full_ends_the_session() {
    on_a_place(
        |settings| settings.recording_bytes = 20_000,
        |mut place| async move {
            let (session, mut client) = place.script("seq 1 100000").await;
            client.end().await;
            assert_eq!(client.errors, ["recording_full"]);
            let closed = place.closed().await;
            let (recording, digest) = place.recording(session.recording());
            assert_eq!((closed.reason, closed.sha256), (Reason::RecordingFull, Some(digest)));
            assert!(recording.len() < 21_000);
            assert_eq!(shown(&recording), client.text(), "nothing was shown that is not recorded");
        },
    );
}

/// T-05: not what it shows, not what is typed, and no control sequence.
#[test]
fn nothing_of_a_terminal_reaches_the_log() {
    on_a_place(
        |settings| settings.recording_bytes = 2000,
        |place| async move {
            let (session, mut client) = place.script("printf '\\033]0;shown-4669\\007'; read typed; seq 1 5000").await;
            client.until("shown-4669").await;
            client.types("typed-\x1b]0;2011\x07\r").await;
            client.end().await;
            session.gone().await;
            tracing::info!("logged-1123");
            let log = logged();
            assert!(log.contains("logged-1123"), "what is logged is seen here");
            assert!(!log.contains("4669") && !log.contains("2011") && !log.contains('\x1b'), "{log}");
        },
    );
}

/// A file system in memory, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, size: &str) -> Self {
        let options = format!("size={size},mode=0700");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).output();
        let done = done.expect("`mount` can't be run; this test needs it");
        let why = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "this test must be allowed to mount a tmpfs (run it as root): {why}");
        Self(at.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// T-07.
#[test]
fn a_disk_that_is_full_ends_the_session_and_what_is_recorded_stays_whole() {
    on_a_place(
        |_| {},
        |mut place| async move {
            let _disk = SmallDisk::mount(&place.path("recordings"), "64k");
            let (session, mut client) = place.script("sleep 31415.9265 & seq 1 100000; read end").await;
            client.end().await;
            assert_eq!(client.errors, ["recording_failed"]);
            let closed = place.closed().await;
            assert!(processes_with("31415.9265").is_empty(), "nothing goes on unrecorded");
            let (recording, digest) = place.recording(session.recording());
            assert_eq!((closed.reason, closed.sha256), (Reason::RecordingFailed, Some(digest)));
            assert!(recording.ends_with("]\n"));
            assert_eq!(shown(&recording), client.text(), "nothing was shown that is not recorded");
        },
    );
}

/// T-07.
#[test]
fn where_no_recording_can_be_begun_no_shell_is() {
    on_a_place(
        |_| {},
        |place| async move {
            let disk = SmallDisk::mount(&place.path("recordings"), "64k");
            std::fs::write(place.path("recordings/ballast"), vec![1; 60 << 10]).unwrap();
            let mut more = 0;
            while std::fs::write(place.path(&format!("recordings/more-{more}")), [1]).is_ok() {
                more += 1;
            }
            let touch = ["sh", "-c", "touch ran; read end"];
            let refused = place.terminals.open(place.order(&touch)).await.unwrap_err();
            assert_eq!(refused.code(), "recording_unavailable", "{refused}");
            assert!(matches!(refused, TerminalError::Recording(_)));
            assert!(!place.path("files/ran").exists() && place.terminals.list().is_empty());
            drop(disk);
            let session = place.open(&touch).await;
            crate::place::until("it ran", || place.path("files/ran").exists()).await;
            session.end(Reason::Ended);
            session.gone().await;
        },
    );
}
