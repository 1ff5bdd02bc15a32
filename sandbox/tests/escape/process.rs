//! What ends, and how.

use std::time::{Duration, Instant};

use openclawmu_sandbox::Ended;

use crate::place::{Place, processes_with, text};

attacks![
    a_fork_bomb_ends_and_the_limit_is_told,
    a_memory_hog_is_killed_at_its_limit,
    memory_file_systems_have_a_size_and_are_charged,
    spinning_ends_at_the_deadline,
    a_spinning_process_gets_its_share_of_a_core,
    children_that_ignore_every_signal_are_gone,
    a_daemon_dies_with_the_command,
    a_stopped_tree_still_ends,
    exit_codes_and_signals_are_exact,
    a_command_that_is_not_there_is_127,
    a_run_that_nobody_waits_for_is_killed,
];

///
async fn a_fork_bomb_ends_and_the_limit_is_told(place: Place) {
    let calm = place.limited(&["sh", "-c", "sleep 0 & wait"], |limits| limits.processes = 32).await;
    assert!(!calm.processes_limit_hit && calm.exit_code == 0, "{calm:?}");
    let bomb = place.limited(&["./attack", "bomb"], |limits| {
        limits.processes = 32;
        limits.wall = Duration::from_millis(700);
    });
    let bomb = bomb.await;
    assert!(bomb.processes_limit_hit, "{bomb:?}");
    assert_eq!(bomb.ended, Ended::TimedOut);
    let after = place.shell("echo well").await;
    assert_eq!(text(&after), "well");
}

///
async fn a_memory_hog_is_killed_at_its_limit(place: Place) {
    let limit = 64 << 20;
    let modest = place.limited(&["./attack", "hog", "16777216"], |limits| limits.memory_bytes = limit).await;
    assert_eq!((modest.ended, modest.exit_code), (Ended::Exited, 0), "{modest:?}");
    let peak = modest.memory_peak_bytes.expect("memory is counted");
    assert!((16 << 20..=limit).contains(&peak), "{peak}");
    let hog = place.limited(&["./attack", "hog", "1073741824"], |limits| limits.memory_bytes = limit).await;
    assert_eq!((hog.ended, hog.exit_code, hog.signal), (Ended::OutOfMemory, 137, Some(9)), "{hog:?}");
    assert!(hog.memory_peak_bytes.expect("memory is counted") <= limit);
}

///
async fn memory_file_systems_have_a_size_and_are_charged(place: Place) {
    for (dir, most) in [("/tmp", 64 << 20), ("/dev/shm", 16 << 20)] {
        let path = format!("{dir}/file");
        let fits = place.attack(&["fill", &path, &(most / 2).to_string()]).await;
        assert_eq!(fits, "done 0", "{dir}");
        let over = place.attack(&["fill", &path, &(most * 2).to_string()]).await;
        assert_eq!(over, format!("refused {}", libc::ENOSPC), "{dir}");
    }
    let charged =
        place.limited(&["./attack", "fill", "/tmp/file", "60000000"], |limits| limits.memory_bytes = 32 << 20);
    let charged = charged.await;
    // Also where process 1 goes with the rest, as no page is left for its report.
    assert_eq!((charged.ended, charged.signal), (Ended::OutOfMemory, Some(9)), "{charged:?}");
    // Nothing but names takes memory, too.
    let names = ["./attack", "names", "/tmp", "4000000"];
    let names = place.limited(&names, |limits| limits.memory_bytes = 32 << 20).await;
    assert!(names.ended == Ended::OutOfMemory || text(&names).starts_with("refused"), "{names:?}");
}

///
async fn spinning_ends_at_the_deadline(place: Place) {
    let wall = Duration::from_millis(500);
    let spin = place.limited(&["./attack", "spin"], |limits| limits.wall = wall).await;
    assert_eq!(spin.ended, Ended::TimedOut, "{spin:?}");
    assert_eq!(spin.exit_code, 137);
    assert!(spin.duration >= wall, "{:?}", spin.duration);
    let quick = place.limited(&["true"], |limits| limits.wall = Duration::from_secs(20)).await;
    assert_eq!(quick.ended, Ended::Exited);
}

/// what it computed is at most its share of the time that passed, give or take one period of the quota.
async fn a_spinning_process_gets_its_share_of_a_core(place: Place) {
    let spin = place.limited(&["./attack", "spin"], |limits| {
        limits.wall = Duration::from_secs(1);
        limits.cpu_millis = 200;
    });
    let spin = spin.await;
    let used = spin.cpu.expect("time is counted");
    assert!(used <= spin.duration / 5 + Duration::from_millis(100), "{used:?} of {:?}", spin.duration);
    assert!(used >= Duration::from_millis(50), "{used:?}");
}

///
async fn children_that_ignore_every_signal_are_gone(place: Place) {
    let mark = format!("deaf-{}", place.owner.get());
    place.put(&mark, &std::fs::read(place.path("attack")).unwrap());
    let program = format!("./{mark}");
    let wall = Duration::from_millis(600);
    let deaf = place.limited(&[&program, "deaf", "50"], |limits| limits.wall = wall).await;
    assert_eq!((deaf.ended, text(&deaf).as_str()), (Ended::TimedOut, "born"), "{deaf:?}");
    assert_eq!(processes_with(&mark), 0, "they are gone when the outcome is there");
}

///
async fn a_daemon_dies_with_the_command(place: Place) {
    let mark = format!("daemon-{}", place.owner.get());
    place.put(&mark, &std::fs::read(place.path("attack")).unwrap());
    let left = place.run(&[&format!("./{mark}"), "daemon"]).await;
    assert_eq!((left.ended, text(&left).as_str()), (Ended::Exited, "left"), "{left:?}");
    assert_eq!(processes_with(&mark), 0);
}

///
async fn a_stopped_tree_still_ends(place: Place) {
    let stopped = place.limited(&["./attack", "stop"], |limits| limits.wall = Duration::from_millis(500)).await;
    assert_eq!(stopped.ended, Ended::TimedOut, "{stopped:?}");
}

///
async fn exit_codes_and_signals_are_exact(place: Place) {
    for code in [0_u8, 1, 2, 7, 125, 126, 127, 128, 137, 143, 254, 255] {
        let outcome = place.run(&["./attack", "exit", &code.to_string()]).await;
        assert_eq!((outcome.ended, outcome.exit_code, outcome.signal), (Ended::Exited, code, None));
    }
    for signal in [1_u8, 2, 6, 9, 11, 13, 15] {
        let outcome = place.run(&["./attack", "die", &signal.to_string()]).await;
        assert_eq!((outcome.ended, outcome.exit_code, outcome.signal), (Ended::Signalled, 128 + signal, Some(signal)));
    }
}

///
async fn a_command_that_is_not_there_is_127(place: Place) {
    let absent = place.run(&["no-such-program"]).await;
    assert_eq!((absent.ended, absent.exit_code), (Ended::Exited, 127), "{absent:?}");
    let closed = place.run(&["/etc/passwd"]).await;
    assert_eq!((closed.ended, closed.exit_code), (Ended::Exited, 126), "{closed:?}");
}

/// X-08's other half: whoever lets go of the future has the run killed.
async fn a_run_that_nobody_waits_for_is_killed(place: Place) {
    let mark = format!("orphan-{}", place.owner.get());
    place.put(&mark, &std::fs::read(place.path("attack")).unwrap());
    let program = format!("./{mark}");
    let job = place.job(&[&program, "children", "3"]);
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let mut run = Box::pin(place.backend.run(job, Some(sender)));
    tokio::select! {
        _ = &mut run => panic!("it does not end"),
        born = receiver.recv() => assert_eq!(born.unwrap().bytes, b"born\n"),
    }
    assert!(processes_with(&mark) >= 4);
    drop(run);
    let begun = Instant::now();
    crate::place::until("that all of it is gone", || processes_with(&mark) == 0);
    assert!(begun.elapsed() < Duration::from_secs(60));
}
