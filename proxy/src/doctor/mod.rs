//! `openclawmu doctor`: whether this machine and configuration can serve, each finding with what to do.
//!
//! - `data`: the data directory: can it be written, is there room
//! - `database`: the database in it
//! - `key`: keys and other secrets: strength, and who can read them
//! - `port`: the listeners' addresses
//! - `certificate`: the edge's certificate and key
//! - `limit`: what the system lets this process have
//! - `clock`: whether the time can be right
//! - `sandbox`: what isolates tenants' code
//! - `upstream`: whether every upstream is reached and takes its key
//! - `backup`: whether the place of the backups does what they need
//!
//! It changes nothing but for files that it writes and removes again, and spends nothing: what it asks of upstreams is free.

mod backup;
mod certificate;
mod clock;
mod data;
mod database;
mod key;
mod limit;
mod port;
mod sandbox;
mod upstream;

use std::path::Path;

use serde::Serialize;

use crate::config::{self, Overrides};

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What was looked at.
    pub(crate) check: String,
    /// How it is.
    pub(crate) state: State,
    /// What was seen.
    pub(crate) message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// As it should be.
    Ok,
    /// Works, but should be looked at.
    Warn,
    /// The gateway can't serve like this.
    Fail,
}

impl Finding {
    fn ok(check: impl Into<String>, message: impl Into<String>) -> Self {
        Self { check: check.into(), state: State::Ok, message: message.into(), hint: None }
    }

    fn warn(check: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { check: check.into(), state: State::Warn, message: message.into(), hint: Some(hint.into()) }
    }

    fn fail(check: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { check: check.into(), state: State::Fail, message: message.into(), hint: Some(hint.into()) }
    }
}

/// Looks at everything.
pub(crate) async fn examine(file: Option<&Path>, overrides: &Overrides) -> Vec<Finding> {
    let file = config::find(file);
    let read = config::load(file.as_deref(), overrides);
    let checked = read.and_then(|raw| config::check(raw.clone()).map(|config| (raw, config)));
    let (raw, config) = match checked {
        Ok(both) => both,
        Err(err) => return vec![Finding::fail("config", err.to_string(), "`openclawmu config check` says the same")],
    };
    let from = file.map_or_else(|| "built-in defaults".to_owned(), |file| file.display().to_string());
    let mut findings = vec![Finding::ok("config", from)];
    findings.extend(data::look(&config.data_dir));
    findings.extend(database::look(&config.data_dir).await);
    findings.extend(key::look(&raw, &config));
    findings.extend(port::look(&config));
    findings.extend(certificate::look(&config));
    findings.push(limit::look(&config.edge));
    findings.extend(clock::look(&config.data_dir).await);
    findings.extend(sandbox::look(&config.sandbox, &config.data_dir).await);
    findings.extend(upstream::look(&config.upstreams).await);
    findings.push(backup::look(&config.backup).await);
    findings
}
