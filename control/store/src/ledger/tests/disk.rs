//! No space left: refuse, keep, heal.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use super::world::{RESERVED, World, add_tenant, end, eventually, usage};
use crate::sqlite::open;
use crate::{NanoUsd, Outcome, Refused};

/// A file system of its own, in memory; unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir.path())
            .output();
        let done = done.expect("`mount` can't be run; this test needs it");
        let why = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(
            done.status.success(),
            "this test fills a small tmpfs up and must be allowed to mount one (run it as root): {why}"
        );
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all the space that is left.
    fn fill(&self) {
        let mut ballast = OpenOptions::new().create(true).append(true).open(self.path().join("ballast")).unwrap();
        let mut piece = vec![1_u8; 1 << 20];
        while !piece.is_empty() {
            if ballast.write_all(&piece).is_err() {
                piece.truncate(piece.len() / 2);
            }
        }
    }

    /// Gives it back.
    fn clear(&self) {
        File::create(self.path().join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazy: a failed test may still have files open.
        Command::new("umount").arg("-l").arg(self.path()).status().unwrap();
    }
}

const SIZE: &str = "4m";

/// A reader of the database as it is at this moment, until it is dropped.
fn reader(dir: &Path) -> rusqlite::Connection {
    let conn = open::read_only(&dir.join("openclawmu.db")).unwrap();
    conn.execute_batch("BEGIN; SELECT count(*) FROM owners").unwrap();
    conn
}

/// Readers that keep the log from being begun anew: a full disk would take commits again, in the log's old place, as soon as that
/// is copied into the database.
///
/// One that finds the whole log copied does not need it (sqlite.org/walformat.html, 2.3.1), but nothing is copied while it reads: the
/// one that comes after the next commit needs it.
fn readers_of_the_log(world: &World, dir: &Path) -> [rusqlite::Connection; 2] {
    let first = reader(dir);
    world.admit().unwrap().settle(end(Outcome::Complete, usage(100, 50)));
    world.flush();
    [first, reader(dir)]
}

#[test]
fn d_03_a_full_disk_refuses_admissions_keeps_every_settled_row_and_heals_by_itself() {
    let disk = SmallDisk::mount(SIZE);
    let world = World::in_dir(disk.path());
    add_tenant(disk.path(), 1);
    let mut rows = 0;
    for round in 0..3 {
        let readers = readers_of_the_log(&world, disk.path());
        rows += 1;
        disk.fill();
        let mut open = Vec::new();
        eventually("the full disk is noticed", || {
            match world.admit() {
                Ok(ticket) if open.len() < 50 => open.push(ticket),
                Ok(ticket) => {
                    rows += 1;
                    ticket.settle(end(Outcome::Complete, usage(100, 50)));
                }
                Err(refused) => assert!(matches!(refused, Refused::Unavailable(_)), "{refused:?}"),
            }
            !world.store.healthy()
        });
        assert!(matches!(world.admit(), Err(Refused::Unavailable(_))));
        assert!(super::world::flush(&world.store).is_err(), "nothing is acknowledged");
        let month = world.status().usd_per_month;
        assert_eq!(month.posted, NanoUsd(RESERVED.0 * rows), "reads go on, and are right");
        // What is in flight still ends.
        for ticket in open {
            rows += 1;
            ticket.settle(end(Outcome::Complete, usage(100, 50)));
        }
        disk.clear();
        eventually("the store heals", || world.store.healthy());
        let books = world.books();
        assert_eq!(i64::try_from(books.rows.len()).unwrap(), rows, "round {round}");
        assert_eq!(books.total(), (NanoUsd(RESERVED.0 * rows), NanoUsd::ZERO));
        drop(readers);
    }
    world.admit().unwrap().settle(end(Outcome::Complete, usage(100, 50)));
    assert_eq!(world.store.in_flight(), 1);
    world.flush();
    assert_eq!(world.store.in_flight(), 0);
}

#[test]
fn d_03_rows_that_a_full_disk_kept_from_the_ledger_are_there_after_a_restart() {
    let disk = SmallDisk::mount(SIZE);
    let world = World::in_dir(disk.path());
    add_tenant(disk.path(), 1);
    disk.fill();
    let mut rows = 0;
    eventually("the full disk is noticed", || {
        if let Ok(ticket) = world.admit() {
            rows += 1;
            ticket.settle(end(Outcome::Complete, usage(100, 50)));
        }
        !world.store.healthy()
    });
    assert!(rows > 0);
    let World { store, .. } = world;
    drop(store); // what could not be written stays in the in-flight table
    disk.clear();
    let world = World::in_dir(disk.path());
    let books = world.books();
    assert_eq!(books.rows.len(), rows);
    assert!(books.rows.values().all(|row| row.0 == "complete" && row.2 == RESERVED && row.3 == NanoUsd::ZERO));
}

#[test]
fn a_disk_too_small_for_the_in_flight_table_refuses_to_start_with_a_hint() {
    let disk = SmallDisk::mount("1m");
    let clock = std::sync::Arc::new(crate::ManualClock::new(super::world::at(super::world::NOON)));
    let err = super::world::open_at(disk.path(), &clock, std::time::Duration::ZERO).unwrap_err().to_string();
    assert!(err.contains("inflight") && err.contains("free space"), "{err}");
}

#[test]
fn a_full_table_on_a_full_disk_refuses_and_grows_once_there_is_room() {
    let disk = SmallDisk::mount(SIZE);
    let world = World::in_dir(disk.path());
    add_tenant(disk.path(), 1);
    world.admit().unwrap().settle(end(Outcome::Void, usage(0, 0)));
    world.flush();
    disk.fill();
    let mut open = Vec::new();
    let refused = loop {
        match world.admit() {
            Ok(ticket) => open.push(ticket),
            Err(refused) => break refused,
        }
    };
    assert!(matches!(&refused, Refused::Unavailable(why) if why.contains("table is full")), "{refused:?}");
    let first = open.len();
    assert!(first >= 4_000, "as many as the table began with: {first}");
    assert_eq!(world.status().usd_per_month.pending, NanoUsd(RESERVED.0 * i64::try_from(first).unwrap()));
    disk.clear();
    open.push(world.admit().unwrap());
    let rows = open.len() + 1;
    for ticket in open {
        ticket.settle(end(Outcome::Complete, usage(100, 50)));
    }
    eventually("every row is durable", || world.store.healthy() && super::world::flush(&world.store).is_ok());
    assert_eq!(world.books().rows.len(), rows);
}
