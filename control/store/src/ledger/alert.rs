//! Thresholds of budgets: noticed in memory where money is posted, told once for each window and threshold.
//!
//! What is noticed is an [`Offer`]; the writer tells it, in the transaction that puts it on record, unless it has been told
//! before. So memory may offer a thing twice, as it does after a start, but must never keep one back: an offer stays queued
//! until it is durable, and what a crash takes with it is offered again when the window is next looked at.

use rusqlite::{OptionalExtension, Transaction, params};
use serde_json::{Value, json};

use crate::audit::{self, Actor, Entry};
use crate::clock::UnixMs;
use crate::error::{Result, StoreError};
use crate::id::{TenantId, TenantKey};
use crate::ledger::Ledger;
use crate::ledger::budget::{Budget, State};
use crate::ledger::refused::BudgetKind;
use crate::ledger::row::Reservation;
use crate::ledger::sums::{Period, Window};
use crate::money::NanoUsd;
use crate::quota::Quota;
use crate::store::Store;
use crate::webhook::{self, NewWebhook};
use crate::window::{Month, Windows, Zone, day_name};

/// The most thresholds that one budget may have: each is looked at when money is posted.
const MAX_THRESHOLDS: usize = 10;

/// At how many percent of a cap a budget tells that it is being spent, and whether a webhook hears of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alerts {
    /// Ascending, each once.
    percents: Vec<u8>,
    webhook: bool,
}

impl Alerts {
    /// Alerts at `percents` of every cap: an audit line each, and with [`Alerts::with_webhook`] a webhook. None: no alerts.
    ///
    /// # Errors
    /// The sentence to show when there are too many or one is not 1 to 100.
    pub fn new(mut percents: Vec<u8>) -> Result<Self, String> {
        percents.sort_unstable();
        percents.dedup();
        if percents.len() > MAX_THRESHOLDS {
            return Err(format!("at most {MAX_THRESHOLDS} thresholds can be watched"));
        }
        match percents.iter().find(|percent| !(1..=100).contains(*percent)) {
            Some(percent) => Err(format!("{percent} is not a percentage from 1 to 100")),
            None => Ok(Self { percents, webhook: false }),
        }
    }

    /// The same, told to a webhook as well.
    #[must_use]
    pub fn with_webhook(self) -> Self {
        Self { webhook: true, ..self }
    }

    /// The lowest threshold above `told` percent that `used` of `cap` has reached.
    fn next(&self, told: u8, used: i64, cap: i64) -> Option<u8> {
        let next = self.percents.iter().copied().find(|percent| *percent > told)?;
        has_reached(used, cap, next).then_some(next)
    }
}

fn has_reached(used: i64, cap: i64, percent: u8) -> bool {
    i128::from(used) * 100 >= i128::from(cap) * i128::from(percent)
}

impl Store {
    /// Watches budgets from now on. To be called once, before anything is admitted.
    pub fn set_alerts(&self, alerts: Alerts) {
        if self.inner.ledger.alerts.set(alerts).is_err() {
            tracing::error!("the thresholds of budgets were set before; they stay as they are");
        }
    }
}

/// A threshold that a window has reached, to be told unless it has been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    tenant: TenantKey,
    kind: BudgetKind,
    /// The window's number.
    number: i32,
    percent: u8,
    /// Nano-dollars or tokens, as the bucket counts.
    cap: i64,
    posted: i64,
    held: i64,
    resets_at: UnixMs,
    webhook: bool,
    /// The window is not the current one: whether it has reached the threshold, only the store knows.
    late: bool,
}

/// One bucket of a window, as its thresholds see it.
struct Measured<'a> {
    kind: BudgetKind,
    cap: Option<i64>,
    posted: i64,
    held: i64,
    window: (i32, UnixMs),
    told: &'a mut u8,
}

impl State {
    /// The thresholds that are reached and were not offered yet. Allocates nothing unless there are some.
    pub(crate) fn reached(&mut self, alerts: &Alerts, tenant: TenantKey, quota: &Quota) -> Vec<Offer> {
        let mut offers = Vec::new();
        let (day, month) = (&mut self.day, &mut self.month);
        (day.looked_at, month.looked_at) = (true, true);
        let tokens = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let buckets = [
            Measured {
                kind: BudgetKind::UsdPerDay,
                cap: quota.usd_per_day.map(|cap| cap.0),
                posted: day.posted.0,
                held: day.held.0,
                window: (day.number, day.ends_at),
                told: &mut day.told_usd,
            },
            Measured {
                kind: BudgetKind::UsdPerMonth,
                cap: quota.usd_per_month.map(|cap| cap.0),
                posted: month.posted.0,
                held: month.held.0,
                window: (month.number, month.ends_at),
                told: &mut month.told_usd,
            },
            Measured {
                kind: BudgetKind::TokensPerDay,
                cap: quota.tokens_per_day.map(tokens),
                posted: tokens(day.posted_tokens),
                held: tokens(day.held_tokens),
                window: (day.number, day.ends_at),
                told: &mut day.told_tokens,
            },
        ];
        for bucket in buckets {
            let Measured { kind, cap, posted, held, window: (number, resets_at), told } = bucket;
            // A cap of nothing is not spent, it is closed.
            let Some(cap) = cap.filter(|cap| *cap > 0) else { continue };
            while let Some(percent) = alerts.next(*told, posted.saturating_add(held), cap) {
                *told = percent;
                let webhook = alerts.webhook;
                let late = false;
                offers.push(Offer { tenant, kind, number, percent, cap, posted, held, resets_at, webhook, late });
            }
        }
        offers
    }

    /// Every threshold of the windows that `posted` went into and that are over: the store will look.
    pub(crate) fn late(&self, alerts: &Alerts, quota: &Quota, posted: &Reservation) -> Vec<Offer> {
        let utc = Zone::utc();
        let zone = self.zone.as_ref().unwrap_or(&utc);
        let (day, month) = (Windows::end_of_day(posted.day, zone), Windows::end_of_month(posted.month, zone));
        let tokens = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let buckets = [
            (BudgetKind::UsdPerDay, quota.usd_per_day.map(|cap| cap.0), posted.day, day),
            (BudgetKind::UsdPerMonth, quota.usd_per_month.map(|cap| cap.0), posted.month, month),
            (BudgetKind::TokensPerDay, quota.tokens_per_day.map(tokens), posted.day, day),
        ];
        let mut offers = Vec::new();
        for (kind, cap, number, resets_at) in buckets {
            let current = if kind == BudgetKind::UsdPerMonth { self.month.number } else { self.day.number };
            let Some(cap) = cap.filter(|cap| *cap > 0 && number != current) else { continue };
            offers.extend(alerts.percents.iter().map(|percent| Offer {
                tenant: posted.tenant,
                kind,
                number,
                percent: *percent,
                cap,
                posted: 0,
                held: 0,
                resets_at,
                webhook: alerts.webhook,
                late: true,
            }));
        }
        offers
    }
}

impl Budget {
    /// Offers what is reached under `quota`: after a start, and after a cap was lowered below what is posted.
    pub(crate) fn reached(&self, alerts: Option<&Alerts>, quota: &Quota) -> Vec<Offer> {
        let Some(alerts) = alerts else { return Vec::new() };
        self.with(|state| state.reached(alerts, self.tenant, quota)).unwrap_or_default()
    }
}

impl Ledger {
    /// What the budgets watch; `None` where they watch nothing.
    pub(crate) fn alerts(&self) -> Option<&Alerts> {
        self.alerts.get().filter(|alerts| !alerts.percents.is_empty())
    }

    /// Queues what was reached, to be told once.
    pub(crate) fn offer(&self, offers: Vec<Offer>) {
        if !offers.is_empty() {
            let at = self.clock.now();
            self.writer().post_alerts(offers.into_iter().map(|offer| (at, offer)));
        }
    }
}

/// Tells what has not been told: an audit line and, where one is configured, a webhook, all in the caller's transaction.
pub(crate) fn insert(tx: &Transaction<'_>, offers: &[(UnixMs, Offer)]) -> Result<()> {
    for (at, offer) in offers {
        let looked_up = if offer.late { offer.looked_up(tx)? } else { Some(*offer) };
        let Some(offer) = &looked_up else { continue };
        let kept = tx
            .prepare_cached("INSERT INTO budget_alerts (tenant, bucket, number, percent, at_ms) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING")?
            .execute(params![offer.tenant.0, offer.kind.name(), offer.number, offer.percent, at.0])?;
        if kept == 0 {
            continue;
        }
        let id: Option<String> = tx
            .prepare_cached("SELECT id FROM tenants WHERE row_id = ?1")?
            .query_row([offer.tenant.0], |row| row.get(0))
            .optional()?;
        let id: Option<TenantId> = id.and_then(|id| id.parse().ok());
        let id = id.ok_or_else(|| StoreError::Corrupt("a budget's tenant has no id".to_owned()))?;
        let detail = offer.detail(&id);
        let event = webhook_of(offer, *at, &detail);
        audit::record(
            tx,
            *at,
            &Actor::system(),
            &Entry { action: "budget.threshold", tenant: Some(&id), target: Some(offer.kind.name()), detail },
        )?;
        if let Some(payload) = event {
            webhook::insert(
                tx,
                *at,
                &NewWebhook { event: "budget.threshold_reached", tenant: Some(&id), payload: &payload },
            )?;
        }
    }
    Ok(())
}

fn webhook_of(offer: &Offer, at: UnixMs, detail: &Value) -> Option<Value> {
    offer.webhook.then(|| json!({"type": "budget.threshold_reached", "timestamp": at.rfc3339(), "data": detail}))
}

impl Offer {
    /// The same with what its window holds, if that has reached the threshold.
    fn looked_up(&self, tx: &Transaction<'_>) -> Result<Option<Self>> {
        let period = if self.kind == BudgetKind::UsdPerMonth { Period::Month } else { Period::Day };
        let window = Window::load(tx, (self.tenant, period), self.number, self.resets_at)?;
        let tokens = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let (posted, held) = match self.kind {
            BudgetKind::UsdPerDay | BudgetKind::UsdPerMonth => (window.posted.0, window.held.0),
            BudgetKind::TokensPerDay => (tokens(window.posted_tokens), tokens(window.held_tokens)),
            BudgetKind::SandboxSecondsPerDay => (tokens(window.posted_sandbox_seconds), 0),
        };
        Ok(has_reached(posted.saturating_add(held), self.cap, self.percent).then_some(Self { posted, held, ..*self }))
    }

    fn detail(&self, tenant: &TenantId) -> Value {
        let (window, is_money) = match self.kind {
            BudgetKind::UsdPerDay => (day_name(self.number), true),
            BudgetKind::TokensPerDay | BudgetKind::SandboxSecondsPerDay => (day_name(self.number), false),
            BudgetKind::UsdPerMonth => (Month(self.number).to_string(), true),
        };
        let amount = |count: i64| if is_money { json!(NanoUsd(count)) } else { json!(count) };
        json!({
            "tenant": tenant,
            "bucket": self.kind.name(),
            "window": window,
            "threshold_percent": self.percent,
            "cap": amount(self.cap),
            "posted": amount(self.posted),
            "held": amount(self.held),
            "resets_at": self.resets_at.rfc3339(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_told_in_order_and_each_once() {
        let alerts = Alerts::new(vec![100, 50, 80, 50]).unwrap();
        assert_eq!(alerts.next(0, 49, 100), None);
        assert_eq!(alerts.next(0, 50, 100), Some(50));
        assert_eq!(alerts.next(50, 79, 100), None);
        assert_eq!(alerts.next(50, 100, 100), Some(80));
        assert_eq!(alerts.next(80, 100, 100), Some(100));
        assert_eq!(alerts.next(100, i64::MAX, 1), None);
        assert_eq!(alerts.next(0, i64::MAX, i64::MAX), Some(50));
        // 80 % of 3 is 2.4: 2 has not reached it.
        assert_eq!((alerts.next(50, 2, 3), alerts.next(50, 3, 3)), (None, Some(80)));
    }

    #[test]
    fn what_is_no_percentage_is_refused() {
        assert!(Alerts::new(vec![0]).is_err() && Alerts::new(vec![101]).is_err());
        assert!(Alerts::new((1..=11).collect()).is_err());
        assert_eq!(Alerts::new(Vec::new()).unwrap().next(0, 1, 1), None);
    }
}
