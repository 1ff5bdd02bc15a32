//! `billing ...`: what was used, what it costs, what is given back, and whether the books agree. One noun a file.

use std::io::Write;

use clap::Subcommand;
use openclawmu_store::{NanoUsd, TenantId};

use crate::cli::client::Client;
use crate::cli::hold::ResolveFlags;
use crate::cli::push::PushCommand;
use crate::cli::request::RequestFlags;
use crate::cli::usage::{ReportFlags, RollupFlags};
use crate::cli::{credit, hold, push, reconcile, request, usage, value};

/// What the operator can ask and do about usage and cost.
#[derive(Debug, Subcommand)]
pub enum BillingCommand {
    /// What a tenant used in a month, by model and token
    Report(ReportFlags),
    /// What each tenant used in a month
    Summary {
        /// The month as YYYY-MM, of each tenant's own calendar; the present one when absent
        #[arg(long, value_parser = usage::month, value_name = "YYYY-MM")]
        period: Option<String>,
    },
    /// What a tenant used day by day
    Rollup(RollupFlags),
    /// The request log, newest first; never content
    Requests(Box<RequestFlags>),
    /// Give a tenant money back
    Credit {
        /// The tenant
        tenant: TenantId,
        /// How much, such as 5.00
        #[arg(value_parser = value::positive_usd, value_name = "USD")]
        amount: NanoUsd,
        /// Why
        #[arg(long)]
        reason: String,
    },
    /// List what is held after a crash, and end it
    Resolve(ResolveFlags),
    /// Compare all books; exit code 1 when they differ
    Reconcile {
        /// One tenant's; all when absent
        #[arg(long)]
        tenant: Option<TenantId>,
    },
    /// Send what was used to where it is billed
    #[command(subcommand)]
    Push(PushCommand),
}

pub(crate) async fn execute(command: &BillingCommand, client: &Client, json: bool) -> anyhow::Result<String> {
    let mut csv = Vec::new();
    if let Some(copied) = copy(command, client, &mut csv).await {
        copied?;
        return Ok(String::from_utf8(csv)?);
    }
    match command {
        BillingCommand::Report(flags) => usage::report(flags, client, json).await,
        BillingCommand::Summary { period } => usage::summary(period.as_deref(), client, json).await,
        BillingCommand::Rollup(flags) => usage::rollup(flags, client, json).await,
        BillingCommand::Requests(flags) => request::list(flags, client, json).await,
        BillingCommand::Credit { tenant, amount, reason } => {
            credit::create((tenant, *amount, reason), client, json).await
        }
        BillingCommand::Resolve(flags) => hold::resolve(flags, client, json).await,
        BillingCommand::Reconcile { tenant } => reconcile::reconcile(tenant.as_ref(), client, json).await,
        BillingCommand::Push(command) => push::execute(command, client, json).await,
    }
}

/// Prints what may be as large as the ledger as it comes; `None` for every other command.
pub(crate) async fn copy(command: &BillingCommand, client: &Client, to: &mut dyn Write) -> Option<anyhow::Result<()>> {
    match command {
        BillingCommand::Report(flags) => usage::copy_report(flags, client, to).await,
        BillingCommand::Rollup(flags) => usage::copy_rollup(flags, client, to).await,
        BillingCommand::Requests(flags) => request::copy(flags, client, to).await,
        BillingCommand::Summary { .. }
        | BillingCommand::Credit { .. }
        | BillingCommand::Resolve(_)
        | BillingCommand::Reconcile { .. }
        | BillingCommand::Push(_) => None,
    }
}
