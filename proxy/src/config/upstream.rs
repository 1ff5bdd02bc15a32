//! Checks upstreams and aliases, and adds those that need no configuration.

use std::time::Duration;

use super::checked::{AliasConfig, TargetConfig, UpstreamConfig, UpstreamKind};
use super::load::{ConfigError, value};
use super::raw::{RawAlias, RawTarget, RawUpstream};
use super::secret::SecretRef;

/// The configured upstreams, the built-in echo, and one for each provider key that the environment holds.
pub(super) fn upstreams(configured: Vec<RawUpstream>) -> Result<Vec<UpstreamConfig>, ConfigError> {
    let named = |name: &str| configured.iter().any(|upstream| upstream.name == name);
    let mut all = Vec::new();
    if !named("openai") && std::env::var_os("OPENAI_API_KEY").is_some() {
        all.push(from_environment(
            "openai",
            "https://api.openai.com/v1",
            "OPENAI_API_KEY",
            &["gpt-*", "chatgpt-*", "o1*", "o3*", "o4*", "text-embedding-*"],
        ));
    }
    if !configured.iter().any(|upstream| upstream.kind == "echo") && !named("echo") {
        all.push(RawUpstream { models: vec!["echo".to_owned()], ..RawUpstream::bare("echo", "echo") });
    }
    let mut checked: Vec<UpstreamConfig> = Vec::new();
    for raw in configured.into_iter().chain(all) {
        let upstream = check_upstream(raw)?;
        if checked.iter().any(|other| other.name == upstream.name) {
            return Err(value(format!("upstream.{}", upstream.name), "two upstreams have this name"));
        }
        checked.push(upstream);
    }
    Ok(checked)
}

fn from_environment(name: &str, base_url: &str, key: &str, models: &[&str]) -> RawUpstream {
    RawUpstream {
        base_url: Some(base_url.to_owned()),
        api_key: Some(SecretRef::Env(key.to_owned())),
        models: models.iter().map(|&model| model.to_owned()).collect(),
        ..RawUpstream::bare(name, "openai")
    }
}

fn check_upstream(raw: RawUpstream) -> Result<UpstreamConfig, ConfigError> {
    let key = |field: &str| format!("upstream.{}.{field}", raw.name);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if raw.name.is_empty() || raw.name.len() > 64 || !raw.name.bytes().all(plain) {
        let message = format!("`{}` is not 1 to 64 letters, digits, `-`, `_` or `.`", raw.name);
        return Err(value("upstream.name", message));
    }
    let kind = check_kind(&raw.kind).map_err(|message| value(key("kind"), message))?;
    let base_url = match (&raw.base_url, kind) {
        (Some(url), UpstreamKind::Openai) => Some(check_url(url).map_err(|message| value(key("base_url"), message))?),
        (None, UpstreamKind::Openai) => {
            return Err(value(key("base_url"), "is missing; for OpenAI it is \"https://api.openai.com/v1\""));
        }
        (_, UpstreamKind::Echo) => None,
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
        models: raw.models,
        name: raw.name,
    })
}

fn check_kind(kind: &str) -> Result<UpstreamKind, String> {
    match kind {
        "openai" => Ok(UpstreamKind::Openai),
        "echo" => Ok(UpstreamKind::Echo),
        "anthropic" | "gemini" | "azure" | "bedrock" => Err(format!(
            "`{kind}` is not supported by this version; where that provider has an OpenAI-compatible endpoint, use kind = \"openai\""
        )),
        other => Err(format!("`{other}` is not one of openai, echo")),
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
