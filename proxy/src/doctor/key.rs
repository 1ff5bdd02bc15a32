//! Keys and other secrets: are they strong, and can nobody else read them.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use secrecy::ExposeSecret;

use super::Finding;
use crate::config::{Config, RawConfig, SecretRef};

/// The least that an admin key must have.
const KEY_CHARS: usize = 32;
/// Fewer different characters than this are no random key.
const DIFFERENT_CHARS: usize = 12;
/// The keys that the gateway makes itself.
const OWN: [&str; 4] = ["admin.key", "pepper.key", "master.key", "audit.key"];

/// Looks at them.
pub(super) fn look(raw: &RawConfig, config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in OWN {
        let path = config.data_dir.join(name);
        if path.exists() {
            findings.push(mode(name, &path));
        }
    }
    for (key, path) in files(raw) {
        findings.push(mode(&key, path));
    }
    findings.extend(admin(config));
    findings
}

/// The files that the configuration names for secrets.
fn files(raw: &RawConfig) -> Vec<(String, &Path)> {
    let admin = raw.admin.keys.iter().map(|key| ("admin.keys".to_owned(), Some(key)));
    let upstreams = raw.upstreams.iter().flat_map(|upstream| {
        let secrets =
            [&upstream.api_key, &upstream.access_key_id, &upstream.secret_access_key, &upstream.session_token];
        secrets.map(|secret| (format!("upstream.{}", upstream.name), secret.as_ref()))
    });
    let outside = [
        ("alerts.webhook_secret".to_owned(), raw.alerts.webhook_secret.as_ref()),
        ("stripe.api_key".to_owned(), raw.stripe.api_key.as_ref()),
        ("audit.key".to_owned(), raw.audit.key.as_ref()),
        ("backup.access_key_id".to_owned(), raw.backup.access_key_id.as_ref()),
        ("backup.secret_access_key".to_owned(), raw.backup.secret_access_key.as_ref()),
        ("backup.session_token".to_owned(), raw.backup.session_token.as_ref()),
        ("backup.passphrase".to_owned(), raw.backup.passphrase.as_ref()),
    ];
    let named = admin.chain(upstreams).chain(outside);
    named
        .filter_map(|(key, secret)| match secret {
            Some(SecretRef::File(path)) => Some((key, path.as_path())),
            Some(SecretRef::Env(_)) | None => None,
        })
        .collect()
}

fn mode(check: &str, path: &Path) -> Finding {
    let check = format!("key.{check}");
    match std::fs::metadata(path) {
        Ok(meta) if meta.mode() & 0o077 != 0 => Finding::fail(
            check,
            format!("{} can be read by others (mode {:o})", path.display(), meta.mode() & 0o777),
            format!("chmod 600 {}, and change the key: somebody may have read it", path.display()),
        ),
        Ok(_) => Finding::ok(check, format!("{} is its owner's alone", path.display())),
        Err(err) => Finding::fail(check, format!("{}: {err}", path.display()), "make it readable for this user"),
    }
}

/// How the admin keys are.
fn admin(config: &Config) -> Vec<Finding> {
    if !config.admin.keys.is_empty() {
        let keys = config.admin.keys.iter();
        return keys.map(|key| strength("admin.key", key.expose_secret())).collect();
    }
    match std::fs::read_to_string(config.data_dir.join("admin.key")) {
        Ok(key) => vec![strength("admin.key", key.trim())],
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            vec![Finding::ok("admin.key", "the first start makes one")]
        }
        Err(err) => vec![Finding::fail("admin.key", format!("admin.key: {err}"), "run doctor as the gateway's user")],
    }
}

fn strength(check: &str, key: &str) -> Finding {
    let hint = "make one with `openssl rand -hex 32`";
    let different = key.chars().collect::<BTreeSet<char>>().len();
    if key.chars().count() < KEY_CHARS {
        return Finding::fail(check, format!("an admin key has fewer than {KEY_CHARS} characters"), hint);
    }
    if different < DIFFERENT_CHARS {
        return Finding::warn(check, format!("an admin key has only {different} different characters"), hint);
    }
    Finding::ok(check, "can't be guessed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn a_short_key_fails_and_a_dull_one_is_told_without_being_shown() {
        let state = |key: &str| {
            let finding = strength("admin.key", key);
            assert!(!format!("{finding:?}").contains(key));
            finding.state
        };
        assert_eq!(state("ak_short"), State::Fail);
        assert_eq!(state(&"abc".repeat(20)), State::Warn);
        assert_eq!(state("d41d8cd98f00b204e9800998ecf8427e"), State::Ok);
    }
}
