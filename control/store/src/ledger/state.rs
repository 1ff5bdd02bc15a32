//! The parts of the ledger together.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock, RwLock};

use crate::clock::Clock;
use crate::error::{Result, StoreError};
use crate::id::TenantKey;
use crate::ledger::alert::Alerts;
use crate::ledger::budget::Budget;
use crate::ledger::inflight::{self, InflightTable};
use crate::ledger::row;
use crate::ledger::syncer::Syncer;
use crate::sqlite::open;
use crate::sqlite::writer::{Posting, Writer};

/// This process's ledger. Every open ticket holds it, so it outlives the store until the last one is settled.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) table: Arc<InflightTable>,
    pub(crate) syncer: Option<Syncer>,
    pub(crate) budgets: RwLock<HashMap<TenantKey, Arc<Budget>>>,
    pub(crate) epoch: u32,
    pub(crate) count: AtomicU64,
    pub(crate) draining: RwLock<bool>,
    pub(crate) alerts: OnceLock<Alerts>,
    pub(crate) clock: Arc<dyn Clock>,
    writer: Arc<Writer>,
}

impl Ledger {
    /// Opens owner `epoch`'s in-flight table and the writer that frees its slots.
    pub(crate) fn open(database: &Path, data: &Path, epoch: u32, power: bool, clock: Arc<dyn Clock>) -> Result<Self> {
        let table = Arc::new(InflightTable::create(&data.join(inflight::FOLDER), epoch, inflight::CAPACITY)?);
        if power {
            table.persist().map_err(|err| StoreError::Unavailable(format!("in-flight table: {err}")))?;
        }
        let freed = Arc::clone(&table);
        let on_posted = move |postings: &[Posting]| freed.free(postings.iter().map(|posting| posting.slot).collect());
        Ok(Self {
            syncer: power.then(|| Syncer::start(Arc::clone(&table))).transpose()?,
            writer: Arc::new(Writer::start(database, table.label_file(), table.journals(), Box::new(on_posted))?),
            table,
            budgets: RwLock::default(),
            epoch,
            count: AtomicU64::new(row::next_count(&open::read_only(database)?, epoch)?),
            draining: RwLock::new(false),
            alerts: OnceLock::new(),
            clock,
        })
    }

    /// The one writer.
    pub(crate) fn writer(&self) -> &Arc<Writer> {
        &self.writer
    }

    /// Whether what is written now survives what it was promised to survive.
    pub(crate) fn healthy(&self) -> bool {
        self.writer.healthy() && self.syncer.as_ref().is_none_or(Syncer::healthy)
    }
}

impl Ledger {
    /// Writes what is queued; an in-flight table with nothing in it is removed.
    pub(crate) fn close(&self) {
        self.writer.close();
        self.table.remove_if_empty();
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.close();
    }
}
