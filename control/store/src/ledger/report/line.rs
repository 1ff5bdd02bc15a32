//! The usage report at its finest: one line for each tenant, model, upstream, token and rate card.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::error::Result;
use crate::ledger::report::group::{self, Dimension, Group};
use crate::ledger::report::{UsageQuery, UsageTotal};
use crate::money::NanoUsd;
use crate::store::Store;
use crate::window::day_name;

/// One line. Its fields are the CSV's columns, whose names and order never change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct UsageLine {
    /// The calendar day (`YYYY-MM-DD`, in the tenant's zone) where the lines are by day, else the range's own beginning.
    pub period_start: String,
    /// The end of the same, exclusive.
    pub period_end: String,
    /// The tenant.
    pub tenant: String,
    /// Its name as it is now.
    pub tenant_name: String,
    /// The model that ran; `credit` where money was given back, `storage` of the files' line.
    pub model: String,
    /// Where it ran.
    pub upstream: String,
    /// The token's id.
    pub token: String,
    /// Attempts: see [`crate::UsageSums::requests`].
    pub requests: u64,
    /// See [`crate::UsageSums::input_tokens`].
    pub input_tokens: u64,
    /// See [`crate::UsageSums::cache_read_tokens`].
    pub cache_read_tokens: u64,
    /// See [`crate::UsageSums::cache_write_tokens`].
    pub cache_write_tokens: u64,
    /// See [`crate::UsageSums::output_tokens`].
    pub output_tokens: u64,
    /// See [`crate::UsageSums::reasoning_tokens`].
    pub reasoning_tokens: u64,
    /// See [`crate::UsageSums::tool_calls`].
    pub tool_calls: u64,
    /// See [`crate::UsageSums::sandbox_seconds`].
    pub sandbox_seconds: u64,
    /// See [`crate::UsageSums::storage_byte_days`].
    pub storage_byte_days: u64,
    /// The rate card version that priced it.
    pub rate_card: u32,
    /// Rows whose usage the gateway estimated.
    pub estimated_rows: u64,
    /// The cost.
    pub cost_usd: NanoUsd,
    /// The end user, where the lines are by user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// One tag, where the lines are by tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// See [`crate::UsageSums::markup_usd`].
    pub markup_usd: NanoUsd,
    /// See [`crate::UsageSums::billed_usd`].
    pub billed_usd: NanoUsd,
}

/// What every line is by; more, where the query says so.
pub(super) const FINEST: [Dimension; 5] =
    [Dimension::Tenant, Dimension::Model, Dimension::Upstream, Dimension::Token, Dimension::RateCard];

impl Store {
    /// Gives each line to `each`, by day, user and tag too where `query` groups by them. Returns the sums over all of them,
    /// of the same moment. May take long: not for an async thread.
    ///
    /// # Errors
    /// Those of [`Store::usage_rows`].
    pub fn usage_lines(&self, query: &UsageQuery, each: &mut dyn FnMut(UsageLine) -> Result<()>) -> Result<UsageTotal> {
        self.read_report(query, |conn, source| {
            let period = query.range.shown();
            group::read(conn, source, &dimensions(query), &mut |group| each(line(&period, group)))?;
            group::total(conn, source)
        })
    }
}

/// What the lines of `query` are by.
pub(super) fn dimensions(query: &UsageQuery) -> BTreeSet<Dimension> {
    query.group_by.iter().map(|key| Dimension::from(*key)).chain(FINEST).collect()
}

pub(super) fn line(period: &(String, String), group: Group) -> UsageLine {
    let Group { day, sums, .. } = group;
    UsageLine {
        period_start: day.map_or_else(|| period.0.clone(), day_name),
        period_end: day.map_or_else(|| period.1.clone(), |day| day_name(day.saturating_add(1))),
        tenant: group.tenant.unwrap_or_default(),
        tenant_name: group.tenant_name.unwrap_or_default(),
        model: group.model.unwrap_or_default(),
        upstream: group.upstream.unwrap_or_default(),
        token: group.token.unwrap_or_default(),
        requests: sums.requests,
        input_tokens: sums.input_tokens,
        cache_read_tokens: sums.cache_read_tokens,
        cache_write_tokens: sums.cache_write_tokens,
        output_tokens: sums.output_tokens,
        reasoning_tokens: sums.reasoning_tokens,
        tool_calls: sums.tool_calls,
        sandbox_seconds: sums.sandbox_seconds,
        storage_byte_days: sums.storage_byte_days,
        rate_card: group.rate_card.unwrap_or_default(),
        estimated_rows: group.estimated_rows,
        cost_usd: sums.cost_usd,
        user: group.user,
        tag: group.tag,
        markup_usd: sums.markup_usd,
        billed_usd: sums.billed_usd,
    }
}
