//! The usual scene of a test: one scripted upstream, one gateway, one tenant with a token.

use serde_json::{Value, json};

use crate::admin::{Admin, Budget, Tenant};
use crate::client::Client;
use crate::gateway::Gateway;
use crate::ledger::{self, Row};
use crate::setup::Setup;
use crate::upstream::Upstream;
use crate::wait;

/// The parts; the gateway goes first when the scene ends, so that it is asked for leftovers while its upstream still lives.
pub struct Scene {
    /// The gateway.
    pub gateway: Gateway,
    /// The upstream behind it.
    pub upstream: Upstream,
    /// The tenant `acme`.
    pub tenant: Tenant,
    /// Its client.
    pub client: Client,
}

impl Scene {
    /// A tenant with a daily budget of 1,000 USD.
    pub async fn new() -> Self {
        Self::with_quota(json!({ "usd_per_day": "1000" })).await
    }

    /// A tenant with this quota.
    pub async fn with_quota(quota: Value) -> Self {
        let upstream = Upstream::start().await;
        let setup = Setup::with(&upstream);
        Self::of(upstream, setup, quota).await
    }

    /// A tenant with a daily budget of 1,000 USD, and these keys in the upstream's table.
    pub async fn with_keys(keys: &[&str]) -> Self {
        let upstream = Upstream::start().await;
        let setup = Setup::with_keys(&upstream, keys);
        Self::of(upstream, setup, json!({ "usd_per_day": "1000" })).await
    }

    /// This set-up and this quota.
    pub async fn of(upstream: Upstream, setup: Setup, quota: Value) -> Self {
        let gateway = Gateway::start(setup).await;
        let tenant = gateway.admin().tenant("acme", quota).await;
        let client = gateway.client(&tenant.token);
        Self { gateway, upstream, tenant, client }
    }

    /// The operator's client.
    #[must_use]
    pub fn admin(&self) -> Admin {
        self.gateway.admin()
    }

    /// The tenant's daily budget as it is now.
    pub async fn budget(&self) -> Budget {
        self.admin().budget(&self.tenant.id, "usd_per_day").await
    }

    /// The tenant's daily budget once nothing is pending.
    pub async fn settled(&self) -> Budget {
        self.admin().settled(&self.tenant.id).await
    }

    /// The tenant's daily budget once nothing is pending and the rows on disk add up to what is posted; panics when they never do.
    pub async fn balanced(&self) -> Budget {
        wait::until("the rows to add up to what is posted", || async {
            let budget = self.budget().await;
            (budget.pending == 0 && self.ledger_total() == budget.posted).then_some(budget)
        })
        .await
    }

    /// The tenant's ledger rows.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        ledger::rows(&self.gateway.data(), &self.tenant.id)
    }

    /// The tenant's ledger rows once there are `count`; panics when there are more.
    pub async fn rows_once(&self, count: usize) -> Vec<Row> {
        let rows = wait::until(&format!("{count} ledger rows"), || async {
            let rows = self.rows();
            (rows.len() >= count).then_some(rows)
        })
        .await;
        assert_eq!(rows.len(), count, "{rows:#?}");
        rows
    }

    /// The sum of the ledger's costs.
    #[must_use]
    pub fn ledger_total(&self) -> i128 {
        self.rows().iter().map(|row| row.cost).sum()
    }

    /// Ends the process and starts it again, then makes the client anew, since the ports may differ.
    pub async fn restarted(&mut self) {
        self.gateway.restart().await;
        self.client = self.gateway.client(&self.tenant.token);
    }
}
