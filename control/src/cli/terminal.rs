//! `terminals list|end|recordings|fetch`, and the ticket that `terminal` attaches with.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use openclawmu_store::TenantId;
use serde_json::{Map, Value, json};

use crate::cli::answer::{field, shown};
use crate::cli::client::{Call, Client};
use crate::cli::command::Connection;
use crate::cli::table::{Table, grouped};

/// What the operator can do with terminals.
#[derive(Debug, Subcommand)]
pub enum TerminalCommand {
    /// List the terminals that are open
    List {
        /// Of this tenant alone
        #[arg(long, value_name = "ID")]
        tenant: Option<TenantId>,
    },
    /// End a terminal; everything that runs in it is gone
    End {
        /// Its name
        terminal: String,
    },
    /// List a tenant's recordings, newest first
    Recordings {
        /// The tenant
        tenant: TenantId,
    },
    /// Fetch a recording, for `asciinema play`; it is on record that you did
    Fetch {
        /// The tenant
        tenant: TenantId,
        /// The recording's name
        recording: String,
        /// Write it to this new file instead of standard output
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
}

/// Which terminal is attached to, and as whom.
#[derive(Debug, Args)]
pub struct AttachFlags {
    /// In whose sandbox
    pub tenant: TenantId,
    /// As whom [default: driver of a new terminal; observer of one that is named]
    #[arg(long, value_enum)]
    pub role: Option<RoleFlag>,
    /// Why; it stands in the audit log [default: that you attached from the command line]
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Which of the tenant's terminals that are open [default: a new one for the driver, else the one that was opened last]
    #[arg(long, value_name = "NAME")]
    pub session: Option<String>,
}

impl AttachFlags {
    fn role(&self) -> RoleFlag {
        self.role.unwrap_or(if self.session.is_none() { RoleFlag::Driver } else { RoleFlag::Observer })
    }

    fn reason(&self) -> String {
        let by_default = || {
            let user = std::env::var("USER").ok().filter(|user| !user.is_empty());
            user.map_or_else(
                || "attached from the command line".to_owned(),
                |user| format!("attached from the command line by {user}"),
            )
        };
        self.reason.clone().unwrap_or_else(by_default)
    }
}

/// As whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RoleFlag {
    /// Types, and sets the size
    Driver,
    /// Watches
    Observer,
    /// Watches, and may end the terminal
    Moderator,
}

impl RoleFlag {
    fn name(self) -> &'static str {
        match self {
            Self::Driver => "driver",
            Self::Observer => "observer",
            Self::Moderator => "moderator",
        }
    }
}

/// A ticket, as the API answered it.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// What is presented.
    pub ticket: String,
    /// The terminal that it leads to.
    pub session: String,
    /// Where the WebSocket is.
    pub url: String,
    /// The answer as it came.
    pub text: String,
}

/// Asks for a ticket, for a terminal of this size where one is opened.
///
/// # Errors
/// The API's refusal with its hint, or why the API could not be reached.
pub async fn ticket(flags: &AttachFlags, connection: &Connection, size: Option<(u16, u16)>) -> anyhow::Result<Ticket> {
    let client = Client::new(connection)?;
    let mut body =
        Map::from_iter([("role".to_owned(), json!(flags.role().name())), ("reason".to_owned(), json!(flags.reason()))]);
    if let Some(session) = &flags.session {
        body.insert("session".to_owned(), json!(session));
    } else if let Some((cols, rows)) = size.filter(|_| flags.role() == RoleFlag::Driver) {
        body.insert("cols".to_owned(), json!(cols));
        body.insert("rows".to_owned(), json!(rows));
    }
    let path = ["tenants", flags.tenant.as_str(), "terminal_tickets"];
    let text = client.text(Call::send(Method::POST, &path, Value::Object(body))).await?;
    let answer: Value = serde_json::from_str(&text).context("the gateway did not answer in JSON")?;
    let of = |name: &str| {
        let value = field(&answer, name).as_str().map(str::to_owned);
        value.with_context(|| format!("the gateway's answer has no {name}"))
    };
    Ok(Ticket { ticket: of("ticket")?, session: of("session")?, url: of("url")?, text: text.clone() })
}

pub(crate) async fn execute(command: &TerminalCommand, client: &Client, json: bool) -> anyhow::Result<String> {
    match command {
        TerminalCommand::List { tenant } => {
            let query: Vec<(&str, &str)> = tenant.iter().map(|tenant| ("tenant", tenant.as_str())).collect();
            answered(client.text(Call::get(&["terminals"], &query)).await?, json, list)
        }
        TerminalCommand::End { terminal } => {
            let call = Call { method: Method::DELETE, path: &["terminals", terminal], query: &[], body: None };
            answered(client.text(call).await?, json, |answer| {
                format!("{} of {} has ended\n", shown(field(answer, "id")), shown(field(answer, "tenant")))
            })
        }
        TerminalCommand::Recordings { tenant } => {
            let path = ["tenants", tenant.as_str(), "recordings"];
            answered(client.text(Call::get(&path, &[])).await?, json, recordings)
        }
        TerminalCommand::Fetch { tenant, recording, to } => {
            let path = ["tenants", tenant.as_str(), "recordings", recording];
            let Some(to) = to else {
                client.copy(Call::get(&path, &[]), &mut std::io::stdout()).await?;
                return Ok(String::new());
            };
            // What a terminal showed is for nobody else to read.
            let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
            let mut file = opened.with_context(|| format!("{} can't be made", to.display()))?;
            client.copy(Call::get(&path, &[]), &mut file).await?;
            file.flush()?;
            let to = to.display();
            Ok(if json {
                format!("{}\n", json!({"recording": recording, "file": to.to_string()}))
            } else {
                format!("{recording} is in {to}\n")
            })
        }
    }
}

fn answered(text: String, json: bool, words: impl Fn(&Value) -> String) -> anyhow::Result<String> {
    if json { Ok(format!("{text}\n")) } else { Ok(words(&serde_json::from_str(&text)?)) }
}

fn list(answer: &Value) -> String {
    let mut table = Table::new(&["TERMINAL", "TENANT", "OPENED", "BY", "ATTACHED"]);
    for terminal in field(answer, "data").as_array().into_iter().flatten() {
        let cell = |name: &str| shown(field(terminal, name));
        let viewers = field(terminal, "viewers");
        let attached = ["drivers", "observers", "moderators"]
            .map(|role| (field(viewers, role).as_u64().unwrap_or_default(), role))
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, role)| format!("{count} {role}"))
            .collect::<Vec<_>>()
            .join(", ");
        table.row([cell("id"), cell("tenant"), cell("opened_at"), cell("opened_by"), attached]);
    }
    table.render("no terminal is open")
}

fn recordings(answer: &Value) -> String {
    let mut table = Table::new(&["RECORDING", ">BYTES"]);
    for recording in field(answer, "data").as_array().into_iter().flatten() {
        let size = field(recording, "size_bytes").as_u64().unwrap_or_default();
        table.row([shown(field(recording, "id")), grouped(size)]);
    }
    table.render("nothing has been recorded")
}
