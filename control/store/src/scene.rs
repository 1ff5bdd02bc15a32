//! A real store in a directory of its own, under a clock that the test moves.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::types::Value;
use tempfile::TempDir;

use crate::audit::{Actor, ActorKind};
use crate::clock::{Clock, ManualClock, UnixMs};
use crate::error::Result;
use crate::id::TenantId;
use crate::sqlite::open;
use crate::store::{Durability, Store, StoreOptions};
use crate::tenant::{NewTenant, Tenant};
use crate::token::{NewToken, PlainToken, Token};

/// Where callers come from unless a test says otherwise.
pub(crate) const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(crate) struct Scene {
    pub(crate) store: Store,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) dir: TempDir,
}

impl Scene {
    /// A new store; it is noon of 22 November 2026, UTC.
    pub(crate) fn new() -> Self {
        let clock = Arc::new(ManualClock::new(UnixMs::parse_rfc3339("2026-11-22T12:00:00Z").unwrap()));
        let dir = tempfile::tempdir().unwrap();
        Self { store: open_in(dir.path().to_owned(), &clock).unwrap(), clock, dir }
    }

    /// The same directory after a restart.
    pub(crate) fn restarted(self) -> Result<Self> {
        let Self { store, clock, dir } = self;
        drop(store);
        Ok(Self { store: open_in(dir.path().to_owned(), &clock)?, clock, dir })
    }

    pub(crate) fn tenant(&self, id: &str) -> (Tenant, Token, PlainToken) {
        let new = NewTenant { id: Some(id.parse().unwrap()), ..NewTenant::default() };
        self.store.create_tenant(&operator(), new, NewToken::default()).wait().unwrap()
    }

    pub(crate) fn now(&self) -> UnixMs {
        self.clock.now()
    }

    /// Moves the clock, in either direction.
    pub(crate) fn move_ms(&self, ms: i64) {
        self.clock.set(self.now().plus_ms(ms));
    }

    /// A connection of the test's own.
    pub(crate) fn sql(&self) -> Connection {
        open::read_only(&self.dir.path().join("openclawmu.db")).unwrap()
    }

    /// Every row of every table.
    pub(crate) fn dump(&self) -> Vec<(String, Vec<Value>)> {
        let conn = self.sql();
        let mut tables = conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").unwrap();
        let tables: Vec<String> = tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let mut dump = Vec::new();
        for table in tables {
            let mut statement = conn.prepare(&format!("SELECT * FROM {table}")).unwrap();
            let columns = statement.column_count();
            let mut rows = statement.query([]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                dump.push((table.clone(), (0..columns).map(|column| row.get(column).unwrap()).collect()));
            }
        }
        dump
    }

    /// Action, tenant, target and detail of every audit row, oldest first.
    pub(crate) fn audit(&self) -> Vec<(String, Option<String>, Option<String>, String)> {
        let conn = self.sql();
        let mut statement =
            conn.prepare("SELECT action, tenant, target, detail FROM audit_outbox ORDER BY seq").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).unwrap();
        rows.map(Result::unwrap).collect()
    }
}

pub(crate) fn operator() -> Actor {
    Actor { kind: ActorKind::Operator, id: "test".to_owned(), ip: Some(HERE), request_id: Some("req_1".to_owned()) }
}

pub(crate) fn tenant_id(id: &str) -> TenantId {
    id.parse().unwrap()
}

fn open_in(dir: PathBuf, clock: &Arc<ManualClock>) -> Result<Store> {
    let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
    Store::open(&StoreOptions { dir, clock, takeover: Duration::from_secs(5), durability: Durability::default() })
}
