//! Every file in `conf/` is what it says it is.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use openclawmu_proxy::config::{self, Overrides, RawConfig};
use openclawmu_store::{Bound, ModelPrice, NanoUsd, ServiceTier};

fn conf() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf")
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn every_toml_file_is_a_configuration_and_every_json_file_parses() {
    let mut parsed = 0;
    for path in files(&conf()) {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => {
                let raw = config::load(Some(&path), &Overrides::default()).unwrap();
                // The image's names a key of its environment: it is checked with one, end to end.
                if !path.parent().unwrap().ends_with("docker") {
                    config::check(raw).unwrap();
                }
            }
            Some("json") => {
                serde_json::from_str::<serde_json::Value>(&std::fs::read_to_string(&path).unwrap()).unwrap();
            }
            _ => continue,
        }
        parsed += 1;
    }
    assert!(parsed >= 2);
}

#[test]
fn openclawmu_toml_shows_the_defaults() {
    let shown = config::load(Some(&conf().join("openclawmu.toml")), &Overrides::default()).unwrap();
    assert_eq!(shown, RawConfig::default());
}

/// What is commented out there is right, too: with every comment of a key opened, the file still parses.
#[test]
fn the_examples_in_openclawmu_toml_parse() {
    let text = std::fs::read_to_string(conf().join("openclawmu.toml")).unwrap();
    let is_example = |line: &str| {
        let rest = line.strip_prefix("# ").unwrap_or_default();
        rest.starts_with('[')
            || rest
                .split_once(" = ")
                .is_some_and(|(key, _)| key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
    };
    let opened: Vec<&str> =
        text.lines().map(|line| if is_example(line) { line.strip_prefix("# ").unwrap() } else { line }).collect();
    let raw: RawConfig = toml::from_str(&opened.join("\n")).unwrap();
    assert_eq!((raw.upstreams.len(), raw.models.len()), (1, 1));
    assert!(raw.edge.tls.is_some() && raw.rates.file.is_some());
    assert!(raw.alerts.webhook_url.is_some() && raw.alerts.webhook_secret.is_some());
    assert!(raw.audit.dir.is_some() && raw.audit.key.is_some());
    assert!(raw.stripe.api_key.is_some() && raw.stripe.nightly_at.is_some() && raw.stripe.since.is_some());
    assert_eq!(raw.stripe.meters.len(), 1);
}

#[test]
fn an_unknown_key_is_refused_by_name() {
    let err = toml::from_str::<RawConfig>("[edge]\nlissten = \"127.0.0.1:1\"").unwrap_err().to_string();
    assert!(err.contains("lissten"), "{err}");
}

#[test]
fn n_10_an_open_bind_without_an_admin_key_is_refused() {
    for (section, key) in [("edge", "edge.listen"), ("admin", "admin.listen")] {
        let raw: RawConfig = toml::from_str(&format!("[{section}]\nlisten = \"0.0.0.0:9000\"")).unwrap();
        let err = config::check(raw).unwrap_err().to_string();
        assert!(err.contains(key) && err.contains("OPENCLAWMU_ADMIN_KEY"), "{err}");
    }
}

#[test]
fn a_secret_pasted_into_the_configuration_is_refused_and_not_repeated() {
    let text = "[[upstream]]\nname=\"a\"\nkind=\"openai\"\nbase_url=\"http://x\"\napi_key=\"sk-very-secret\"";
    let raw = toml::from_str::<RawConfig>(text);
    let err = raw.unwrap_err().message().to_owned();
    assert!(err.contains("env:NAME") && !err.contains("sk-very-secret"), "{err}");
}

#[test]
fn the_rate_card_prices_every_model_it_names() {
    #[derive(serde::Deserialize)]
    struct Card {
        models: BTreeMap<String, ModelPrice>,
    }
    let card: Card = serde_json::from_str(&std::fs::read_to_string(conf().join("rates.json")).unwrap()).unwrap();
    assert!(card.models.len() > 100);
    for name in
        ["gpt-4o", "gpt-4o-mini", "claude-3-7-sonnet-20250219", "gemini-2.5-pro", "text-embedding-3-small", "echo"]
    {
        assert!(card.models.contains_key(name), "{name}");
    }
    for (name, tiers) in [
        ("gpt-4o", &[ServiceTier::Batch, ServiceTier::Priority][..]),
        ("gpt-5", &[ServiceTier::Batch, ServiceTier::Flex, ServiceTier::Priority]),
        ("claude-sonnet-4-5", &[ServiceTier::Batch]),
    ] {
        assert!(tiers.iter().all(|tier| card.models[name].lists(*tier)), "{name}");
    }
    for (name, price) in &card.models {
        price.check().unwrap();
        let free = name.contains("moderation");
        let costs = |bound| price.upper_bound(bound, ServiceTier::Standard) > NanoUsd::ZERO;
        let by_tokens = costs(Bound { input_tokens: 1_000_000, ..Bound::default() });
        let otherwise = costs(Bound { input_characters: 1_000_000, input_ms: 1_000_000, ..Bound::default() });
        assert!(free || by_tokens || otherwise || !price.images.is_empty(), "{name} has no price");
        let is_read = by_tokens && price.images.is_empty();
        assert!(price.context_tokens.is_some() || !is_read, "{name} has no context window");
    }
}

#[test]
fn a_value_that_cannot_be_meant_is_refused_by_its_key() {
    for (text, key) in [
        ("[log]\nlevel = \"a=b=c\"", "log.level"),
        ("[log]\naccess = \"\"", "log.access"),
        ("[metrics]\ntenants = 10001", "metrics.tenants"),
        ("[traces]\nsample_one_in = 0", "traces.sample_one_in"),
        ("[traces]\notlp_endpoint = \"collector:4317\"", "traces.otlp_endpoint"),
        ("[traces]\ntrusted_peers = [\"ten\"]", "traces.trusted_peers"),
        ("[traces]\notlp_endpoint = \"http://a\"\n[outbound]\nallowed_hosts = [\"b\"]", "traces.otlp_endpoint"),
        ("[edge]\nkeepalive_seconds = 0", "edge.keepalive_seconds"),
        ("[edge]\nkeepalive_requests = 0", "edge.keepalive_requests"),
        ("[edge]\nwrite_timeout_seconds = 0", "edge.write_timeout_seconds"),
        ("[audit]\nmax_file_bytes = 100", "audit.max_file_bytes"),
        ("[audit]\nkey = \"env:NOBODY_SETS_THIS\"", "audit.key"),
        ("[alerts]\nthresholds = [0]", "alerts.thresholds"),
        ("[alerts]\nthresholds = [101]", "alerts.thresholds"),
        ("[alerts]\nwebhook_url = \"http://h/\"", "alerts.webhook_secret: is missing"),
        ("[alerts]\nwebhook_secret = \"env:HOME\"", "alerts.webhook_secret: signs nothing"),
        ("[alerts]\nwebhook_url = \"ftp://h/\"\nwebhook_secret = \"env:PATH\"", "alerts.webhook_url"),
        ("[alerts]\nwebhook_url = \"http://h/\"\nwebhook_secret = \"env:NOBODY_SETS_THIS\"", "alerts.webhook_secret"),
        ("[stripe]\nnightly_at = \"02:00\"", "stripe.nightly_at: needs stripe.api_key"),
        ("[stripe]\napi_key = \"env:HOME\"", "stripe.meter: is missing"),
        ("[stripe]\napi_key = \"env:HOME\"\n[[stripe.meter]]\nevent_name = \"a\"\nvalue = \"b\"", "stripe.meter.value"),
        ("[[stripe.meter]]\nevent_name = \"a\"\nvalue = \"tokens\"", "stripe.meter: needs stripe.api_key"),
    ] {
        let err = config::check(toml::from_str(text).unwrap()).unwrap_err().to_string();
        assert!(err.starts_with(key), "{err}");
    }
}
