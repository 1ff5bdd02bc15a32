//! Checks upstreams and aliases, and adds those that need no configuration.

use std::time::Duration;

use openclawmu_store::SANDBOX;

use super::checked::{AliasConfig, BedrockConfig, TargetConfig, UpstreamConfig, UpstreamKind};
use super::load::{ConfigError, value};
use super::outbound::Allowed;
use super::raw::{RawAlias, RawTarget, RawUpstream};
use super::secret::SecretRef;

/// The configured upstreams, the built-in echo, and one for each provider key that the environment holds, unless the hosts that may
/// be called are listed.
pub(super) fn upstreams(configured: Vec<RawUpstream>, allowed: &Allowed) -> Result<Vec<UpstreamConfig>, ConfigError> {
    let named = |name: &str| configured.iter().any(|upstream| upstream.name == name);
    let mut all = Vec::new();
    for (name, url, variable, models) in PROVIDERS {
        if !allowed.is_list() && !named(name) && std::env::var_os(variable).is_some() {
            all.push(from_environment(name, url, variable, models));
        }
    }
    if !configured.iter().any(|upstream| upstream.kind == "echo") && !named("echo") {
        all.push(RawUpstream { models: vec!["echo".to_owned()], ..RawUpstream::bare("echo", "echo") });
    }
    let mut checked: Vec<UpstreamConfig> = Vec::new();
    let mut wishes = Vec::new();
    for raw in configured.into_iter().chain(all) {
        wishes.push(raw.files);
        let upstream = check_upstream(raw)?;
        if upstream.name == AGENTS {
            let message = "is what tenants' own agents are called by; give the upstream another name";
            return Err(value(format!("upstream.{}", upstream.name), message));
        }
        if upstream.name == SANDBOX {
            let message = "is what reports call runs of tenants' code; give the upstream another name";
            return Err(value(format!("upstream.{SANDBOX}"), message));
        }
        if let Some(url) = &upstream.base_url {
            allowed.check(&format!("upstream.{}.base_url", upstream.name), address(url))?;
        }
        if checked.iter().any(|other| other.name == upstream.name) {
            return Err(value(format!("upstream.{}", upstream.name), "two upstreams have this name"));
        }
        checked.push(upstream);
    }
    keep_files(&mut checked, &wishes)?;
    Ok(checked)
}

/// Chooses where tenants' files and batches are kept: where the operator says, else at `OpenAI` itself or Azure, else at the first
/// server that is like it.
fn keep_files(upstreams: &mut [UpstreamConfig], wishes: &[Option<bool>]) -> Result<(), ConfigError> {
    let able = |kind: &UpstreamKind| match kind {
        UpstreamKind::Openai { responses } => Some(*responses),
        UpstreamKind::Azure { .. } => Some(true),
        UpstreamKind::Anthropic { .. }
        | UpstreamKind::Gemini { .. }
        | UpstreamKind::Bedrock(_)
        | UpstreamKind::Echo => None,
    };
    let mut chosen: Option<(u8, usize)> = None;
    for (at, (upstream, wish)) in upstreams.iter().zip(wishes).enumerate() {
        let key = || format!("upstream.{}.files", upstream.name);
        let rank = match (wish, able(&upstream.kind)) {
            (Some(true), None) => return Err(value(key(), "is for kind = \"openai\" or \"azure\" only")),
            (Some(true), Some(_)) if chosen.is_some_and(|(rank, _)| rank == 2) => {
                return Err(value(key(), "is true for another upstream already"));
            }
            (Some(true), Some(_)) => 2,
            (None, Some(is_openai)) => u8::from(is_openai),
            (Some(false), _) | (None, None) => continue,
        };
        if chosen.is_none_or(|(best, _)| rank > best) {
            chosen = Some((rank, at));
        }
    }
    if let Some(upstream) = chosen.and_then(|(_, at)| upstreams.get_mut(at)) {
        upstream.files = true;
    }
    Ok(())
}

/// What names a tenant's own agent, before a `/`: no upstream may.
const AGENTS: &str = "openclaw";

/// Upstreams that are there when their key is in the environment: name and kind, base URL, variable, models.
const PROVIDERS: [(&str, Option<&str>, &str, &[&str]); 3] = [
    (
        "openai",
        Some("https://api.openai.com/v1"),
        "OPENAI_API_KEY",
        &[
            "gpt-*",
            "chatgpt-*",
            "o1*",
            "o3*",
            "o4*",
            "text-embedding-*",
            "omni-moderation-*",
            "dall-e-*",
            "tts-*",
            "whisper-*",
        ],
    ),
    ("anthropic", None, "ANTHROPIC_API_KEY", &["claude-*"]),
    ("gemini", None, "GEMINI_API_KEY", &["gemini-*"]),
];

fn from_environment(name: &str, base_url: Option<&str>, key: &str, models: &[&str]) -> RawUpstream {
    RawUpstream {
        base_url: base_url.map(str::to_owned),
        api_key: Some(SecretRef::Env(key.to_owned())),
        models: models.iter().map(|&model| model.to_owned()).collect(),
        ..RawUpstream::bare(name, name)
    }
}

fn check_upstream(raw: RawUpstream) -> Result<UpstreamConfig, ConfigError> {
    let key = |field: &str| format!("upstream.{}.{field}", raw.name);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if raw.name.is_empty() || raw.name.len() > 64 || !raw.name.bytes().all(plain) {
        let message = format!("`{}` is not 1 to 64 letters, digits, `-`, `_` or `.`", raw.name);
        return Err(value("upstream.name", message));
    }
    let kind = check_kind(&raw)?;
    let default_url = default_url(&kind);
    let base_url = match raw.base_url.clone().or(default_url) {
        Some(url) => Some(check_url(&url).map_err(|message| value(key("base_url"), message))?),
        None if matches!(kind, UpstreamKind::Echo) => None,
        None => {
            let example = match kind {
                UpstreamKind::Azure { .. } => "\"https://NAME.openai.azure.com\"",
                UpstreamKind::Openai { .. }
                | UpstreamKind::Anthropic { .. }
                | UpstreamKind::Gemini { .. }
                | UpstreamKind::Bedrock(_)
                | UpstreamKind::Echo => "\"https://api.openai.com/v1\" for OpenAI",
            };
            return Err(value(key("base_url"), format!("is missing; it is {example}")));
        }
    };
    let read = |secret: &SecretRef| secret.read().map_err(|message| value(key("api_key"), message));
    let api_key = raw.api_key.as_ref().map(read).transpose()?;
    let timeout = |field: &str, ms: u64| match ms {
        0 => Err(value(key(field), "must be at least 1")),
        ms => Ok(Duration::from_millis(ms)),
    };
    Ok(UpstreamConfig {
        kind,
        base_url,
        api_key,
        connect_timeout: timeout("connect_timeout_ms", raw.connect_timeout_ms)?,
        first_byte_timeout: timeout("first_byte_timeout_ms", raw.first_byte_timeout_ms)?,
        idle_timeout: timeout("idle_timeout_ms", raw.idle_timeout_ms)?,
        files: false,
        models: raw.models,
        traceparent: raw.traceparent,
        name: raw.name,
    })
}

/// What the upstream speaks. A key of another kind is a mistake.
fn check_kind(raw: &RawUpstream) -> Result<UpstreamKind, ConfigError> {
    let key = |field: &str| format!("upstream.{}.{field}", raw.name);
    let wrong = |field: &str, kinds: &str| Err(value(key(field), format!("is for kind = {kinds} only")));
    let kind = raw.kind.as_str();
    if raw.api_version.is_some() && !matches!(kind, "azure" | "anthropic") {
        return wrong("api_version", "\"azure\" or \"anthropic\"");
    }
    if raw.responses.is_some() && kind != "openai" {
        return wrong("responses", "\"openai\"");
    }
    if raw.auth.is_some() && kind != "gemini" {
        return wrong("auth", "\"gemini\"");
    }
    let of_bedrock = [&raw.access_key_id, &raw.secret_access_key, &raw.session_token];
    if kind != "bedrock" && (raw.region.is_some() || of_bedrock.iter().any(|secret| secret.is_some())) {
        return wrong("region", "\"bedrock\", like the access key");
    }
    match kind {
        "openai" => {
            let is_openai = raw.base_url.as_deref().is_some_and(|url| url.starts_with("https://api.openai.com/"));
            Ok(UpstreamKind::Openai { responses: raw.responses.unwrap_or(is_openai) })
        }
        "azure" => {
            Ok(UpstreamKind::Azure { api_version: raw.api_version.clone().unwrap_or_else(|| "2024-10-21".to_owned()) })
        }
        "anthropic" => {
            let version = raw.api_version.clone().unwrap_or_else(|| "2023-06-01".to_owned());
            Ok(UpstreamKind::Anthropic { version })
        }
        "gemini" => match raw.auth.as_deref() {
            None | Some("api_key") => Ok(UpstreamKind::Gemini { bearer: false }),
            Some("bearer") => Ok(UpstreamKind::Gemini { bearer: true }),
            Some(other) => Err(value(key("auth"), format!("`{other}` is not one of api_key, bearer"))),
        },
        "bedrock" => check_bedrock(raw).map(UpstreamKind::Bedrock),
        "echo" => Ok(UpstreamKind::Echo),
        other => {
            Err(value(key("kind"), format!("`{other}` is not one of openai, azure, anthropic, gemini, bedrock, echo")))
        }
    }
}

fn check_bedrock(raw: &RawUpstream) -> Result<BedrockConfig, ConfigError> {
    let key = |field: &str| format!("upstream.{}.{field}", raw.name);
    let read = |field: &str, secret: &SecretRef| secret.read().map_err(|message| value(key(field), message));
    let needed = |field: &'static str, secret: &Option<SecretRef>| match secret {
        Some(secret) => read(field, secret),
        None => Err(value(
            key(field),
            "is missing; requests to Bedrock are signed with it, such as \"env:AWS_ACCESS_KEY_ID\"",
        )),
    };
    let region = raw.region.clone().filter(|region| {
        !region.is_empty()
            && region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    });
    Ok(BedrockConfig {
        region: region.ok_or_else(|| value(key("region"), "must be a region such as \"eu-central-1\""))?,
        access_key_id: needed("access_key_id", &raw.access_key_id)?,
        secret_access_key: needed("secret_access_key", &raw.secret_access_key)?,
        session_token: raw.session_token.as_ref().map(|secret| read("session_token", secret)).transpose()?,
    })
}

/// Where a provider is, unless the configuration says otherwise.
fn default_url(kind: &UpstreamKind) -> Option<String> {
    match kind {
        UpstreamKind::Anthropic { .. } => Some("https://api.anthropic.com/v1".to_owned()),
        UpstreamKind::Gemini { bearer: false } => Some("https://generativelanguage.googleapis.com/v1beta".to_owned()),
        UpstreamKind::Bedrock(bedrock) => Some(format!("https://bedrock-runtime.{}.amazonaws.com", bedrock.region)),
        UpstreamKind::Openai { .. }
        | UpstreamKind::Azure { .. }
        | UpstreamKind::Gemini { bearer: true }
        | UpstreamKind::Echo => None,
    }
}

fn check_url(text: &str) -> Result<http::Uri, String> {
    let uri: http::Uri = text.trim_end_matches('/').parse().map_err(|err| format!("`{text}` is not a URL: {err}"))?;
    let scheme_fits = matches!(uri.scheme_str(), Some("http" | "https"));
    let plain = uri.query().is_none() && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    if scheme_fits && uri.host().is_some() && plain {
        Ok(uri)
    } else {
        Err(format!("`{text}` must be http://HOST… or https://HOST…, without user or query"))
    }
}

/// The host and port of a URL that was checked.
fn address(url: &http::Uri) -> (&str, u16) {
    let port = if url.scheme_str() == Some("http") { 80 } else { 443 };
    (url.host().unwrap_or_default(), url.port_u16().unwrap_or(port))
}

/// Proves an alias's targets to exist.
pub(super) fn check_alias(raw: RawAlias, upstreams: &[UpstreamConfig]) -> Result<AliasConfig, ConfigError> {
    let key = format!("model.{}", raw.name);
    if raw.name.is_empty() || raw.name.len() > 200 {
        return Err(value("model.name", "must have 1 to 200 characters"));
    }
    if raw.targets.is_empty() {
        return Err(value(
            key,
            "needs at least one target: targets = [{ upstream = \"openai\", model = \"gpt-4o-mini\" }]",
        ));
    }
    let target = |raw: RawTarget| {
        let at = upstreams.iter().position(|upstream| upstream.name == raw.upstream);
        let upstream =
            at.ok_or_else(|| value(format!("{key}.upstream"), format!("there is no upstream `{}`", raw.upstream)))?;
        Ok(TargetConfig { upstream, model: raw.model, weight: raw.weight })
    };
    let targets = raw.targets.into_iter().map(target).collect::<Result<Vec<_>, ConfigError>>()?;
    let fallbacks = raw.fallbacks.into_iter().map(target).collect::<Result<Vec<_>, ConfigError>>()?;
    if targets.iter().all(|target| target.weight == 0) {
        return Err(value(key, "every target has weight 0"));
    }
    Ok(AliasConfig { name: raw.name, targets, fallbacks })
}
