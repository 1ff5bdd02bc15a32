//! Credits: money given back to a tenant, as a row with a cost below zero in its present windows.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::audit::{self, Actor, Entry};
use crate::change::Change;
use crate::clock::{UnixMs, rfc3339};
use crate::error::{Result, StoreError};
use crate::id::{ReservationId, TenantId};
use crate::ledger::adjustment::{self, Place};
use crate::ledger::row::{LedgerRow, Outcome};
use crate::money::NanoUsd;
use crate::store::Store;
use crate::window::{Month, day_name};

/// A credit to be given.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewCredit {
    /// How much; more than nothing.
    pub amount_usd: NanoUsd,
    /// Why, in one line of at most 500 characters.
    pub reason: String,
}

/// A credit that was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Credit {
    /// Its row's event id.
    pub id: ReservationId,
    /// Whom it was given to.
    pub tenant: TenantId,
    /// How much.
    pub amount_usd: NanoUsd,
    /// Why.
    pub reason: String,
    /// When.
    #[serde(serialize_with = "rfc3339::serialize")]
    pub at: UnixMs,
    /// The calendar day whose budget has it.
    pub day: String,
    /// The calendar month whose budget has it.
    pub month: String,
}

impl Store {
    /// Gives a tenant money back: what its present windows have posted falls, and so may be spent again.
    ///
    /// Fails with [`StoreError::NotFound`], or [`StoreError::Invalid`] on a bad field.
    pub fn credit(&self, actor: &Actor, tenant: &TenantId, new: NewCredit) -> Change<Credit> {
        let placed = check(&new).and_then(|()| self.place(tenant)).map(|place| {
            let row = row(&place, actor, new.amount_usd);
            (place.budget, row)
        });
        let (budget, row) = match placed {
            Ok(placed) => placed,
            Err(err) => return Change::new(self, move |_, _| Err(err)),
        };
        let (actor, tenant) = (actor.clone(), tenant.clone());
        let change = Change::new(self, move |tx, now| {
            adjustment::insert(tx, &row, &new.reason, None)?;
            let reservation = &row.reservation;
            let credit = Credit {
                id: reservation.id,
                tenant,
                amount_usd: new.amount_usd,
                reason: new.reason,
                at: reservation.admitted_at,
                day: day_name(reservation.day),
                month: Month(reservation.month).to_string(),
            };
            let target = credit.id.to_string();
            let detail = json!({"amount_usd": credit.amount_usd, "reason": credit.reason, "day": credit.day});
            let entry = Entry { action: "credit.create", tenant: Some(&credit.tenant), target: Some(&target), detail };
            audit::record(tx, now, &actor, &entry)?;
            Ok(credit)
        });
        change.on_commit(move || adjustment::follow(&budget, &row))
    }
}

fn check(new: &NewCredit) -> Result<()> {
    if new.amount_usd <= NanoUsd::ZERO {
        return Err(StoreError::invalid("amount_usd", "must be more than nothing"));
    }
    adjustment::check_reason(&new.reason)
}

fn row(place: &Place, actor: &Actor, amount: NanoUsd) -> LedgerRow {
    let row = place.row(Outcome::Credit, adjustment::request_of(actor));
    LedgerRow { cost: NanoUsd::ZERO.saturating_sub(amount), ..row }
}
