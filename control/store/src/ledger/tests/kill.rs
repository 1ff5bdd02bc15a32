//! Real processes at full speed, killed at random moments, over and over on one directory.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::world::{Books, RESERVED, World, add_tenant, cap_of, end, eventually, usage};
use crate::ledger::inflight::{self, FOLDER};
use crate::ledger::journal;
use crate::{Demand, Label, NanoUsd, Outcome, Quota, Refused, TenantKey, Ticket};

/// Tells a child process which data directory is its own.
pub(super) const CHILD_DIR: &str = "OPENCLAWMU_STORE_TEST_DIR";

pub(super) fn this_binary() -> PathBuf {
    std::env::current_exe().unwrap()
}

/// Tenant 1 has no cap; tenant 2 has this one, which is used up early.
fn tight() -> Quota {
    cap_of(200)
}

#[test]
#[ignore = "not a test: the process that `d_01_q_02_...` starts and kills"]
fn busy_owner() {
    let dir = std::env::var(CHILD_DIR).expect("set by the test that starts this");
    let world = World::in_dir(Path::new(&dir));
    let (out, tight) = (Mutex::new(std::io::stdout()), Arc::new(tight()));
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let (world, out, tight) = (&world, &out, &tight);
            scope.spawn(move || {
                let mut settled = Vec::new();
                for n in thread.. {
                    // Stays in flight while the others come and go, so that every kill hits something.
                    let long = labelled(world, &format!("long {thread} {n}"));
                    for m in 0..20 {
                        let free = labelled(world, &format!("user {thread} {n} {m}"));
                        settled.push(free.reservation().unwrap().id.0);
                        free.progress(&usage(40, m));
                        free.settle(end(Outcome::Complete, usage(n % 100, m)));
                        match world.store.admit(&Demand { tenant: TenantKey(2), quota: tight, ..world.demand() }) {
                            Ok(ticket) => drop(ticket.settle(end(Outcome::Partial, usage(n % 3, m)))),
                            Err(Refused::Budget { .. }) => {}
                            Err(other) => panic!("{other:?}"),
                        }
                    }
                    world.flush();
                    let lines: String = settled.drain(..).map(|id| format!("durable {id}\n")).collect();
                    let mut out = out.lock().unwrap();
                    out.write_all(lines.as_bytes()).unwrap();
                    out.flush().unwrap();
                    drop(out);
                    settled.push(long.reservation().unwrap().id.0);
                    long.settle(end(Outcome::Complete, usage(100, 50)));
                }
            });
        }
    });
}

/// Admits a request for a user of whom nobody has heard before.
fn labelled(world: &World, user: &str) -> Ticket {
    let mut label = Label::default();
    label.set_user(user);
    label.add_tag("busy");
    let label = world.store.label_key(world.tenant, &label);
    world.store.admit(&Demand { label, ..world.demand() }).unwrap()
}

/// Rows that are for somebody whose name is lost.
fn nameless(dir: &Path) -> i64 {
    let conn = rusqlite::Connection::open(dir.join("openclawmu.db")).unwrap();
    let sql = "SELECT count(*) FROM ledger WHERE label <> 0 AND label NOT IN (SELECT key FROM label_tags)";
    conn.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Starts a busy owner, kills it after some acknowledgements, and returns all that it acknowledged.
fn killed_after(dir: &Path, lines: u32) -> BTreeSet<i64> {
    let mut child = Command::new(this_binary())
        .args(["--exact", "--ignored", "--nocapture", "ledger::tests::kill::busy_owner"])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let (mut acknowledged, mut line) = (BTreeSet::new(), String::new());
    while out.read_line(&mut line).unwrap() > 0 {
        // A line without its end was cut by the kill.
        let id: Option<i64> =
            line.strip_suffix('\n').and_then(|whole| whole.split_once("durable ")).and_then(|(_, id)| id.parse().ok());
        acknowledged.extend(id);
        line.clear();
        if acknowledged.len() >= usize::try_from(lines).unwrap() {
            child.kill().unwrap(); // SIGKILL; what the pipe still holds was acknowledged and is read on
        }
    }
    child.wait().unwrap();
    assert!(acknowledged.len() >= usize::try_from(lines).unwrap(), "the owner ended by itself");
    acknowledged
}

#[test]
fn d_01_q_02_no_acknowledged_row_is_lost_and_no_cap_is_passed_however_often_the_owner_is_killed() {
    let kills = if std::env::var_os("OPENCLAWMU_SOAK").is_some_and(|soak| soak == "1") { 100 } else { 20 };
    let dir = tempfile::tempdir().unwrap();
    drop(World::in_dir(dir.path()));
    add_tenant(dir.path(), 1);
    add_tenant(dir.path(), 2);
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[1; 32]);
    let (mut acknowledged, mut recovered, mut last_rows) = (BTreeSet::new(), 0, 0);
    for _ in 0..kills {
        let new = killed_after(dir.path(), 1 + random.next_u32() % 400);
        assert!(new.is_disjoint(&acknowledged), "an id was given twice");
        acknowledged.extend(new);
        let world = World::in_dir(dir.path());
        let books = world.books();
        let lost: Vec<_> = acknowledged.iter().filter(|id| !books.rows.contains_key(id)).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        assert!(books.rows.len() >= last_rows);
        assert_eq!(nameless(dir.path()), 0);
        last_rows = books.rows.len();
        recovered = books.rows.values().filter(|row| row.0 == "recovered").count();
        let month = world.store.quota_status_of(TenantKey(2), &tight(), &world.zone).unwrap().usd_per_month;
        let cap = tight().usd_per_month.unwrap();
        assert!(month.posted.0 + month.held.0 <= cap.0, "{month:?}");
        assert_eq!(month.pending, NanoUsd::ZERO);
        for (_, _, cost, held) in books.rows.values() {
            assert!(cost.0 + held.0 <= RESERVED.0);
        }
    }
    assert!(recovered >= kills, "{kills} kills, and only {recovered} requests were in flight");
}

#[test]
#[ignore = "not a test: the process that the next one starts and kills"]
fn fast_owner() {
    let dir = std::env::var(CHILD_DIR).expect("set by the test that starts this");
    let world = World::in_dir(Path::new(&dir));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for n in 0_u32.. {
                    world.admit().unwrap().settle(end(Outcome::Complete, usage(n % 100, n % 50)));
                    if n % 16 == 0 {
                        std::thread::sleep(Duration::from_millis(1)); // fast, not full speed: nothing here fills a disk
                    }
                }
            });
        }
    });
}

/// A killed process leaves the in-flight table too; a power loss may take it, or leave it as it was at any moment before.
#[test]
fn d_01_rows_that_were_put_off_survive_a_kill_and_a_power_loss() {
    let dir = tempfile::tempdir().unwrap();
    drop(World::in_dir(dir.path()));
    add_tenant(dir.path(), 1);
    let mut put_off = 0;
    for round in 0..6 {
        let mut child = Command::new(this_binary())
            .args(["--exact", "--ignored", "ledger::tests::kill::fast_owner"])
            .env(CHILD_DIR, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let owned = || inflight::tables(&dir.path().join(FOLDER)).unwrap().pop();
        eventually("rows are put off", || owned().is_some_and(|table| !journal::read(&table).unwrap().is_empty()));
        // Each kill at another moment of what is put off; whatever it hits must hold.
        std::thread::sleep(Duration::from_millis(60 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let table = owned().unwrap();
        let left = journal::read(&table).unwrap();
        put_off += left.len();
        if round % 2 == 1 {
            std::fs::remove_file(&table).unwrap();
        }
        let before = Books::read(dir.path()).rows;
        let books = World::in_dir(dir.path()).books().rows;
        assert!(before.iter().all(|(id, row)| books.get(id) == Some(row)), "what was committed stays as it was");
        for row in left {
            let expected = ("complete".to_owned(), false, row.cost, NanoUsd::ZERO);
            assert_eq!(books.get(&row.reservation.id.0), Some(&expected), "round {round}");
        }
        assert_eq!(journal::read(&table).unwrap(), []);
    }
    assert!(put_off > 0, "no kill hit a row that was put off");
}
