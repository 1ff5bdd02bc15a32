//! What is written, and what is read.

use std::time::Duration;

use openclawmu_sandbox::{Ended, Stdio, Stream};

use crate::place::{Place, text};

attacks![
    endless_output_is_cut_and_memory_does_not_grow,
    a_flood_of_errors_does_not_wait_for_silent_output,
    input_that_is_never_read_holds_nobody_up,
    input_arrives_whole_and_ends,
    bytes_of_any_kind_arrive_as_they_were,
    closed_output_does_not_end_the_time,
    output_is_seen_while_the_command_runs,
    a_reader_that_never_reads_does_not_stop_the_clock,
];

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// X-11.
async fn endless_output_is_cut_and_memory_does_not_grow(place: Place) {
    let cap = 1 << 20;
    let all = place.run(&["./attack", "flood", "1", "500000"]).await;
    assert_eq!((all.ended, all.stdout.total_bytes, all.stdout.bytes().len()), (Ended::Exited, 500_000, 500_000));
    let before = resident_kib();
    let endless = place.run(&["./attack", "flood", "1", "10000000000"]).await;
    assert_eq!(endless.ended, Ended::OutputLimit, "{:?}", endless.ended);
    assert!(endless.stdout.head.len() + endless.stdout.tail.len() <= cap);
    assert!((64 << 20..80 << 20).contains(&endless.stdout.total_bytes), "{}", endless.stdout.total_bytes);
    // Other tests run in this process, too: what is measured is that 64 MiB did not pass into it.
    assert!(resident_kib().saturating_sub(before) < 32 << 10, "{} KiB", resident_kib() - before);
}

/// X-12.
async fn a_flood_of_errors_does_not_wait_for_silent_output(place: Place) {
    let flood = place.run(&["./attack", "flood", "2", "5000000"]).await;
    assert_eq!((flood.ended, flood.stderr.total_bytes, flood.stdout.total_bytes), (Ended::Exited, 5_000_000, 0));
    assert!(flood.stderr.dropped_bytes() > 0);
}

/// X-13.
async fn input_that_is_never_read_holds_nobody_up(place: Place) {
    let mut job = place.job(&["true"]);
    // Zeros that are never touched take no memory either.
    job.stdio = Stdio::Piped(vec![0; 1 << 30]);
    let outcome = place.run_job(job).await;
    assert_eq!((outcome.ended, outcome.exit_code), (Ended::Exited, 0));
}

/// X-13's twin.
async fn input_arrives_whole_and_ends(place: Place) {
    let mut job = place.job(&["sh", "-c", "wc -c"]);
    job.stdio = Stdio::Piped(vec![b'x'; 3 << 20]);
    assert_eq!(text(&place.run_job(job).await), (3 << 20).to_string());
    let mut job = place.job(&["sh", "-c", "wc -c"]);
    job.stdio = Stdio::Piped(Vec::new());
    assert_eq!(text(&place.run_job(job).await), "0");
}

/// X-14.
async fn bytes_of_any_kind_arrive_as_they_were(place: Place) {
    let odd = place.run(&["sh", "-c", r"printf '\377\376\000a\r\n\033[2J'"]).await;
    assert_eq!(odd.stdout.bytes(), b"\xff\xfe\0a\r\n\x1b[2J");
    // One line that is longer than all that is kept.
    let line = place.limited(&["./attack", "flood", "1", "100000000"], |limits| limits.output_bytes = 1 << 30).await;
    assert_eq!((line.ended, line.stdout.total_bytes), (Ended::Exited, 100_000_000));
    assert_eq!(line.stdout.head.len(), 512 << 10);
    assert_eq!(line.stdout.tail.len(), 512 << 10);
}

/// X-15.
async fn closed_output_does_not_end_the_time(place: Place) {
    let silent = place.limited(&["./attack", "silent"], |limits| limits.wall = Duration::from_millis(500)).await;
    assert_eq!(silent.ended, Ended::TimedOut, "{silent:?}");
}

async fn output_is_seen_while_the_command_runs(place: Place) {
    let job = place.job(&["sh", "-c", "echo out; echo err >&2; read line; echo $line"]);
    let (sender, mut receiver) = tokio::sync::mpsc::channel(8);
    let mut job = job;
    job.stdio = Stdio::Piped(b"in\n".to_vec());
    let (outcome, seen) = tokio::join!(place.backend.run(job, Some(sender)), async {
        let mut seen = (Vec::new(), Vec::new());
        while let Some(chunk) = receiver.recv().await {
            match chunk.stream {
                Stream::Stdout => seen.0.extend(chunk.bytes),
                Stream::Stderr => seen.1.extend(chunk.bytes),
            }
        }
        seen
    });
    assert_eq!(seen, (b"out\nin\n".to_vec(), b"err\n".to_vec()));
    assert_eq!(outcome.unwrap().stdout.bytes(), b"out\nin\n");
}

/// X-12.
async fn a_reader_that_never_reads_does_not_stop_the_clock(place: Place) {
    let mut job = place.job(&["./attack", "flood", "1", "10000000000"]);
    job.limits.wall = Duration::from_millis(500);
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let outcome = place.backend.run(job, Some(sender)).await.unwrap();
    assert_eq!(outcome.ended, Ended::TimedOut);
    drop(receiver);
}
