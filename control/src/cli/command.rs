//! The commands that talk to the admin API, where they find it, and how one is run.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use secrecy::SecretString;

use crate::cli::audit::LogBroken;
use crate::cli::client::Client;
use crate::cli::reconcile::BooksDiffer;
use crate::cli::{
    AlertCommand, ArchiveCommand, AuditCommand, BackupCommand, BillingCommand, ChannelCommand, KeyCommand, RateCommand,
    TenantCommand, TerminalCommand, alert, archive, audit, backup, billing, channel, key, rate, tenant, terminal,
};

/// What the operator can do through the admin API.
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Create, change and remove tenants and their tokens
    #[command(subcommand)]
    Tenants(TenantCommand),
    /// What was used, and what it costs
    #[command(subcommand)]
    Billing(BillingCommand),
    /// What models cost
    #[command(subcommand)]
    Rates(RateCommand),
    /// Request detail of old months, in compressed files
    #[command(subcommand)]
    Archives(ArchiveCommand),
    /// What is told when budgets are being spent
    #[command(subcommand)]
    Alerts(AlertCommand),
    /// Who changed what, and whether the log is as it was written
    #[command(subcommand)]
    Audit(AuditCommand),
    /// The gateway's own keys: what secrets are sealed and tokens hashed with
    #[command(subcommand)]
    Keys(KeyCommand),
    /// Back the whole gateway up, and make one of a backup
    #[command(subcommand)]
    Backups(BackupCommand),
    /// Terminals in tenants' sandboxes that are open, and what was recorded of others
    #[command(subcommand)]
    Terminals(TerminalCommand),
    /// Messengers, by which people reach tenants' agents
    #[command(subcommand)]
    Channels(ChannelCommand),
}

/// Where the admin API is, and how to print its answers.
#[derive(Clone, Debug, Default, Args)]
pub struct Connection {
    /// Print the API's answer as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Talk to the admin API at this URL, with the key in OPENCLAWMU_ADMIN_KEY, instead of to admin.sock
    #[arg(long, global = true, value_name = "URL")]
    pub url: Option<String>,
    /// The gateway's data directory, which holds admin.sock [default: ./openclawmu-data]
    #[arg(long, global = true, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where the audit log is and what signs it, for when no gateway runs; the caller reads it from the configuration.
    #[arg(skip)]
    pub audit: AuditPlace,
}

/// Where the audit log is and what signs it.
#[derive(Clone, Debug, Default)]
pub struct AuditPlace {
    /// The folder; `audit` of the data directory where none is configured.
    pub folder: Option<PathBuf>,
    /// The key, or why it can't be read; that of the data directory where none is configured.
    pub key: Option<Result<SecretString, String>>,
}

impl Connection {
    /// The data directory: the one that was named, else `./openclawmu-data`.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(|| PathBuf::from("./openclawmu-data"))
    }
}

/// Runs one command and prints what it found. The caller has installed rustls' default provider.
///
/// # Errors
/// The API's refusal with its hint, or why the API could not be reached: to be printed, with exit code 1.
pub async fn run(command: AdminCommand, connection: Connection) -> anyhow::Result<()> {
    let client = Client::new(&connection)?;
    let mut stdout = std::io::stdout().lock();
    if let AdminCommand::Billing(command) = &command
        && let Some(copied) = billing::copy(command, &client, &mut stdout).await
    {
        return copied.or_else(seen_enough);
    }
    if let AdminCommand::Audit(AuditCommand::Tail(flags)) = &command
        && flags.follow
    {
        return audit::follow(flags, &client, connection.json, &mut stdout).await.or_else(seen_enough);
    }
    let executed = if let AdminCommand::Audit(AuditCommand::Verify(flags)) = &command {
        audit::verify(flags, &client, &connection).await
    } else {
        execute(&command, &client, connection.json).await
    };
    let text = match executed {
        Ok(text) => text,
        Err(err) => {
            let differ = err.downcast_ref::<BooksDiffer>().map(|differ| &differ.said);
            if let Some(said) = differ.or_else(|| err.downcast_ref::<LogBroken>().map(|broken| &broken.said)) {
                stdout.write_all(said.as_bytes())?;
            }
            return Err(err);
        }
    };
    stdout.write_all(text.as_bytes()).map_err(anyhow::Error::from).or_else(seen_enough)
}

/// A reader such as `head` has seen enough.
fn seen_enough(err: anyhow::Error) -> anyhow::Result<()> {
    let cause = err.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    if cause == Some(ErrorKind::BrokenPipe) { Ok(()) } else { Err(err) }
}

/// What `command` prints.
pub(crate) async fn execute(command: &AdminCommand, client: &Client, json: bool) -> anyhow::Result<String> {
    match command {
        AdminCommand::Tenants(command) => tenant::execute(command, client, json).await,
        AdminCommand::Billing(command) => billing::execute(command, client, json).await,
        AdminCommand::Rates(command) => rate::execute(command, client, json).await,
        AdminCommand::Archives(command) => archive::execute(command, client, json).await,
        AdminCommand::Keys(command) => key::execute(command, client, json).await,
        AdminCommand::Alerts(command) => alert::execute(command, client, json).await,
        AdminCommand::Audit(command) => audit::execute(command, client, json).await,
        AdminCommand::Backups(command) => backup::execute(command, client, json).await,
        AdminCommand::Terminals(command) => terminal::execute(command, client, json).await,
        AdminCommand::Channels(command) => channel::execute(command, client, json).await,
    }
}
