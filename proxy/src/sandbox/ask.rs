//! What a request for a run asks for: read strictly, and narrowed by what the operator allows. Never widened.

use std::ffi::OsString;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use openclawmu_control::run::{Content, Encoded, Language, Network, RunLimits, RunRequest};
use openclawmu_sandbox::egress::{Policy, Rule};
use openclawmu_sandbox::{Limits, RelPath};
use openclawmu_store::TenantId;

use super::artifact::Globs;
use crate::config::SandboxConfig;
use crate::refusal::Refusal;

/// The longest argument that the kernel takes, without its closing NUL.
const MAX_CODE_BYTES: usize = (128 << 10) - 1;

/// What is to be run.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) command: Vec<OsString>,
    pub(super) files: Vec<(RelPath, Vec<u8>)>,
    pub(super) stdin: Vec<u8>,
    pub(super) env: Vec<(OsString, OsString)>,
    pub(super) limits: Limits,
    /// How far the workspace may grow.
    pub(super) disk_bytes: Option<u64>,
    pub(super) artifacts: Globs,
    /// What it may reach.
    pub(super) network: Policy,
    /// Which of the configured backends runs it.
    pub(super) backend: usize,
}

/// Reads a body.
///
/// # Errors
/// 400, naming the field.
pub(super) fn request(body: &Bytes) -> Result<RunRequest, Refusal> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let request: RunRequest = serde_path_to_error::deserialize(&mut json).map_err(|err| {
        let field = err.path().to_string();
        let message = format!("The body can't be read: {}", err.into_inner());
        Refusal::bad(if field == "." { "body".to_owned() } else { field }, message)
    })?;
    json.end().map_err(|_| Refusal::bad("body", "The body goes on after its end."))?;
    Ok(request)
}

impl Ask {
    /// What a tenant's request comes to, within what the operator allows.
    ///
    /// # Errors
    /// 400, naming the field; 403 for a host that the operator has not granted; 503 where nothing is run at all.
    pub(super) fn of(request: RunRequest, config: &SandboxConfig, tenant: &TenantId) -> Result<Self, Refusal> {
        let files = request.files.into_iter().map(file).collect::<Result<_, _>>()?;
        let stdin = request.stdin.map(|content| bytes("stdin", content)).transpose()?.unwrap_or_default();
        let limits = narrowed(&request.limits, request.timeout_seconds, config)?;
        Ok(Self {
            command: command(request.command, request.code, request.language)?,
            files,
            stdin,
            env: request.env.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            limits,
            disk_bytes: request.limits.disk_mb.map(|mb| mb.saturating_mul(1 << 20)),
            artifacts: Globs::parse(&request.artifacts)?,
            network: network(request.network, config, tenant)?,
            backend: backend(request.backend.as_deref(), config)?,
        })
    }
}

/// What it may reach: some of what is granted.
fn network(asked: Option<Network>, config: &SandboxConfig, tenant: &TenantId) -> Result<Policy, Refusal> {
    let Some(asked) = asked else { return Ok(Policy::default()) };
    let rules: Vec<Rule> = asked
        .allow
        .iter()
        .map(|text| Rule::parse(text).map_err(|err| Refusal::bad("network.allow", format!("{err}."))))
        .collect::<Result<_, _>>()?;
    config.network.policy(tenant).narrow(rules).map_err(|rule| Refusal::Forbidden {
        code: "network_not_allowed",
        message: format!("The operator has not granted `{rule}`: a run can only narrow what is granted."),
    })
}

/// Which of the configured backends.
fn backend(asked: Option<&str>, config: &SandboxConfig) -> Result<usize, Refusal> {
    let Some(asked) = asked else { return Ok(0) };
    let found = config.backends.iter().position(|backend| backend.name() == asked);
    found.ok_or_else(|| {
        let names: Vec<&str> = config.backends.iter().map(crate::config::BackendConfig::name).collect();
        let names = if names.is_empty() { "nothing".to_owned() } else { names.join(" or ") };
        Refusal::bad("backend", format!("This gateway runs code by {names} alone."))
    })
}

fn command(
    command: Option<Vec<String>>,
    code: Option<String>,
    language: Option<Language>,
) -> Result<Vec<OsString>, Refusal> {
    match (command, code, language) {
        (Some(command), None, None) => {
            if command.first().is_none_or(String::is_empty) {
                return Err(Refusal::bad("command", "`command` names no program."));
            }
            if command.iter().any(|argument| argument.len() > MAX_CODE_BYTES) {
                return Err(Refusal::bad("command", "An argument is longer than 128 KiB: send it as one of `files`."));
            }
            Ok(command.into_iter().map(OsString::from).collect())
        }
        (None, Some(code), Some(language)) => {
            if code.len() > MAX_CODE_BYTES {
                let message =
                    "The code is longer than 128 KiB: send it as one of `files`, and a `command` that runs it.";
                return Err(Refusal::bad("code", message));
            }
            let [program, option] = match language {
                Language::Python => ["python3", "-c"],
                Language::Javascript => ["node", "-e"],
                Language::Bash => ["bash", "-c"],
            };
            Ok(vec![program.into(), option.into(), code.into()])
        }
        (None, Some(_), None) => {
            Err(Refusal::bad("language", "`code` needs its `language`: python, javascript or bash."))
        }
        (None, None, Some(_)) => Err(Refusal::bad("code", "`language` needs `code`.")),
        (None, None, None) => Err(Refusal::bad("command", "Send a `command`, or `code` and its `language`.")),
        (Some(_), ..) => Err(Refusal::bad("command", "Send a `command`, or `code` and its `language`, not both.")),
    }
}

fn file((name, content): (String, Content)) -> Result<(RelPath, Vec<u8>), Refusal> {
    let path = RelPath::parse(name.as_bytes()).map_err(|err| Refusal::bad("files", format!("`{name}`: {err}.")))?;
    Ok((path, bytes("files", content)?))
}

fn bytes(field: &'static str, content: Content) -> Result<Vec<u8>, Refusal> {
    match content {
        Content::Text(text) => Ok(text.into_bytes()),
        Content::Bytes(Encoded { base64 }) => {
            STANDARD.decode(base64).map_err(|err| Refusal::bad(field, format!("`base64` can't be read: {err}.")))
        }
    }
}

/// The operator's limits, or what is asked for where that is less.
fn narrowed(asked: &RunLimits, seconds: Option<u64>, config: &SandboxConfig) -> Result<Limits, Refusal> {
    let mut limits = config.limits.clone();
    if let Some(seconds) = seconds {
        let wall = Duration::from_secs(seconds);
        if wall.is_zero() || wall > config.max_timeout {
            let most = config.max_timeout.as_secs();
            return Err(Refusal::bad("timeout_seconds", format!("`timeout_seconds` must be 1 to {most}.")));
        }
        limits.wall = wall;
    }
    if let Some(mb) = asked.memory_mb {
        let most = limits.memory_bytes >> 20;
        if !(16..=most).contains(&mb) {
            return Err(Refusal::bad("limits.memory_mb", format!("`memory_mb` must be 16 to {most}.")));
        }
        limits.memory_bytes = mb << 20;
    }
    if let Some(cpus) = &asked.cpus {
        let most = limits.cpu_millis;
        let millis = thousandths(&cpus.to_string()).filter(|millis| (10..=most).contains(millis));
        let wrong =
            || Refusal::bad("limits.cpus", format!("`cpus` must be 0.01 to {}.{:03}.", most / 1000, most % 1000));
        limits.cpu_millis = millis.ok_or_else(wrong)?;
    }
    if let Some(processes) = asked.processes {
        let most = limits.processes;
        if !(4..=most).contains(&processes) {
            return Err(Refusal::bad("limits.processes", format!("`processes` must be 4 to {most}.")));
        }
        limits.processes = processes;
    }
    if asked.disk_mb == Some(0) {
        return Err(Refusal::bad("limits.disk_mb", "`disk_mb` must be at least 1."));
    }
    Ok(limits)
}

/// A decimal number in thousandths; what is beyond them is cut off.
fn thousandths(text: &str) -> Option<u32> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
    whole.parse::<u32>().ok()?.checked_mul(1000)?.checked_add(digits.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn read(body: &str) -> Result<Ask, Refusal> {
        let mut raw = config::RawConfig::default();
        raw.sandbox.network.allow = vec!["*.granted.test:443".to_owned()];
        let config = config::check(raw).unwrap();
        Ask::of(request(&Bytes::from(body.to_owned()))?, &config.sandbox, &"acme".parse().unwrap())
    }

    #[test]
    fn limits_are_narrowed_and_never_widened() {
        let ask = read(r#"{"command":["a"],"timeout_seconds":5,"limits":{"memory_mb":64,"cpus":0.25,"processes":8}}"#);
        let limits = ask.unwrap().limits;
        assert_eq!((limits.wall, limits.memory_bytes), (Duration::from_secs(5), 64 << 20));
        assert_eq!((limits.cpu_millis, limits.processes), (250, 8));
        for (body, field) in [
            (r#"{"command":["a"],"timeout_seconds":0}"#, "timeout_seconds"),
            (r#"{"command":["a"],"timeout_seconds":601}"#, "timeout_seconds"),
            (r#"{"command":["a"],"limits":{"memory_mb":513}}"#, "limits.memory_mb"),
            (r#"{"command":["a"],"limits":{"cpus":1.5}}"#, "limits.cpus"),
            (r#"{"command":["a"],"limits":{"cpus":-1}}"#, "limits.cpus"),
            (r#"{"command":["a"],"limits":{"processes":129}}"#, "limits.processes"),
            (r#"{"command":["a"],"limits":{"gpus":1}}"#, "limits"),
            (r#"{"command":[]}"#, "command"),
            (r#"{"command":["a"],"code":"b","language":"bash"}"#, "command"),
            (r#"{"code":"b"}"#, "language"),
            (r#"{"code":"b","language":"cobol"}"#, "language"),
            (r#"{"command":["a"],"files":{"../x":"y"}}"#, "files"),
            (r#"{"command":["a"],"stdin":{"base64":"?"}}"#, "stdin"),
            (r#"{"command":["a"],"backend":"none"}"#, "backend"),
            (r#"{"command":["a"],"backend":"docker"}"#, "backend"),
            (r#"{"command":["a"],"network":{"allow":["10.0.0.1:443"]}}"#, "network.allow"),
        ] {
            let Err(Refusal::Bad { param, .. }) = read(body) else { panic!("{body} is taken") };
            assert!(param.unwrap().starts_with(field), "{body}");
        }
        let host = read(r#"{"command":["a"],"network":{"allow":["pypi.org:443"]}}"#);
        assert!(matches!(host, Err(Refusal::Forbidden { code: "network_not_allowed", .. })));
        assert!(read(r#"{"command":["a"]}"#).unwrap().network.is_empty(), "who asks for nothing reaches nothing");
        let host = read(r#"{"command":["a"],"network":{"allow":["a.granted.test:443"]}}"#);
        assert!(!host.unwrap().network.is_empty());
    }

    #[test]
    fn shares_of_a_core_are_counted_in_whole_thousandths() {
        for (text, millis) in
            [("1", Some(1000)), ("0.5", Some(500)), ("1.2345", Some(1234)), ("-1", None), ("1e3", None)]
        {
            assert_eq!(thousandths(text), millis, "{text}");
        }
    }
}
