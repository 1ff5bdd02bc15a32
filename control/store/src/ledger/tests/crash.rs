//! What a process leaves when it dies: whole, torn, or with the end of its log missing.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::mpsc::channel;

use rusqlite::Connection;

use super::world::{
    Books, RESERVED, RESERVED_TOKENS, World, WorldDir, add_tenant, cap_of, copy_dir, end, open_at, price, scratch,
    usage,
};
use crate::ledger::inflight::FOLDER;
use crate::ledger::journal::{self, Journal};
use crate::ledger::recovery::resolve_dead;
use crate::ledger::row::{Outcome, Reservation, Settlement};
use crate::ledger::slot::tests::{reservation, settlement};
use crate::ledger::slot::{self, SLOT_BYTES, TAIL_AT};
use crate::ledger::ticket::settled_row;
use crate::sqlite::lock::FileLock;
use crate::sqlite::{migrate, open};
use crate::{ManualClock, NanoUsd, Quota, ReservationId, ServiceTier, TenantKey};

/// Resolves what is in `dir` with the price of this test, as an owner with a number of its own would.
fn resolve(conn: &mut Connection, dir: &Path) {
    resolve_dead(conn, dir, 999, |_, _| Ok(Some(price()))).unwrap();
}

fn sorted(books: &Books) -> Vec<(String, NanoUsd, NanoUsd)> {
    books.rows.values().map(|(outcome, _, cost, held)| (outcome.clone(), *cost, *held)).collect()
}

/// A killed owner's directory: one row written, one settled and not written, one relayed, one just admitted, one voided.
fn after_a_busy_life() -> (World, tempfile::TempDir) {
    let world = World::new(cap_of(5));
    world.admit().unwrap().settle(end(Outcome::Complete, usage(100, 50)));
    world.flush();
    let lock = Connection::open(world.dir.path().join("openclawmu.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap(); // from here on nothing is written, as if the process died before
    let (settled, relayed, admitted, voided) =
        (world.admit().unwrap(), world.admit().unwrap(), world.admit().unwrap(), world.admit().unwrap());
    settled.settle(end(Outcome::Complete, usage(70, 10)));
    relayed.progress(&usage(40, 1));
    relayed.progress(&usage(40, 20));
    voided.settle(end(Outcome::Void, usage(0, 0)));
    let copy = tempfile::tempdir().unwrap();
    copy_dir(world.dir.path(), copy.path());
    lock.execute_batch("ROLLBACK").unwrap();
    drop((relayed, admitted));
    (world, copy)
}

#[test]
fn what_had_been_settled_is_exact_and_the_rest_is_billed_as_relayed_and_held() {
    let (world, copy) = after_a_busy_life();
    let mut conn = open::writable(&copy.path().join("openclawmu.db")).unwrap();
    resolve(&mut conn, copy.path());
    let books = Books::read(copy.path());
    let expected = [
        ("complete".to_owned(), RESERVED, NanoUsd::ZERO),
        ("complete".to_owned(), NanoUsd(90_000), NanoUsd::ZERO),
        ("recovered".to_owned(), NanoUsd(80_000), NanoUsd(120_000)),
        ("recovered".to_owned(), NanoUsd(40_000), NanoUsd(160_000)),
        ("void".to_owned(), NanoUsd::ZERO, NanoUsd::ZERO),
    ];
    assert_eq!(sorted(&books), expected);
    assert!(
        books.rows.values().all(|row| row.1 == (row.0 == "recovered")),
        "what is recovered is flagged as an estimate"
    );
    drop(conn);

    // What is held counts against the cap: 690,000 of 1,000,000 are used, one more fits and a second does not.
    let revived = world.revive(copy);
    let month = revived.status().usd_per_month;
    assert_eq!((month.posted, month.held, month.pending), (NanoUsd(410_000), NanoUsd(280_000), NanoUsd::ZERO));
    let tokens = revived.status().tokens_per_day;
    assert_eq!((tokens.posted, tokens.held), (150 + 80 + 60 + 40, 2 * RESERVED_TOKENS - 100));
    let one = revived.admit().unwrap();
    assert!(revived.admit().is_err());
    one.settle(end(Outcome::Void, usage(0, 0)));
    assert_eq!(revived.books().rows.len(), 6);
}

#[test]
fn recovery_is_the_same_however_often_it_runs() {
    let (world, copy) = after_a_busy_life();
    let tables = tempfile::tempdir().unwrap();
    copy_dir(copy.path(), tables.path());
    let mut world = world.revive(copy);
    let first = world.books();
    assert_eq!(first.rows.len(), 5);
    for _ in 0..3 {
        world = world.reopen();
        assert_eq!(world.books(), first);
    }
    // Killed again between the commit and the removal of the table: the table is there once more.
    let World { store, clock, dir, .. } = world;
    drop(store);
    fs::copy(tables.path().join(FOLDER).join("1"), dir.path().join(FOLDER).join("1")).unwrap();
    drop(open_at(dir.path(), &clock, std::time::Duration::ZERO).unwrap());
    assert_eq!(Books::read(dir.path()), first);
    assert!(!dir.path().join(FOLDER).join("1").exists());
}

fn journals(table: &Path) -> [std::path::PathBuf; 2] {
    ["settled-0", "settled-1"].map(|extension| table.with_extension(extension))
}

/// What a power loss leaves: what was synced in the journal, of the table any moment before, or nothing.
#[test]
fn d_01_rows_that_were_synced_and_not_committed_survive_a_power_loss_to_the_nano() {
    let (dir, mut conn) = workbench();
    let table = dir.path().join(FOLDER).join("7");
    let row = |id: i64, nanos: i64| settled_row(reserved(id), settlement(Outcome::Complete), NanoUsd(nanos));
    let stale = slot::encode(&reserved(1), &usage(40, 0));
    for (round, is_there) in [(0, true), (1, false)] {
        let base = round * 10;
        let [mut journal, mut next] = Journal::beside(&table);
        journal.append([row(base + 1, 5), row(base + 2, 7)].iter()).unwrap();
        next.append([row(base + 3, 11)].iter()).unwrap();
        let left = journals(&table).map(|path| fs::read(path).unwrap());
        for again in 0..2 {
            if is_there {
                // Of row 1 the table says only that it was in flight.
                fs::write(&table, stale).unwrap();
            }
            journals(&table).iter().zip(&left).for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
            resolve(&mut conn, dir.path());
            let books = Books::read(dir.path());
            let costs: Vec<i64> = books.rows.range(base..).map(|(_, row)| row.2.0).collect();
            assert_eq!(costs, [5, 7, 11], "round {round}, time {again}");
            assert!(books.rows.values().all(|row| row.0 == "complete" && row.3 == NanoUsd::ZERO));
            assert_eq!(fs::read_dir(dir.path().join(FOLDER)).unwrap().count(), 0, "nothing is left to do");
        }
    }
    // A tenant that the database has lost: a person decides.
    let [mut journal, _] = Journal::beside(&table);
    let mut orphan = row(30, 1);
    orphan.reservation.tenant = TenantKey(99);
    journal.append([orphan, row(31, 2)].iter()).unwrap();
    resolve(&mut conn, dir.path());
    let books = Books::read(dir.path());
    assert_eq!(books.rows.range(30..).map(|(id, _)| *id).collect::<Vec<_>>(), [31]);
    assert_eq!(journal::read(&dir.path().join(FOLDER).join("7")).unwrap(), []);
    assert!(dir.path().join(FOLDER).join("7.settled-0-orphans").exists());
}

/// A living owner's rows are its own to commit.
#[test]
fn a_journal_of_an_owner_that_lives_is_left_alone() {
    let (dir, mut conn) = workbench();
    let table = dir.path().join(FOLDER).join("7");
    let lock = FileLock::take(&table, std::time::Duration::ZERO).unwrap().unwrap();
    let row = settled_row(reserved(1), settlement(Outcome::Complete), NanoUsd(5));
    let [mut journal, _] = Journal::beside(&table);
    journal.append([row].iter()).unwrap();
    resolve(&mut conn, dir.path());
    assert_eq!((Books::read(dir.path()).rows.len(), journal::read(&table).unwrap().len()), (0, 1));
    drop(lock);
    resolve(&mut conn, dir.path());
    assert_eq!((Books::read(dir.path()).rows.len(), journal::read(&table).unwrap().len()), (1, 0));
}

#[test]
fn a_store_that_was_closed_leaves_no_table_and_no_holds() {
    let world = World::new(cap_of(5));
    world.admit().unwrap().settle(end(Outcome::Complete, usage(1, 1)));
    let dir = world.dir.path().to_owned();
    let world = world.reopen();
    assert_eq!(fs::read_dir(dir.join(FOLDER)).unwrap().count(), 1, "its own");
    assert_eq!(world.status().usd_per_month.posted, NanoUsd(3_000));
    assert_eq!(world.books().rows.len(), 1);
}

/// A database with tenant 1 on which thousands of recoveries can be tried: what is synced does not matter here.
fn workbench() -> (tempfile::TempDir, Connection) {
    let dir = scratch();
    fs::create_dir(dir.path().join(FOLDER)).unwrap();
    let mut conn = open::writable(&dir.path().join("openclawmu.db")).unwrap();
    migrate::run(&mut conn).unwrap();
    conn.pragma_update(None, "synchronous", "OFF").unwrap();
    add_tenant(dir.path(), 1);
    (dir, conn)
}

fn reserved(id: i64) -> Reservation {
    Reservation { tenant: TenantKey(1), reserved: RESERVED, reserved_tokens: RESERVED_TOKENS, ..reservation(id) }
}

/// The row that recovery makes of one slot; `None` when it makes none.
fn recovered_from(dir: &Path, conn: &mut Connection, slot: &[u8], id: i64) -> Option<Row> {
    let count =
        |conn: &Connection| conn.query_row("SELECT count(*) FROM ledger", [], |row| row.get::<_, i64>(0)).unwrap();
    let before = count(conn);
    for _ in 0..2 {
        // Twice, as after a crash of the recovery itself.
        fs::write(dir.join(FOLDER).join("7"), slot).unwrap();
        resolve(conn, dir);
    }
    let row = conn.query_row("SELECT outcome, cost_nanos, held_nanos FROM ledger WHERE id = ?1", [id], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
    });
    let row = row.ok();
    assert_eq!(count(conn) - before, i64::from(row.is_some()), "one row or none, and of this reservation");
    row
}

type Row = (String, i64, i64);

/// The tail that comes after one with 40 tokens relayed, and the row of it.
fn next_tail(id: i64, settled: bool) -> ([u8; SLOT_BYTES - TAIL_AT], Row) {
    let settlement = Settlement {
        outcome: Outcome::Complete,
        http_status: 200,
        estimated: false,
        usage: usage(100, 10),
        service_tier: ServiceTier::Standard,
        first_byte_ms: 1,
        duration_ms: 2,
    };
    let id = ReservationId(id);
    if settled {
        (slot::encode_settled(id, &settlement, NanoUsd(120_000)), ("complete".to_owned(), 120_000, 0))
    } else {
        (slot::encode_open(id, &usage(40, 20)), ("recovered".to_owned(), 80_000, 120_000))
    }
}

/// Nothing is known of it: all of it is held.
fn all_held() -> Row {
    ("recovered".to_owned(), 0, RESERVED.0)
}

/// What a killed process leaves of a tail is the old one, the new one, or none: then all that was reserved is held, and flagged.
#[test]
fn a_tail_whose_process_was_killed_between_any_two_stores_is_held_whole() {
    let (dir, mut conn) = workbench();
    let (mut id, mut torn) = (0, 0);
    for settled in [false, true] {
        let count = slot::stores(&next_tail(1, settled).0).count();
        assert!(count > (SLOT_BYTES - TAIL_AT) / 8, "every word of it");
        for stored in 0..=count {
            id += 1;
            let old = slot::encode(&reserved(id), &usage(40, 0));
            let (new, new_row) = next_tail(id, settled);
            let left = slot::tests::after_stores(old, TAIL_AT, &new, stored);
            let found = recovered_from(dir.path(), &mut conn, &left, id).expect("the head is whole");
            let expected = match stored {
                0 => ("recovered".to_owned(), 40_000, 160_000),
                _ if stored == count => new_row,
                _ => all_held(),
            };
            torn += usize::from(expected == all_held());
            assert_eq!(found, expected, "killed after {stored} stores");
        }
    }
    assert_eq!(torn, 2 * 16);
    let books = Books::read(dir.path());
    assert!(books.rows.values().all(|row| row.1 == (row.0 == "recovered")), "what is held is flagged as an estimate");
}

#[test]
fn a_slot_whose_process_was_killed_between_any_two_stores_is_no_reservation_until_the_last() {
    let (dir, mut conn) = workbench();
    let mut id = 0;
    let count = slot::stores(&[0; SLOT_BYTES]).count();
    for stored in 0..=count {
        id += 10;
        // The slot's former life is cleared, its row being durable, and a new one begins, where the clearing came to its end or not.
        let former = slot::encode(&reserved(id), &usage(40, 0));
        let cleared = slot::tests::after_stores(former, 0, &[0; SLOT_BYTES], stored);
        let found = recovered_from(dir.path(), &mut conn, &cleared, id);
        assert_eq!(found.is_some(), stored == 0, "killed after {stored} stores");
        for begun in [[0; SLOT_BYTES], former, cleared] {
            id += 1;
            let left = slot::tests::after_stores(begun, 0, &slot::encode(&reserved(id), &usage(40, 20)), stored.max(1));
            let found = recovered_from(dir.path(), &mut conn, &left, id);
            let expected = (stored == count).then(|| ("recovered".to_owned(), 80_000, 120_000));
            assert_eq!(found, expected, "killed after {stored} stores");
        }
    }
    Books::read(dir.path());
}

#[test]
fn a_tail_torn_at_any_byte_costs_neither_the_reservation_nor_a_settled_row() {
    let (dir, mut conn) = workbench();
    let mut id = 0;
    for settled in [false, true] {
        for at in 0..=SLOT_BYTES - TAIL_AT {
            for new_first in [true, false] {
                id += 1;
                let old = slot::encode(&reserved(id), &usage(40, 0));
                let (new, new_row) = next_tail(id, settled);
                let mut torn = old;
                let written = if new_first { 0..at } else { at..SLOT_BYTES - TAIL_AT };
                torn[TAIL_AT..][written.clone()].copy_from_slice(&new[written]);
                let found = recovered_from(dir.path(), &mut conn, &torn, id)
                    .expect("the head is whole: the reservation has a row");
                let expected = if torn[TAIL_AT..] == new {
                    new_row
                } else if torn == old {
                    ("recovered".to_owned(), 40_000, 160_000)
                } else {
                    all_held()
                };
                assert_eq!(found, expected, "torn at {at}");
            }
        }
    }
    Books::read(dir.path());
}

#[test]
fn a_head_torn_at_any_byte_is_no_reservation() {
    let (dir, mut conn) = workbench();
    let mut id = 0;
    for at in 0..=SLOT_BYTES {
        for new_first in [true, false] {
            id += 10;
            // The slot's former life: settled, its row durable, the slot freed.
            let mut torn =
                slot::encode(&Reservation { day: 3, input_bound: 9, attempt: 4, ..reserved(id + 1) }, &usage(9, 9));
            torn[..16].fill(0);
            let new = slot::encode(&reserved(id), &usage(40, 0));
            let written = if new_first { 0..at } else { at..SLOT_BYTES };
            torn[written.clone()].copy_from_slice(&new[written]);
            let found = recovered_from(dir.path(), &mut conn, &torn, id);
            if torn[..TAIL_AT] == new[..TAIL_AT] {
                let (cost, held) = if torn == new { (40_000, 160_000) } else { (0, RESERVED.0) };
                assert_eq!(found, Some(("recovered".to_owned(), cost, held)), "torn at {at}");
            } else {
                assert_eq!(found, None, "torn at {at}");
            }
        }
    }
    Books::read(dir.path());
}

#[test]
fn a_table_cut_short_or_full_of_noise_never_stops_the_start() {
    let (dir, mut conn) = workbench();
    let whole = slot::encode(&reserved(5), &usage(40, 0));
    for length in 0..SLOT_BYTES {
        assert_eq!(recovered_from(dir.path(), &mut conn, &whole[..length], 5), None);
    }
    let noise: Vec<u8> = (0..64 * SLOT_BYTES).map(|n| u8::try_from((n * n + n / 7) % 251).unwrap()).collect();
    assert_eq!(recovered_from(dir.path(), &mut conn, &noise, 5), None);
    assert!(recovered_from(dir.path(), &mut conn, &whole, 5).is_some());
    fs::write(dir.path().join(FOLDER).join("a note.txt"), "not a table").unwrap();
    resolve(&mut conn, dir.path());
    assert!(dir.path().join(FOLDER).join("a note.txt").exists(), "what is not a table is left alone");
}

/// After the loss of the newest commits the next owner gets a number that was in use, with that owner's table still there.
#[test]
fn an_owners_number_given_twice_costs_no_row() {
    let world = World::new(cap_of(100));
    let first = world.admit().unwrap();
    let copy = world.killed_now();
    first.settle(end(Outcome::Void, usage(0, 0)));
    let conn = Connection::open(copy.path().join("openclawmu.db")).unwrap();
    conn.execute_batch("DELETE FROM owners; DELETE FROM sqlite_sequence WHERE name = 'owners'").unwrap();
    drop(conn);
    let revived = world.revive(copy);
    for _ in 0..3 {
        revived.admit().unwrap().settle(end(Outcome::Complete, usage(100, 50)));
    }
    let books = revived.books();
    assert_eq!(books.rows.len(), 4, "one recovered and three of its own");
    assert_eq!(books.total().0.0 + books.total().1.0, RESERVED.0 * 4);
    let clean = revived.reopen();
    assert_eq!(clean.books(), books, "no slot of the dead owner is left in the table");
}

/// Commits of seven rows in the log, before the slots are kept and after.
const BEFORE: usize = 10;
const AFTER: usize = 3;

/// A log whose base is `dir`'s database file, the in-flight tables at a moment before its last commits, and the ids that the
/// slots hold settled.
struct Logged {
    base: tempfile::TempDir,
    log: Vec<u8>,
    in_slots: BTreeSet<i64>,
    orphan: i64,
}

/// Seven rows in one commit: the writer has nothing else to do until all of them are queued.
fn seven(world: &World) {
    let (begun, has_begun) = channel();
    let (queued, are_queued) = channel::<()>();
    std::thread::scope(|scope| {
        let hold = move |_: &rusqlite::Transaction<'_>| {
            begun.send(()).unwrap();
            let _all = are_queued.recv();
            Ok(())
        };
        scope.spawn(|| world.store.inner.writer().run_blocking(hold).unwrap());
        has_begun.recv().unwrap();
        for n in 0..7 {
            world.admit().unwrap().settle(end(Outcome::Complete, usage(n, n)));
        }
        drop(queued);
    });
    world.flush();
}

fn logged() -> Logged {
    let world = World::new(Quota::default());
    let dir = world.dir.path().to_owned();
    let world = world.reopen();
    let World { store, clock, dir: kept, .. } = world;
    drop(store);
    let checkpoint = Connection::open(dir.join("openclawmu.db")).unwrap();
    checkpoint
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0).map(|busy| assert_eq!(busy, 0)))
        .unwrap();
    drop(checkpoint);
    let base = tempfile::tempdir().unwrap();
    fs::copy(dir.join("openclawmu.db"), base.path().join("openclawmu.db")).unwrap();
    // While this snapshot is held, no checkpoint may touch the database file.
    let reader = Connection::open(dir.join("openclawmu.db")).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM ledger;").unwrap();
    let world = World::in_dir(&dir);
    add_tenant(&dir, 2);
    (0..BEFORE).for_each(|_| seven(&world));
    let lock = Connection::open(dir.join("openclawmu.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut in_slots = BTreeSet::new();
    for _ in 0..5 {
        let ticket = world.admit().unwrap();
        in_slots.insert(ticket.reservation().unwrap().id.0);
        ticket.settle(end(Outcome::Complete, usage(100, 50)));
    }
    let other = world.store.admit(&crate::Demand { tenant: TenantKey(2), ..world.demand() }).unwrap();
    let orphan = other.reservation().unwrap().id.0;
    other.settle(end(Outcome::Complete, usage(100, 50)));
    fs::create_dir(base.path().join(FOLDER)).unwrap();
    for table in fs::read_dir(dir.join(FOLDER)).unwrap().map(Result::unwrap) {
        let slots = fs::read(table.path()).unwrap();
        // The slots in use are the first ones; the rest are zeros.
        let used = slots.len() - slots.iter().rev().take_while(|byte| **byte == 0).count();
        fs::write(base.path().join(FOLDER).join(table.file_name()), &slots[..used.next_multiple_of(SLOT_BYTES)])
            .unwrap();
    }
    lock.execute_batch("ROLLBACK").unwrap();
    world.flush();
    (0..AFTER).for_each(|_| seven(&world));
    assert_eq!(
        fs::read(dir.join("openclawmu.db")).unwrap(),
        fs::read(base.path().join("openclawmu.db")).unwrap(),
        "a checkpoint came between"
    );
    let log = fs::read(dir.join("openclawmu.db-wal")).unwrap();
    drop((world, reader, clock, kept));
    Logged { base, log, in_slots, orphan }
}

#[test]
fn d_02_a_log_cut_at_any_offset_opens_as_a_prefix_and_the_slots_complete_what_is_missing() {
    let Logged { base, log, in_slots, orphan } = logged();
    assert!(log.len() > 200_000, "{}", log.len());
    let mut lengths = BTreeSet::new();
    // Every few hundred bytes, the ends of each frame (a header of 24 bytes and a page), and each byte of the log's head and
    // of one frame in its middle.
    let frame = |nth: usize| 32 + nth * (24 + 4_096);
    let middle = log.len() / frame(1) / 2;
    let mut cuts: BTreeSet<usize> = (0..log.len()).step_by(512).chain(log.len() - 1..=log.len()).collect();
    cuts.extend(
        (0..)
            .map(frame)
            .take_while(|end| *end <= log.len())
            .flat_map(|end| [end - 1, end, end + 24].map(|at| at.min(log.len()))),
    );
    cuts.extend((0..64).chain(frame(middle)..frame(middle) + 24 + 64).chain(frame(middle + 1) - 64..frame(middle + 1)));
    if std::env::var_os("OPENCLAWMU_SOAK").is_some_and(|soak| soak == "1") {
        cuts.extend(frame(middle)..=frame(middle + 1));
    }
    for (nth, cut) in cuts.into_iter().enumerate() {
        let dir = scratch();
        fs::create_dir(dir.path().join(FOLDER)).unwrap();
        fs::copy(base.path().join("openclawmu.db"), dir.path().join("openclawmu.db")).unwrap();
        for table in fs::read_dir(base.path().join(FOLDER)).unwrap().map(Result::unwrap) {
            fs::copy(table.path(), dir.path().join(FOLDER).join(table.file_name())).unwrap();
        }
        fs::write(dir.path().join("openclawmu.db-wal"), &log[..cut]).unwrap();
        if nth % 32 == 0 {
            // The whole store: it admits, and what it admits gets a row.
            let world = World::in_dir(dir.path());
            let before = world.books().rows.len();
            world.admit().unwrap().settle(end(Outcome::Complete, usage(1, 1)));
            assert_eq!(world.books().rows.len(), before + 1, "cut at {cut}");
            continue;
        }
        let mut conn = open::writable(&dir.path().join("openclawmu.db")).unwrap();
        conn.pragma_update(None, "synchronous", "OFF").unwrap();
        resolve(&mut conn, dir.path());
        let books = Books::read(dir.path());
        let ids: BTreeSet<i64> = books.rows.keys().copied().collect();
        assert!(in_slots.is_subset(&ids), "cut at {cut}");
        let set_aside = fs::read_dir(dir.path().join(FOLDER)).unwrap().count();
        assert_eq!(
            set_aside,
            usize::from(!ids.contains(&orphan)),
            "a reservation of a tenant that is lost is set aside, cut at {cut}"
        );
        let plain: Vec<i64> = ids.iter().copied().filter(|id| *id != orphan && !in_slots.contains(id)).collect();
        let first = plain.first().copied().unwrap_or_default();
        assert_eq!(plain.len() % 7, 0, "a commit is whole or absent, cut at {cut}");
        let gap = |nth: usize| if nth < BEFORE * 7 { 0 } else { 6 }; // the slots' ids lie between
        assert!(
            plain.iter().enumerate().all(|(nth, id)| *id == first + i64::try_from(nth + gap(nth)).unwrap()),
            "not a prefix, cut at {cut}"
        );
        lengths.insert(plain.len());
    }
    assert_eq!(
        lengths.into_iter().collect::<Vec<_>>(),
        (0..=BEFORE + AFTER).map(|batches| batches * 7).collect::<Vec<_>>(),
        "every commit was cut off once"
    );
}

#[test]
fn a_killed_world_opens_where_a_clock_went_back() {
    let world = World::new(cap_of(1));
    let ticket = world.admit().unwrap();
    let copy = world.killed_now();
    ticket.settle(end(Outcome::Void, usage(0, 0)));
    let clock = std::sync::Arc::new(ManualClock::new(super::world::at("2026-11-17T12:00:00Z")));
    let store = open_at(copy.path(), &clock, std::time::Duration::ZERO).unwrap();
    let yesterday = World { clock, ..world.beside(store, WorldDir::Own(copy)) };
    assert!(yesterday.admit().is_err(), "the month's cap is held by what was in flight");
    let (day, month) = (yesterday.status().usd_per_day, yesterday.status().usd_per_month);
    assert_eq!(day.posted.0 + day.held.0, RESERVED.0, "the newest day goes on");
    assert_eq!(month.posted.0 + month.held.0, RESERVED.0);
}

#[test]
fn whom_a_request_in_flight_was_for_outlives_its_process() {
    let world = World::new(cap_of(5));
    let lock = Connection::open(world.dir.path().join("openclawmu.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap(); // nothing is stored any more
    let admit = |user: &str, tag: &str| {
        let mut label = crate::Label::default();
        label.set_user(user);
        label.add_tag(tag);
        let key = world.store.label_key(world.tenant, &label);
        world.store.admit(&crate::Demand { label: key, ..world.demand() }).unwrap()
    };
    let (open, settled) = (admit("ann", "night run"), admit("bob", "day run"));
    settled.settle(end(Outcome::Complete, usage(100, 50)));
    let copy = tempfile::tempdir().unwrap();
    copy_dir(world.dir.path(), copy.path());
    lock.execute_batch("ROLLBACK").unwrap();
    let revived = world.revive(copy);
    assert_eq!(revived.books().rows.len(), 2);
    let conn = Connection::open(revived.dir.path().join("openclawmu.db")).unwrap();
    let mut statement = conn
        .prepare("SELECT user, tag FROM ledger JOIN labels l ON l.key = label JOIN label_tags t ON t.key = l.key ORDER BY id")
        .unwrap();
    let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let found: Vec<(String, String)> = found.map(Result::unwrap).collect();
    assert_eq!(found, [("ann".to_owned(), "night run".to_owned()), ("bob".to_owned(), "day run".to_owned())]);
    let files = |world: &World| fs::read_dir(world.dir.path().join(FOLDER)).unwrap().count();
    assert_eq!(files(&revived), 1, "the dead owner's labels are gone with its table");
    open.settle(end(Outcome::Void, usage(0, 0)));
    world.flush();
    assert_eq!(files(&world), 2);
    let closed = world.reopen();
    assert_eq!(files(&closed), 1, "and a closed one's");
}
