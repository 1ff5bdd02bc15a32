//! What is promised of a job at a terminal. Bubblewrap alone has them.

use std::time::Duration;

use openclawmu_sandbox::{Ended, Job, Pty, SandboxError, Stdio};

use crate::place::{Place, on_bubblewrap, on_docker, processes_with};

fn at_a_terminal(place: &Place, script: &str) -> (Job, Pty, openclawmu_sandbox::Line) {
    let (pty, terminal, line) = Pty::open(80, 24).unwrap();
    (Job { stdio: Stdio::Terminal(terminal), ..place.job(&["sh", "-c", script]) }, pty, line)
}

/// The kernel throws away what is on its way when the leader of a terminal's session ends.
#[test]
fn what_was_written_can_be_read_after_the_command_has_ended() {
    on_bubblewrap(async |place| {
        let (job, pty, line) = at_a_terminal(&place, "seq 1 1000; exit 7");
        let backend = place.backend;
        let mut running = Box::pin(backend.run(job, None));
        let held = tokio::select! {
            outcome = &mut running => panic!("it did not wait: {outcome:?}"),
            held = line.ended => held.unwrap(),
        };
        // Nothing was read until now, and it would be over long since.
        if let Ok(outcome) = tokio::time::timeout(Duration::from_millis(300), &mut running).await {
            panic!("it did not wait: {outcome:?}");
        }
        let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
        while let Some(length @ 1..) = pty.read_now(&mut buffer).unwrap() {
            all.extend_from_slice(&buffer[..length]);
        }
        drop(held);
        let outcome = running.await.unwrap();
        let wanted: String = (1..=1000).map(|number| format!("{number}\r\n")).collect();
        assert_eq!(String::from_utf8(all).unwrap(), wanted);
        assert_eq!((outcome.ended, outcome.exit_code), (Ended::Exited, 7));
    });
}

#[test]
fn whoever_holds_the_other_end_is_told_when_it_begins_and_may_stop_it() {
    on_bubblewrap(async |place| {
        let (job, pty, line) = at_a_terminal(&place, "trap '' HUP TERM; echo ready; sleep 14142.1356");
        let backend = place.backend;
        let mut running = Box::pin(backend.run(job, None));
        tokio::select! {
            outcome = &mut running => panic!("{outcome:?}"),
            started = line.started => started.unwrap(),
        }
        // Not before it hears neither.
        let (mut shown, mut buffer) = (Vec::new(), [0; 4096]);
        while !shown.ends_with(b"ready\r\n") {
            let length = tokio::select! {
                outcome = &mut running => panic!("{outcome:?}"),
                read = pty.read(&mut buffer) => read.unwrap(),
            };
            assert_ne!(length, 0, "it ended");
            shown.extend_from_slice(&buffer[..length]);
        }
        line.stop.send(()).unwrap();
        let outcome = running.await.unwrap();
        assert_eq!((outcome.ended, outcome.exit_code, outcome.signal), (Ended::Stopped, 137, Some(9)));
        assert_eq!(processes_with("14142.1356"), 0);
    });
}

/// A holder who lets go of everything changes nothing, and one who never lets go of the end does not hold it up for long.
#[test]
fn nobody_has_to_listen() {
    on_bubblewrap(async |place| {
        let (job, _pty, line) = at_a_terminal(&place, "exit 3");
        drop(line);
        assert_eq!(place.backend.run(job, None).await.unwrap().exit_code, 3);
        let (job, _pty, line) = at_a_terminal(&place, "exit 4");
        let (outcome, _held) = tokio::join!(place.backend.run(job, None), line.ended);
        assert_eq!(outcome.unwrap().exit_code, 4);
    });
}

#[test]
fn a_container_has_none_and_says_so() {
    on_docker(async |place| {
        assert!(!place.backend.has_terminals());
        let (job, _pty, _line) = at_a_terminal(&place, "touch ran");
        assert!(matches!(place.backend.run(job, None).await, Err(SandboxError::Job("a container has no terminal"))));
        assert!(!place.path("ran").exists());
    });
}
