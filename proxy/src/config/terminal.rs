//! `[terminal]`: shells in tenants' sandboxes, in a browser.

use std::time::Duration;

use openclawmu_store::is_origin;
use serde::{Deserialize, Serialize};

use super::load::{ConfigError, value};

/// `[terminal]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawTerminal {
    /// Whether there are any.
    pub enabled: bool,
    /// Origins of pages that may open one, beside the gateway's own.
    pub origins: Vec<String>,
    /// Where clients reach the edge, in tickets' answers; absent: where this client did, or where the edge listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_url: Option<String>,
    /// The shell and its arguments.
    pub shell: Vec<String>,
    /// Terminals of one tenant at once.
    pub sessions_per_tenant: usize,
    /// Terminals at once.
    pub sessions: usize,
    /// How long one lives to which nobody is attached.
    pub detached_seconds: u64,
    /// How long one lives in which nobody types.
    pub idle_seconds: u64,
    /// How long any lives.
    pub max_seconds: u64,
    /// The largest recording; then the terminal ends.
    pub recording_mb: u64,
    /// How much a tenant's recordings may take of the disk for another terminal to open.
    pub recordings_mb_per_tenant: u64,
    /// Whether what is typed is recorded, too, while the terminal echoes it.
    pub record_input: bool,
}

impl Default for RawTerminal {
    fn default() -> Self {
        Self {
            enabled: true,
            origins: Vec::new(),
            public_url: None,
            shell: vec!["bash".to_owned(), "-l".to_owned()],
            sessions_per_tenant: 4,
            sessions: 200,
            detached_seconds: 300,
            idle_seconds: 900,
            max_seconds: 14_400,
            recording_mb: 64,
            recordings_mb_per_tenant: 4096,
            record_input: false,
        }
    }
}

/// Shells in tenants' sandboxes.
#[derive(Clone, Debug)]
pub struct TerminalConfig {
    /// Whether there are any.
    pub enabled: bool,
    /// Origins of pages that may open one, beside the gateway's own.
    pub origins: Vec<String>,
    /// Where clients reach the edge: `ws://` or `wss://`, without a path.
    pub public_url: Option<String>,
    /// The shell and its arguments.
    pub shell: Vec<String>,
    /// Terminals of one tenant at once.
    pub sessions_per_tenant: usize,
    /// Terminals at once.
    pub sessions: usize,
    /// How long one lives to which nobody is attached.
    pub detached: Duration,
    /// How long one lives in which nobody types.
    pub idle: Duration,
    /// How long any lives.
    pub longest: Duration,
    /// The largest recording, in bytes.
    pub recording_bytes: u64,
    /// How much a tenant's recordings may take of the disk for another terminal to open, in bytes.
    pub recordings_bytes: u64,
    /// Whether what is typed is recorded, too.
    pub record_input: bool,
}

/// Proves every value usable.
///
/// # Errors
/// The key of the first that is not.
pub(super) fn check(raw: RawTerminal) -> Result<TerminalConfig, ConfigError> {
    for (key, number) in [
        ("terminal.sessions_per_tenant", u64::try_from(raw.sessions_per_tenant).unwrap_or(u64::MAX)),
        ("terminal.sessions", u64::try_from(raw.sessions).unwrap_or(u64::MAX)),
        ("terminal.detached_seconds", raw.detached_seconds),
        ("terminal.idle_seconds", raw.idle_seconds),
        ("terminal.max_seconds", raw.max_seconds),
        ("terminal.recording_mb", raw.recording_mb),
        ("terminal.recordings_mb_per_tenant", raw.recordings_mb_per_tenant),
    ] {
        if number == 0 || number > 1 << 32 {
            return Err(value(key, "must be at least 1, and no more than anybody could mean"));
        }
    }
    if let Some(other) = raw.origins.iter().find(|origin| !is_origin(origin)) {
        let message = format!("`{other}` is no origin as browsers send it, such as https://console.example.com");
        return Err(value("terminal.origins", message));
    }
    if raw.shell.first().is_none_or(String::is_empty) {
        return Err(value("terminal.shell", "must name a program, such as [\"bash\", \"-l\"]"));
    }
    Ok(TerminalConfig {
        enabled: raw.enabled,
        origins: raw.origins,
        public_url: raw.public_url.map(|url| public_url(&url)).transpose()?,
        shell: raw.shell,
        sessions_per_tenant: raw.sessions_per_tenant,
        sessions: raw.sessions,
        detached: Duration::from_secs(raw.detached_seconds),
        idle: Duration::from_secs(raw.idle_seconds),
        longest: Duration::from_secs(raw.max_seconds),
        recording_bytes: raw.recording_mb << 20,
        recordings_bytes: raw.recordings_mb_per_tenant << 20,
        record_input: raw.record_input,
    })
}

/// A WebSocket's scheme in the place of a page's.
fn public_url(url: &str) -> Result<String, ConfigError> {
    let url = url.trim_end_matches('/');
    let (scheme, rest) = url.split_once("://").unwrap_or(("", ""));
    let scheme = match scheme {
        "http" | "ws" => "ws",
        "https" | "wss" => "wss",
        _ => "",
    };
    if scheme.is_empty()
        || rest.is_empty()
        || !rest.parse::<http::uri::Authority>().is_ok_and(|at| !at.as_str().contains('@'))
    {
        return Err(value("terminal.public_url", "must be such as https://gateway.example.com, without a path"));
    }
    Ok(format!("{scheme}://{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_becomes_a_websockets() {
        assert_eq!(public_url("https://gate.example/").unwrap(), "wss://gate.example");
        assert_eq!(public_url("ws://127.0.0.1:8080").unwrap(), "ws://127.0.0.1:8080");
        for wrong in
            ["gate.example", "ftp://gate.example", "https://", "https://gate.example/x", "https://me@gate.example"]
        {
            assert!(public_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_can_t_be_used_is_named() {
        let wrong = |raw: RawTerminal| check(raw).unwrap_err().to_string();
        assert!(wrong(RawTerminal { idle_seconds: 0, ..RawTerminal::default() }).contains("terminal.idle_seconds"));
        assert!(wrong(RawTerminal { shell: vec![], ..RawTerminal::default() }).contains("terminal.shell"));
        let origins = vec!["https://a.example/".to_owned()];
        assert!(wrong(RawTerminal { origins, ..RawTerminal::default() }).contains("terminal.origins"));
        assert!(check(RawTerminal::default()).is_ok());
    }
}
