//! What Stripe is told of a tenant's usage: meter events, each written before it is sent.
//!
//! An event's identifier, customer, value and instant never change once it is written, so that whoever sends it again sends
//! the same. A meter's total is compared with the sum of what was written for it, over all days: so nothing is told twice,
//! nothing is forgotten, and what was credited after it was told is taken off what comes later.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::audit::{self, Actor, Entry};
use crate::change::Change;
use crate::clock::{UnixMs, rfc3339};
use crate::error::{Result, StoreError};
use crate::id::{TenantId, TenantKey};
use crate::store::Store;
use crate::window::{Windows, Zone, day_name};

mod measure;
mod plan;

pub use measure::{Measure, Meter};

use plan::{Day, Plan, plan};

/// What Stripe takes: timestamps of the past 35 days. An hour less, for the time that a push takes.
const OLDEST_MS: i64 = (35 * 24 - 1) * 60 * 60 * 1000;
/// The field of a tenant's metadata that names its customer at Stripe.
pub const STRIPE_CUSTOMER: &str = "stripe_customer_id";

/// What a push looks at.
#[derive(Clone, Debug)]
pub struct StripeScope {
    /// What is counted, and under which names.
    pub meters: Vec<Meter>,
    /// The first day, in each tenant's zone; `None` is the first that was used.
    pub since: Option<i32>,
    /// This tenant alone.
    pub tenant: Option<TenantId>,
    /// The day that is not over yet as well.
    pub include_today: bool,
}

/// What one tenant still owes Stripe to hear.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StripePlan {
    key: i64,
    /// The tenant, which may have been deleted meanwhile.
    pub tenant: String,
    /// Its customer at Stripe; without one nothing can be told.
    pub customer: Option<String>,
    /// The events to write.
    pub events: Vec<PlannedEvent>,
    /// By meter: what was told and has been credited since, to be taken off what comes.
    pub carried: Vec<(String, i64)>,
    /// What can't be told any more: its day is older than Stripe takes.
    pub expired: Vec<PlannedEvent>,
    /// Meters that counted something else before.
    pub changed: Vec<String>,
}

/// An event to write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PlannedEvent {
    /// `{tenant}:{day}:{meter}:{seq}`.
    pub identifier: String,
    /// The meter's event name.
    pub meter: String,
    /// How much, in the meter's unit.
    pub value: i64,
    /// The instant that it is told under, within its day.
    #[serde(serialize_with = "rfc3339::serialize")]
    pub timestamp: UnixMs,
    #[serde(skip)]
    measure: String,
    #[serde(skip)]
    day: i32,
    #[serde(skip)]
    seq: i64,
}

/// An event that was written and not yet seen to arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StripeEvent {
    /// Its place among all.
    pub cursor: i64,
    /// Its identifier.
    pub identifier: String,
    /// Whose usage.
    pub tenant: String,
    /// Which customer at Stripe.
    pub customer: String,
    /// The meter's event name.
    pub meter: String,
    /// How much.
    pub value: i64,
    /// When.
    pub timestamp: UnixMs,
    /// Since when Stripe may have it.
    pub tried_at: Option<UnixMs>,
}

/// What to do with events that Stripe may or may not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uncertain {
    /// They arrived.
    Sent,
    /// They did not: send them again.
    Resend,
}

impl Store {
    /// What the tenants after `after` owe Stripe to hear, at most `limit` of them, and the place to go on from.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the scope names a tenant that never was.
    pub fn stripe_plans(&self, scope: &StripeScope, after: i64, limit: u32) -> Result<(Vec<StripePlan>, Option<i64>)> {
        let now = self.inner.clock.now();
        self.inner.reader.with(|conn| {
            let tenants = tenants(conn, scope.tenant.as_ref(), after, limit)?;
            let months = months(conn)?;
            let last = tenants.last().map(|tenant| tenant.key.0);
            let plans = tenants.into_iter().map(|tenant| plan_of(conn, scope, tenant, (months, now)));
            Ok((plans.collect::<Result<Vec<_>>>()?, last))
        })
    }

    /// Puts on record that a push begins. To be done before anything is written or sent.
    pub fn begin_stripe_push(&self, actor: &Actor, scope: &StripeScope) -> Change<()> {
        let (actor, tenant, include_today) = (actor.clone(), scope.tenant.clone(), scope.include_today);
        Change::new(self, move |tx, now| {
            let detail = json!({"include_today": include_today});
            let entry = Entry { action: "stripe.push", tenant: tenant.as_ref(), target: None, detail };
            audit::record(tx, now, &actor, &entry)
        })
    }

    /// A change that changes nothing, to keep an answer under an idempotency key.
    pub fn keep_answer(&self, answer: Value) -> Change<Value> {
        Change::new(self, move |_, _| Ok(answer))
    }

    /// Writes the events of `plans`, to be sent.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when another process has written one of them.
    pub async fn prepare_stripe(&self, plans: &[StripePlan]) -> Result<()> {
        let now = self.inner.clock.now();
        let owing = plans.iter().filter(|plan| plan.customer.is_some() && !plan.events.is_empty());
        let plans: Vec<StripePlan> = owing.cloned().collect();
        if plans.is_empty() {
            return Ok(());
        }
        let write = move |tx: &Transaction<'_>| plans.iter().try_for_each(|plan| insert(tx, plan, now));
        self.inner.writer().run_aside(write).await
    }

    /// Events that were not seen to arrive, oldest first, at most `limit` after `after`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn unsent_stripe(&self, tenant: Option<&TenantId>, after: i64, limit: u32) -> Result<Vec<StripeEvent>> {
        self.inner.reader.with(|conn| {
            let mut statement = conn.prepare_cached(
                "SELECT e.rowid, e.identifier, t.id, e.customer, e.meter, e.value, e.event_at_ms, e.tried_at_ms
                 FROM stripe_events e JOIN tenants t ON t.row_id = e.tenant
                 WHERE e.sent_at_ms IS NULL AND e.rowid > ?1 AND (?2 IS NULL OR t.id = ?2) ORDER BY e.rowid LIMIT ?3",
            )?;
            let found = statement.query_map(params![after, tenant.map(TenantId::as_str), limit], |row| {
                Ok(StripeEvent {
                    cursor: row.get(0)?,
                    identifier: row.get(1)?,
                    tenant: row.get(2)?,
                    customer: row.get(3)?,
                    meter: row.get(4)?,
                    value: row.get(5)?,
                    timestamp: UnixMs(row.get(6)?),
                    tried_at: row.get::<_, Option<i64>>(7)?.map(UnixMs),
                })
            })?;
            Ok(found.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Notes that Stripe may have these events from now on. To be done before the first of them is sent.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; then they must not be sent.
    pub async fn stripe_tried(&self, identifiers: Vec<String>) -> Result<()> {
        let now = self.inner.clock.now();
        let sql = "UPDATE stripe_events SET tried_at_ms = ?2 WHERE identifier = ?1 AND tried_at_ms IS NULL";
        self.mark_stripe(sql, identifiers, now).await
    }

    /// Notes that these events have arrived.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; then they will be sent again, under the same identifiers.
    pub async fn stripe_sent(&self, identifiers: Vec<String>) -> Result<()> {
        let now = self.inner.clock.now();
        self.mark_stripe("UPDATE stripe_events SET sent_at_ms = ?2 WHERE identifier = ?1", identifiers, now).await
    }

    /// Notes that Stripe does not have these events after all.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; then they count as uncertain.
    pub async fn stripe_untried(&self, identifiers: Vec<String>) -> Result<()> {
        let now = self.inner.clock.now();
        let sql = "UPDATE stripe_events SET tried_at_ms = NULL WHERE identifier = ?1 AND sent_at_ms IS NULL AND ?2 IS NOT NULL";
        self.mark_stripe(sql, identifiers, now).await
    }

    async fn mark_stripe(&self, sql: &'static str, identifiers: Vec<String>, now: UnixMs) -> Result<()> {
        if identifiers.is_empty() {
            return Ok(());
        }
        let mark = move |tx: &Transaction<'_>| {
            let mut statement = tx.prepare_cached(sql)?;
            for identifier in &identifiers {
                statement.execute(params![identifier, now.0])?;
            }
            Ok(())
        };
        self.inner.writer().run_aside(mark).await
    }

    /// Decides, on the operator's word, events that were tried before `before` and not seen to arrive. Gives how many.
    pub fn decide_stripe(
        &self,
        actor: &Actor,
        tenant: Option<&TenantId>,
        decision: Uncertain,
        before: UnixMs,
    ) -> Change<usize> {
        let (actor, tenant) = (actor.clone(), tenant.cloned());
        Change::new(self, move |tx, now| {
            let (set, said) = match decision {
                Uncertain::Sent => ("sent_at_ms = ?3", "sent"),
                Uncertain::Resend => ("tried_at_ms = NULL", "resend"),
            };
            let sql = format!(
                "UPDATE stripe_events SET {set} WHERE sent_at_ms IS NULL AND tried_at_ms <= ?1 AND ?3 IS NOT NULL
                 AND (?2 IS NULL OR tenant = (SELECT row_id FROM tenants WHERE id = ?2))"
            );
            let id = tenant.as_ref().map(TenantId::as_str);
            let decided = tx.prepare_cached(&sql)?.execute(params![before.0, id, now.0])?;
            let detail = json!({"uncertain": said, "events": decided});
            let entry = Entry { action: "stripe.decide", tenant: tenant.as_ref(), target: None, detail };
            audit::record(tx, now, &actor, &entry)?;
            Ok(decided)
        })
    }
}

/// A tenant as far as Stripe is concerned; one that was deleted still owes.
struct Owing {
    key: TenantKey,
    id: String,
    zone: Zone,
    customer: Option<String>,
}

fn tenants(conn: &Connection, only: Option<&TenantId>, after: i64, limit: u32) -> Result<Vec<Owing>> {
    let mut statement = conn.prepare_cached(
        "SELECT row_id, id, timezone, metadata FROM tenants WHERE row_id > ?1 AND (?2 IS NULL OR id = ?2) ORDER BY row_id LIMIT ?3",
    )?;
    let mut rows = statement.query(params![after, only.map(TenantId::as_str), limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(owing(row)?);
    }
    if found.is_empty() && only.is_some() && after == 0 {
        return Err(StoreError::NotFound("tenant"));
    }
    Ok(found)
}

fn owing(row: &Row<'_>) -> Result<Owing> {
    let metadata: Map<String, Value> = serde_json::from_str(&row.get::<_, String>(3)?)?;
    let plain = |text: &&str| !text.is_empty() && text.len() <= 255 && text.bytes().all(|byte| byte.is_ascii_graphic());
    let customer = metadata.get(STRIPE_CUSTOMER).and_then(Value::as_str).filter(plain).map(str::to_owned);
    let zone = Zone::parse(&row.get::<_, String>(2)?).map_err(StoreError::Corrupt)?;
    Ok(Owing { key: TenantKey(row.get(0)?), id: row.get(1)?, zone, customer })
}

/// The first and the last month of all sums.
fn months(conn: &Connection) -> Result<Option<(i32, i32)>> {
    let found = conn
        .prepare_cached("SELECT (SELECT min(month) FROM usage_days), (SELECT max(month) FROM usage_days)")?
        .query_row([], |row| Ok((row.get::<_, Option<i32>>(0)?, row.get::<_, Option<i32>>(1)?)))
        .optional()?;
    Ok(found.and_then(|(first, last)| Some((first?, last?))))
}

fn plan_of(
    conn: &Connection,
    scope: &StripeScope,
    tenant: Owing,
    (months, now): (Option<(i32, i32)>, UnixMs),
) -> Result<StripePlan> {
    let mut whole =
        StripePlan { key: tenant.key.0, tenant: tenant.id, customer: tenant.customer, ..StripePlan::default() };
    let Some(months) = months else { return Ok(whole) };
    let today = Windows::at(now, &tenant.zone).day;
    let past = if scope.include_today { today.saturating_add(1) } else { today };
    let days = scope.since.unwrap_or(i32::MIN)..past;
    let used = measure::days(conn, tenant.key, months, &days)?;
    if used.is_empty() {
        return Ok(whole);
    }
    let written = written(conn, tenant.key, &days)?;
    let instant = |day: i32| {
        let last_second = Windows::end_of_day(day, &tenant.zone).plus_ms(-1_000);
        UnixMs(last_second.min(now).0.div_euclid(1_000) * 1_000)
    };
    for meter in &scope.meters {
        let mine = written.get(meter.event_name.as_str());
        if mine.is_some_and(|(measures, _)| measures.iter().any(|name| *name != meter.measure.name())) {
            whole.changed.push(meter.event_name.clone());
            continue;
        }
        let told = |day: i32| mine.and_then(|(_, days)| days.get(&day)).copied().unwrap_or_default();
        let days: Vec<Day> = used
            .iter()
            .map(|(number, sums)| {
                let (written, seq) = told(*number);
                Day { number: *number, total: meter.measure.of(sums), written, seq }
            })
            .collect();
        let takes = |day: i32| now.0.saturating_sub(instant(day).0) <= OLDEST_MS;
        let Plan { events, expired, carried } = plan(&days, meter.measure.unit(), takes);
        let planned = |(day, value): (Day, i64)| PlannedEvent {
            identifier: format!("{}:{}:{}:{}", whole.tenant, day_name(day.number), meter.event_name, day.seq + 1),
            meter: meter.event_name.clone(),
            value,
            timestamp: instant(day.number),
            measure: meter.measure.name().to_owned(),
            day: day.number,
            seq: day.seq + 1,
        };
        let events: Vec<_> = events.into_iter().map(planned).collect();
        let expired: Vec<_> = expired.into_iter().map(planned).collect();
        whole.events.extend(events);
        whole.expired.extend(expired);
        if carried < 0 {
            whole.carried.push((meter.event_name.clone(), carried));
        }
    }
    Ok(whole)
}

/// By meter: what it counted, and by day how much was written and the last number.
type Written = BTreeMap<String, (Vec<String>, BTreeMap<i32, (i128, i64)>)>;

fn written(conn: &Connection, tenant: TenantKey, days: &std::ops::Range<i32>) -> Result<Written> {
    let mut statement = conn.prepare_cached(
        "SELECT meter, measure, day, sum(value), max(seq) FROM stripe_events WHERE tenant = ?1 AND day >= ?2
         GROUP BY day, meter, measure",
    )?;
    let mut rows = statement.query(params![tenant.0, days.start])?;
    let mut written = Written::new();
    while let Some(row) = rows.next()? {
        let (measures, days) = written.entry(row.get(0)?).or_default();
        let measure: String = row.get(1)?;
        if !measures.contains(&measure) {
            measures.push(measure);
        }
        days.insert(row.get(2)?, (i128::from(row.get::<_, i64>(3)?), row.get(4)?));
    }
    Ok(written)
}

fn insert(tx: &Transaction<'_>, plan: &StripePlan, now: UnixMs) -> Result<()> {
    let mut statement = tx.prepare_cached(
        "INSERT INTO stripe_events (identifier, tenant, day, meter, seq, customer, measure, value, event_at_ms, created_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO NOTHING",
    )?;
    for event in &plan.events {
        let PlannedEvent { identifier, meter, value, timestamp, measure, day, seq } = event;
        let row = params![identifier, plan.key, day, meter, seq, plan.customer, measure, value, timestamp.0, now.0];
        if statement.execute(row)? == 0 {
            return Err(StoreError::Conflict(format!("the event {identifier} was written by another process")));
        }
    }
    Ok(())
}
