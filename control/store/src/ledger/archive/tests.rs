//! What holds when months of rows are moved.

use rusqlite::Connection;

use super::*;
use crate::ledger::tests::world::{World, at, end, usage};
use crate::scene::operator;
use crate::{Label, Outcome, Quota, Refused};

const OCTOBER: Month = Month(681);
const NOVEMBER: Month = Month(682);

/// A world with `rows` rows in each of October and November 2026, which is in December.
fn after(rows: u32) -> World {
    let world = World::new(Quota::default());
    for moment in ["2026-10-31T12:00:00Z", "2026-11-18T12:00:00Z"] {
        world.clock.set(at(moment));
        bill(&world, rows);
    }
    world.clock.set(at("2026-12-05T12:00:00Z"));
    world
}

fn bill(world: &World, rows: u32) {
    let mut label = Label::default();
    label.set_user("=ann");
    label.add_tag("blue");
    let label = world.store.label_key(world.tenant, &label);
    for n in 0..rows {
        let ticket = world.store.admit(&crate::Demand { label, ..world.demand() }).unwrap();
        ticket.settle(end(Outcome::Complete, usage(n % 90, 7)));
    }
    world.flush();
}

fn sql(world: &World) -> Connection {
    let conn = Connection::open(world.dir.path().join("openclawmu.db")).unwrap();
    conn.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    conn
}

fn count(world: &World, what: &str) -> i64 {
    sql(world).query_row(&format!("SELECT count(*) FROM {what}"), [], |row| row.get(0)).unwrap()
}

fn kept_sums(world: &World) -> Vec<(i32, i64, i64)> {
    let conn = sql(world);
    let mut statement = conn.prepare("SELECT month, attempts, cost_nanos FROM usage_days ORDER BY month").unwrap();
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap().map(Result::unwrap).collect()
}

#[test]
fn a_month_leaves_the_ledger_for_a_file_and_its_sums_stay() {
    let world = after(5_000);
    let (before, cost): (_, i64) = (
        kept_sums(&world),
        sql(&world).query_row("SELECT sum(cost_nanos) FROM ledger WHERE month = 681", [], |row| row.get(0)).unwrap(),
    );
    assert_eq!(world.store.archivable(2).unwrap(), [OCTOBER]);
    let archive = world.store.archive(&operator(), OCTOBER).unwrap().unwrap();
    assert_eq!((archive.rows, archive.cost_usd, archive.part), (5_000, NanoUsd(cost), 1));
    assert_eq!(archive.file, "archive/ledger-2026-10.jsonl.zst");
    assert_eq!((count(&world, "ledger WHERE month = 681"), count(&world, "ledger WHERE month = 682")), (0, 5_000));
    assert_eq!(
        count(&world, "ledger_by_tenant WHERE id NOT IN (SELECT id FROM ledger)"),
        0,
        "entries go with their rows"
    );
    assert_eq!(count(&world, "ledger_by_tenant"), 5_000);
    assert_eq!(kept_sums(&world), before, "sums stay");
    assert_eq!(world.store.archivable(2).unwrap(), []);
    assert_eq!(world.store.archive(&operator(), OCTOBER).unwrap(), None, "there is nothing left to move");
    assert_eq!(world.store.archives().unwrap().as_slice(), std::slice::from_ref(&archive));
    assert_eq!(count(&world, "audit_outbox WHERE action = 'ledger.archive'"), 1);

    let path = world.dir.path().join(&archive.file);
    assert_eq!(file::read_back(&path).unwrap().sha256, archive.sha256);
    let text = zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap();
    let first: serde_json::Value = serde_json::from_slice(text.split(|&byte| byte == b'\n').next().unwrap()).unwrap();
    for (column, value) in [
        ("tenant_id", json!("t1")),
        ("user", json!("=ann")),
        ("tags", json!(["blue"])),
        ("outcome", json!("complete")),
        ("output_tokens", json!(7)),
    ] {
        assert_eq!(first[column], value, "{column}");
    }
}

#[test]
fn only_what_a_file_holds_may_leave_the_ledger() {
    let world = after(3);
    world.store.archive(&operator(), OCTOBER).unwrap().unwrap();
    let err = sql(&world).execute("DELETE FROM ledger WHERE month = 682", []).unwrap_err().to_string();
    assert!(err.contains("never change"), "{err}");
    // A row of the archived month that came after its file was written.
    world.clock.set(at("2026-10-31T12:00:00Z"));
    let fresh = World { tenant: crate::TenantKey(2), ..world.reopen() };
    crate::ledger::tests::world::add_tenant(fresh.dir.path(), 2);
    bill(&fresh, 1);
    let err = sql(&fresh).execute("DELETE FROM ledger WHERE month = 681", []).unwrap_err().to_string();
    assert!(err.contains("never change"), "{err}");
    fresh.clock.set(at("2026-12-05T12:00:00Z"));
    let second = fresh.store.archive(&operator(), OCTOBER).unwrap().unwrap();
    assert_eq!((second.part, second.rows, second.file.as_str()), (2, 1, "archive/ledger-2026-10.2.jsonl.zst"));
    assert_eq!(count(&fresh, "ledger WHERE month = 681"), 0);
}

#[test]
fn a_month_that_is_not_final_is_refused() {
    let world = after(1);
    let conflict = |month| matches!(world.store.archive(&operator(), month), Err(StoreError::Conflict(_)));
    assert!(conflict(Month(683)), "it has not ended");
    world.clock.set(at("2026-12-01T11:59:59Z"));
    assert!(conflict(NOVEMBER), "it is still November at 180 degrees west");
    world.clock.set(at("2026-11-30T23:59:00Z"));
    let open = world.admit().unwrap();
    world.clock.set(at("2026-12-05T12:00:00Z"));
    assert!(conflict(NOVEMBER), "a request of November is in flight");
    open.settle(end(Outcome::Complete, usage(1, 1)));
    world.flush();
    assert_eq!(world.store.archive(&operator(), NOVEMBER).unwrap().unwrap().rows, 2);
}

#[test]
fn a_removal_that_was_interrupted_is_taken_up_again() {
    let world = after(4_500);
    world.store.check_final(OCTOBER).unwrap();
    std::fs::create_dir(world.dir.path().join(FOLDER)).unwrap();
    let archive = world.store.write_file(OCTOBER).unwrap().unwrap();
    assert_eq!(count(&world, "ledger"), 9_000, "nothing leaves before the database knows of the file");
    world.store.acknowledge(&operator(), archive).unwrap();
    let world = world.reopen();
    assert_eq!(world.store.archivable(2).unwrap(), [OCTOBER], "it is known and not done");
    assert_eq!(world.store.archive(&operator(), OCTOBER).unwrap(), None);
    assert_eq!((count(&world, "ledger"), count(&world, "archives")), (4_500, 1));
}

#[test]
fn sums_that_disagree_with_the_rows_stop_it() {
    let world = after(2);
    sql(&world).execute("UPDATE usage_days SET cost_nanos = cost_nanos + 1 WHERE month = 681", []).unwrap();
    assert!(matches!(world.store.archive(&operator(), OCTOBER), Err(StoreError::Corrupt(_))));
    assert_eq!((count(&world, "ledger"), count(&world, "archives")), (4, 0));
}

#[test]
fn requests_go_on_while_a_month_is_moved() {
    let world = after(4_000);
    std::thread::scope(|scope| {
        let moving = scope.spawn(|| world.store.archive(&operator(), OCTOBER).unwrap().unwrap());
        let mut served = 0;
        while !moving.is_finished() {
            match world.admit() {
                Ok(ticket) => {
                    ticket.settle(end(Outcome::Complete, usage(1, 1)));
                    served += 1;
                }
                Err(Refused::Unavailable(_)) => world.flush(),
                Err(other) => panic!("{other:?}"),
            }
        }
        assert!(served > 0);
        assert_eq!(moving.join().unwrap().rows, 4_000);
        world.flush();
        assert_eq!(count(&world, "ledger WHERE month = 683"), served);
    });
}
