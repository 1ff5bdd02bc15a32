//! Holds: what a process that died had reserved and not billed, or a batch that runs may still cost, and how the operator ends
//! one. A batch ends its own; where the operator was first, that was the last word.
//!
//! A hold counts against its windows' caps, since the provider may have billed it. Once the provider's own bill is known it is
//! released, or posted: into the present windows, so that a past report never changes. It ends at most once.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::audit::{self, Actor, Entry};
use crate::change::Change;
use crate::clock::{UnixMs, rfc3339};
use crate::error::{Result, StoreError};
use crate::id::{IdError, LabelKey, RequestId, ReservationId, TenantId, TenantKey, TokenKey};
use crate::ledger::adjustment::{self, Place};
use crate::ledger::report::tenant_row;
use crate::ledger::row::{LedgerRow, Outcome};
use crate::money::{Markup, NanoUsd};
use crate::store::Store;
use crate::window::{Month, day_name};

/// What is held for one row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Hold {
    /// Whose.
    pub tenant: TenantId,
    /// The row's event id.
    pub id: ReservationId,
    /// The client request.
    pub request_id: RequestId,
    /// When it was admitted.
    #[serde(serialize_with = "rfc3339::serialize")]
    pub at: UnixMs,
    /// The model that was asked.
    pub model: String,
    /// Where it was asked.
    pub upstream: String,
    /// What was billed of it.
    pub cost_usd: NanoUsd,
    /// What is held.
    pub held_usd: NanoUsd,
    /// The same in tokens.
    pub held_tokens: i64,
    /// The calendar day whose budget holds it.
    pub day: String,
    /// The calendar month whose budget holds it.
    pub month: String,
    /// The batch that runs, where it is held for one: it ends by itself, and is billed then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
}

/// How a hold ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HoldAction {
    /// The provider did not bill it.
    Release,
    /// The provider billed it: it is billed to the tenant, today.
    Post,
}

/// A decision on a hold.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewResolution {
    /// How it ends.
    pub action: HoldAction,
    /// Why, in one line of at most 500 characters.
    pub reason: String,
}

/// A hold that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Resolution {
    /// The event id of the row that ends it.
    pub id: ReservationId,
    /// The event id of the row that was held for.
    pub resolves: ReservationId,
    /// How.
    pub action: HoldAction,
    /// Why.
    pub reason: String,
    /// What was held.
    pub released_usd: NanoUsd,
    /// What is billed instead.
    pub posted_usd: NanoUsd,
    /// The event id of the row that bills it.
    pub posted_as: Option<ReservationId>,
}

/// What is held and has not ended. The words of the partial index `ledger_held`.
const HELD: &str =
    "(l.held_nanos > 0 OR l.held_tokens > 0) AND NOT EXISTS (SELECT 1 FROM adjustments WHERE resolves = l.id)";

impl Store {
    /// At most `limit` holds that have not ended, of one tenant or of all, oldest first, those after `after`.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there never was such a tenant.
    pub fn holds(&self, tenant: Option<&TenantId>, after: Option<ReservationId>, limit: u32) -> Result<Vec<Hold>> {
        self.inner.reader.with(|conn| {
            let key = tenant.map(|tenant| tenant_row(conn, tenant)).transpose()?.map(|(key, _)| key.0);
            let mut statement = conn.prepare_cached(&list(tenant))?;
            let mut rows = statement.query(params![key, after.map_or(i64::MIN, |id| id.0), limit])?;
            let mut holds = Vec::new();
            while let Some(row) = rows.next()? {
                holds.push(hold(row)?);
            }
            Ok(holds)
        })
    }

    /// Ends what is held for the row `event`. For a batch that runs this is the last word: it is billed nothing else when it ends.
    ///
    /// Fails with [`StoreError::NotFound`] when nothing was, [`StoreError::Conflict`] when it has ended before, and
    /// [`StoreError::Invalid`] on a bad reason.
    pub fn resolve_hold(
        &self,
        actor: &Actor,
        (tenant, event): (&TenantId, ReservationId),
        new: NewResolution,
    ) -> Change<Resolution> {
        let prepared = adjustment::check_reason(&new.reason).and_then(|()| self.place(tenant)).and_then(|place| {
            let rows = self.inner.reader.with(|conn| rows(conn, &place, event, new.action))?;
            Ok((place.budget, rows))
        });
        let (budget, rows) = match prepared {
            Ok(prepared) => prepared,
            Err(err) => return Change::new(self, move |_, _| Err(err)),
        };
        let (actor, tenant, followed) = (actor.clone(), tenant.clone(), rows);
        let change = Change::new(self, move |tx, now| {
            let resolution = write(tx, &rows, (event, new))?;
            let target = event.to_string();
            let entry = Entry {
                action: "hold.resolve",
                tenant: Some(&tenant),
                target: Some(&target),
                detail: json!(resolution),
            };
            audit::record(tx, now, &actor, &entry)?;
            Ok(resolution)
        });
        change.on_commit(move || {
            for row in std::iter::once(&followed.release).chain(&followed.post) {
                adjustment::follow(&budget, row);
            }
        })
    }
}

/// The rows that end a hold.
#[derive(Clone, Copy)]
struct Rows {
    release: LedgerRow,
    post: Option<LedgerRow>,
}

pub(super) fn list(tenant: Option<&TenantId>) -> String {
    let whose = if tenant.is_some() { "l.tenant = ?1" } else { "?1 IS NULL" };
    format!(
        "SELECT l.id, l.request_id, l.admitted_at_ms, coalesce((SELECT name FROM names WHERE row_id = l.model), ''),
             coalesce((SELECT name FROM names WHERE row_id = l.upstream), ''), l.cost_nanos, l.held_nanos, l.held_tokens, l.day, l.month,
             (SELECT id FROM tenants WHERE row_id = l.tenant),
             (SELECT coalesce(id, sent_file) FROM batches WHERE hold = l.id AND ended_at_ms IS NULL)
         FROM ledger l INDEXED BY ledger_held WHERE {whose} AND l.id > ?2 AND {HELD} ORDER BY l.id LIMIT ?3"
    )
}

fn hold(row: &Row<'_>) -> Result<Hold> {
    let tenant = row.get::<_, String>(10)?.parse().map_err(|err: IdError| StoreError::Corrupt(err.to_string()))?;
    Ok(Hold {
        tenant,
        id: ReservationId(row.get(0)?),
        request_id: row.get::<_, String>(1)?.parse().unwrap_or(RequestId(0)),
        at: UnixMs(row.get(2)?),
        model: row.get(3)?,
        upstream: row.get(4)?,
        cost_usd: NanoUsd(row.get(5)?),
        held_usd: NanoUsd(row.get(6)?),
        held_tokens: row.get(7)?,
        day: day_name(row.get(8)?),
        month: Month(row.get(9)?).to_string(),
        batch: row.get(11)?,
    })
}

/// Makes the rows: one that takes the hold from its own windows, and one that bills it now.
fn rows(conn: &Connection, place: &Place, event: ReservationId, action: HoldAction) -> Result<Rows> {
    let sql = "SELECT tenant, token, model, upstream, rate_card, label, request_id, attempt, markup_ppm, day, month, held_nanos, held_tokens
         FROM ledger WHERE id = ?1 AND tenant = ?2 AND (held_nanos > 0 OR held_tokens > 0)";
    let found = conn.prepare_cached(sql)?.query_row(params![event.0, place.tenant.0], |row| {
        let mut made = place.row(Outcome::Resolved, row.get::<_, String>(6)?.parse().unwrap_or(RequestId(0)));
        let reservation = &mut made.reservation;
        reservation.tenant = TenantKey(row.get(0)?);
        reservation.token = TokenKey(row.get(1)?);
        (reservation.model, reservation.upstream, reservation.rate_card) = (row.get(2)?, row.get(3)?, row.get(4)?);
        reservation.label = LabelKey(row.get(5)?);
        reservation.attempt = row.get(7)?;
        reservation.markup = Markup::from_ppm(row.get(8)?);
        Ok((made, (row.get::<_, i32>(9)?, row.get::<_, i32>(10)?), NanoUsd(row.get(11)?), row.get::<_, i64>(12)?))
    });
    let (made, (day, month), held, held_tokens) = found.optional()?.ok_or(StoreError::NotFound("held event"))?;
    let mut release =
        LedgerRow { held: NanoUsd::ZERO.saturating_sub(held), held_tokens: 0_i64.saturating_sub(held_tokens), ..made };
    (release.reservation.day, release.reservation.month) = (day, month);
    let mut post = LedgerRow { cost: held, ..made };
    post.reservation.id = place.second_id();
    Ok(Rows { release, post: (action == HoldAction::Post).then_some(post) })
}

fn write(tx: &Transaction<'_>, rows: &Rows, (event, new): (ReservationId, NewResolution)) -> Result<Resolution> {
    // One writer: nobody can come between the look and the row, and the table's own rule stands behind it.
    if tx.prepare_cached("SELECT 1 FROM adjustments WHERE resolves = ?1")?.exists([event.0])? {
        return Err(StoreError::Conflict("this hold has ended before".to_owned()));
    }
    adjustment::insert(tx, &rows.release, &new.reason, Some(event))?;
    if let Some(post) = &rows.post {
        adjustment::insert(tx, post, &new.reason, None)?;
    }
    Ok(Resolution {
        id: rows.release.reservation.id,
        resolves: event,
        action: new.action,
        reason: new.reason,
        released_usd: NanoUsd::ZERO.saturating_sub(rows.release.held),
        posted_usd: rows.post.map_or(NanoUsd::ZERO, |row| row.cost),
        posted_as: rows.post.map(|row| row.reservation.id),
    })
}
