//! A store with one tenant, and the books as any SQLite client reads them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tempfile::TempDir;

use crate::id::{LabelKey, TenantKey, TokenKey};
use crate::ledger::rollup::USAGE_COLUMNS;
use crate::{
    Bound, Demand, Durability, End, ManualClock, Markup, ModelPrice, NanoUsd, Outcome, Quota, QuotaStatus, Refused,
    RequestId, ServiceTier, Store, StoreOptions, Ticket, UnixMs, Usage, Zone,
};

/// A Wednesday at noon, UTC.
pub(crate) const NOON: &str = "2026-11-18T12:00:00Z";
/// What [`World::demand`] asks for at most.
pub(crate) const BOUND: Bound = Bound::tokens(100, 50);
/// What that costs: 1,000 nanos a prompt token, 2,000 an answer token.
pub(crate) const RESERVED: NanoUsd = NanoUsd(200_000);
/// Tokens of [`BOUND`].
pub(crate) const RESERVED_TOKENS: u64 = 150;

pub(crate) fn at(text: &str) -> UnixMs {
    UnixMs::parse_rfc3339(text).unwrap()
}

pub(crate) fn price() -> ModelPrice {
    ModelPrice::flat(NanoUsd(1_000_000_000), NanoUsd(2_000_000_000))
}

pub(crate) fn usage(input: u32, output: u32) -> Usage {
    Usage { input, output, ..Usage::default() }
}

pub(crate) fn end(outcome: Outcome, usage: Usage) -> End {
    End {
        outcome,
        http_status: 200,
        estimated: outcome == Outcome::Partial,
        usage,
        service_tier: ServiceTier::Standard,
        first_byte_ms: 1,
    }
}

/// No quota but a cap of `requests` requests' upper bounds a month.
pub(crate) fn cap_of(requests: i64) -> Quota {
    Quota { usd_per_month: Some(NanoUsd(RESERVED.0 * requests)), ..Quota::default() }
}

pub(crate) fn open_at(dir: &Path, clock: &Arc<ManualClock>, takeover: Duration) -> crate::Result<Store> {
    let clock = Arc::clone(clock);
    Store::open(&StoreOptions { dir: dir.to_owned(), clock, takeover, durability: Durability::Process })
}

/// Makes `condition` true or fails after half a minute.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}

pub(crate) fn flush(store: &Store) -> crate::Result<()> {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(store.flush())
}

/// A tenant's row, as the registry would write it.
pub(crate) fn add_tenant(dir: &Path, key: i64) {
    let conn = Connection::open(dir.join("openclawmu.db")).unwrap();
    conn.busy_timeout(Duration::from_secs(10)).unwrap();
    conn.execute(
        "INSERT INTO tenants VALUES (?1, 't' || ?1, 't', 'active', 'UTC', '{}', NULL, '{}', 1, 0, 0, NULL, 0, NULL, NULL)",
        [key],
    )
    .unwrap();
}

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) quota: Arc<Quota>,
    pub(crate) zone: Zone,
    pub(crate) price: Arc<ModelPrice>,
    pub(crate) tenant: TenantKey,
    pub(crate) dir: WorldDir,
}

/// A directory that is removed with its world, or is not.
pub(crate) enum WorldDir {
    Own(TempDir),
    Borrowed(PathBuf),
}

impl WorldDir {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Own(dir) => dir.path(),
            Self::Borrowed(dir) => dir,
        }
    }
}

/// A directory in memory, where there is one: for what is tried a thousand times, and where a sync makes no difference, since
/// it is a process that dies and not the machine.
pub(crate) fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

impl World {
    pub(crate) fn new(quota: Quota) -> Self {
        Self::on(tempfile::tempdir().unwrap(), quota)
    }

    /// A new store in `dir`.
    pub(crate) fn on(dir: TempDir, quota: Quota) -> Self {
        let clock = Arc::new(ManualClock::new(at(NOON)));
        let store = open_at(dir.path(), &clock, Duration::ZERO).unwrap();
        add_tenant(dir.path(), 1);
        Self {
            store,
            clock,
            quota: Arc::new(quota),
            zone: Zone::utc(),
            price: Arc::new(price()),
            tenant: TenantKey(1),
            dir: WorldDir::Own(dir),
        }
    }

    /// A store without a quota in `dir`, for a process of its own; the tenant is added by whoever starts it.
    pub(crate) fn in_dir(dir: &Path) -> Self {
        let clock = Arc::new(ManualClock::new(at(NOON)));
        let store = open_at(dir, &clock, Duration::ZERO).unwrap();
        let dir = WorldDir::Borrowed(dir.to_owned());
        Self {
            store,
            clock,
            quota: Arc::default(),
            zone: Zone::utc(),
            price: Arc::new(price()),
            tenant: TenantKey(1),
            dir,
        }
    }

    /// The same tenant in another store.
    pub(crate) fn beside(&self, store: Store, dir: WorldDir) -> Self {
        let (clock, quota, price) = (Arc::clone(&self.clock), Arc::clone(&self.quota), Arc::clone(&self.price));
        Self { store, clock, quota, zone: self.zone.clone(), price, tenant: self.tenant, dir }
    }

    /// Closes the store and opens it again.
    pub(crate) fn reopen(self) -> Self {
        let Self { store, clock, quota, zone, price, tenant, dir } = self;
        drop(store);
        let store = open_at(dir.path(), &clock, Duration::ZERO).unwrap();
        Self { store, clock, quota, zone, price, tenant, dir }
    }

    pub(crate) fn demand(&self) -> Demand<'_> {
        Demand {
            request_id: RequestId(7),
            attempt: 0,
            stream: true,
            tenant: self.tenant,
            token: TokenKey(1),
            quota: &self.quota,
            zone: &self.zone,
            model: 1,
            upstream: 2,
            price: &self.price,
            rate_card: 1,
            bound: BOUND,
            prompt_estimate: 40,
            service_tier: ServiceTier::Standard,
            label: LabelKey::default(),
            markup: Markup::default(),
            cap: None,
        }
    }

    pub(crate) fn admit(&self) -> Result<Ticket, Refused> {
        self.store.admit(&self.demand())
    }

    pub(crate) fn status(&self) -> QuotaStatus {
        self.store.quota_status_of(self.tenant, &self.quota, &self.zone).unwrap()
    }

    pub(crate) fn flush(&self) {
        flush(&self.store).unwrap();
    }

    pub(crate) fn set_quota(&mut self, change: impl FnOnce(&mut Quota)) {
        let mut quota = *self.quota;
        change(&mut quota);
        self.quota = Arc::new(quota);
    }

    /// The books, once everything queued is durable.
    pub(crate) fn books(&self) -> Books {
        self.flush();
        Books::read(self.dir.path())
    }

    /// Copies what a process that is killed at this moment leaves: the database, its log and the in-flight tables.
    pub(crate) fn killed_now(&self) -> TempDir {
        let copy = tempfile::tempdir_in(self.dir.path().parent().unwrap()).unwrap();
        let conn = Connection::open(self.dir.path().join("openclawmu.db")).unwrap();
        conn.busy_timeout(Duration::from_secs(10)).unwrap();
        // Nobody else writes while the files are copied, so that the copy is of one moment.
        conn.execute_batch("BEGIN IMMEDIATE").unwrap();
        copy_dir(self.dir.path(), copy.path());
        conn.execute_batch("ROLLBACK").unwrap();
        copy
    }

    /// Opens what [`World::killed_now`] left.
    pub(crate) fn revive(&self, dir: TempDir) -> Self {
        let store = open_at(dir.path(), &self.clock, Duration::ZERO).unwrap();
        self.beside(store, WorldDir::Own(dir))
    }
}

pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.join("inflight")).unwrap();
    for name in ["openclawmu.db", "openclawmu.db-wal"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
    for table in std::fs::read_dir(from.join("inflight")).unwrap() {
        let table = table.unwrap();
        std::fs::copy(table.path(), to.join("inflight").join(table.file_name())).unwrap();
    }
}

/// A row's outcome, whether it is an estimate, its cost and what is held.
pub(crate) type Row = (String, bool, NanoUsd, NanoUsd);

/// A window's posted nanos, held nanos, posted tokens and held tokens.
pub(crate) type Sums = (i64, i64, i64, i64);

/// What the database says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Books {
    pub(crate) rows: BTreeMap<i64, Row>,
    pub(crate) windows: BTreeMap<(i64, String, i32), Sums>,
}

impl Books {
    /// Reads the books and holds them to the rules that always hold: the file is sound, windows and the kept sums by day are
    /// the sums of rows.
    pub(crate) fn read(dir: &Path) -> Self {
        let conn = Connection::open(dir.join("openclawmu.db")).unwrap();
        conn.busy_timeout(Duration::from_secs(10)).unwrap();
        conn.execute_batch("BEGIN").unwrap(); // one snapshot
        let sound: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(sound, "ok");
        let mut statement = conn.prepare("SELECT id, outcome, estimated, cost_nanos, held_nanos FROM ledger").unwrap();
        let rows = statement
            .query_map([], |row| {
                Ok((row.get(0)?, (row.get(1)?, row.get(2)?, NanoUsd(row.get(3)?), NanoUsd(row.get(4)?))))
            })
            .unwrap();
        let windows = sums(
            &conn,
            "SELECT tenant, kind, number, posted_nanos, held_nanos, posted_tokens, held_tokens FROM windows",
        );
        let tokens = "input_tokens + cache_read_tokens + cache_write_tokens + cache_write_1h_tokens + output_tokens + reasoning_tokens
            + input_audio_tokens + output_audio_tokens + input_image_tokens + output_image_tokens";
        let of_rows = |kind: &str| {
            let sql = format!(
                "SELECT tenant, '{kind}', {kind}, sum(cost_nanos), sum(held_nanos), sum({tokens}), sum(held_tokens) FROM ledger GROUP BY 1, 3"
            );
            sums(&conn, &sql)
        };
        let mut expected = of_rows("day");
        expected.append(&mut of_rows("month"));
        assert_eq!(windows, expected, "windows are not the sums of their rows");
        kept_sums_are_those_of_the_rows(&conn);
        same(
            &conn,
            "SELECT tenant, admitted_at_ms, id FROM ledger",
            "SELECT tenant, admitted_at_ms, id FROM ledger_by_tenant",
        );
        Self { rows: rows.map(Result::unwrap).collect(), windows }
    }

    /// Posted and held of all rows.
    pub(crate) fn total(&self) -> (NanoUsd, NanoUsd) {
        (self.rows.values().map(|row| row.2).sum(), self.rows.values().map(|row| row.3).sum())
    }
}

fn sums(conn: &Connection, sql: &str) -> BTreeMap<(i64, String, i32), Sums> {
    let mut statement = conn.prepare(sql).unwrap();
    let rows = statement
        .query_map([], |row| {
            Ok(((row.get(0)?, row.get(1)?, row.get(2)?), (row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?)))
        })
        .unwrap();
    rows.map(Result::unwrap).collect()
}

/// Compares `usage_days` with what the rows say, key by key and column by column.
fn kept_sums_are_those_of_the_rows(conn: &Connection) {
    const KEYS: &str = "month, tenant, day, model, upstream, token, rate_card, label";
    let sums = [&USAGE_COLUMNS[..], &["cost_nanos", "markup_nanos", "held_nanos"]].concat();
    let of_rows: Vec<String> = sums.iter().map(|column| format!("sum({column})")).collect();
    let expected = format!(
        "SELECT {KEYS}, sum(attempt = 0 AND outcome NOT IN ('credit', 'resolved')), sum(outcome NOT IN ('credit', 'resolved')),
            sum(estimated), {} FROM ledger GROUP BY {KEYS}",
        of_rows.join(", ")
    );
    let kept = format!("SELECT {KEYS}, requests, attempts, estimated_rows, {} FROM usage_days", sums.join(", "));
    same(conn, &expected, &kept);
}

/// Two queries have the same distinct rows.
pub(crate) fn same(conn: &Connection, one: &str, other: &str) {
    for (one, other) in [(one, other), (other, one)] {
        let sql = format!("SELECT count(*) FROM ({one} EXCEPT {other})");
        let differing: i64 = conn.query_row(&sql, [], |row| row.get(0)).unwrap();
        assert_eq!(differing, 0, "{sql}");
    }
}
