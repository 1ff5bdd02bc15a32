//! `[backup]`: where backups go, and when.

use std::time::Duration;

use openclawmu_backup::{BackupError, BucketOptions, Encryption, Passphrase, Place, Retention};
use openclawmu_control::OutboundUrl;
use openclawmu_control::backup::BackupConfig;
use serde::{Deserialize, Serialize};

use super::load::{ConfigError, value};
use super::outbound::Allowed;
use super::secret::SecretRef;

/// `[backup]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawBackup {
    /// Where to: `s3://BUCKET/PREFIX` or a directory; absent: only where a command says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Where the bucket's service is; absent: Amazon's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The bucket's region.
    pub region: String,
    /// The bucket's name is in the path.
    pub path_style: bool,
    /// The access key, and its parts that are secret; absent: the machine's own role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<SecretRef>,
    /// See `access_key_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<SecretRef>,
    /// See `access_key_id`; only where the key is temporary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_token: Option<SecretRef>,
    /// How the service encrypts: `AES256` or `aws:kms:KEY`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sse: Option<String>,
    /// What everything is sealed with before it leaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passphrase: Option<SecretRef>,
    /// How often the whole gateway is backed up, such as `24h`; `off`: only when asked.
    pub every: String,
    /// Whole backups that are kept.
    pub keep: usize,
    /// Seconds between two shipments of ledger and audit log; 0: none.
    pub ship_seconds: u64,
    /// How old an object must be that no backup needs, in hours.
    pub orphans_after_hours: u32,
    /// Longest time of one request, in seconds.
    pub timeout_seconds: u64,
    /// How often a request is sent again.
    pub retries: usize,
}

impl Default for RawBackup {
    fn default() -> Self {
        Self {
            to: None,
            endpoint: None,
            region: "us-east-1".to_owned(),
            path_style: false,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            sse: None,
            passphrase: None,
            every: "24h".to_owned(),
            keep: 7,
            ship_seconds: 10,
            orphans_after_hours: 24,
            timeout_seconds: 60,
            retries: 5,
        }
    }
}

/// The checked form.
pub(super) fn check(raw: RawBackup, allowed: &Allowed) -> Result<BackupConfig, ConfigError> {
    let endpoint = raw.endpoint.as_deref().map(OutboundUrl::parse).transpose();
    match endpoint.map_err(|message| value("backup.endpoint", message))? {
        Some(endpoint) => allowed.check("backup.endpoint", endpoint.address())?,
        None if allowed.is_list() && raw.to.as_deref().is_some_and(|to| to.starts_with("s3://")) => {
            let message = "must name the service, since outbound.allowed_hosts lists what may be called";
            return Err(value("backup.endpoint", message));
        }
        None => {}
    }
    if raw.access_key_id.is_some() != raw.secret_access_key.is_some() {
        return Err(value("backup.access_key_id", "needs backup.secret_access_key, and the other way round"));
    }
    if raw.keep == 0 {
        return Err(value("backup.keep", "must be at least 1"));
    }
    if raw.timeout_seconds == 0 {
        return Err(value("backup.timeout_seconds", "must be at least 1"));
    }
    let secret = |key: &'static str, secret: Option<&SecretRef>| {
        secret.map(SecretRef::read).transpose().map_err(|message| value(key, message))
    };
    let bucket = BucketOptions {
        endpoint: raw.endpoint.clone(),
        region: raw.region.clone(),
        path_style: raw.path_style,
        access_key_id: secret("backup.access_key_id", raw.access_key_id.as_ref())?,
        secret_access_key: secret("backup.secret_access_key", raw.secret_access_key.as_ref())?,
        session_token: secret("backup.session_token", raw.session_token.as_ref())?,
        encryption: raw.sse.as_deref().map(encryption).transpose()?,
        timeout: Duration::from_secs(raw.timeout_seconds),
        retries: raw.retries,
    };
    let passphrase = secret("backup.passphrase", raw.passphrase.as_ref())?.map(Passphrase::new).transpose();
    let to = raw.to.as_deref().map(|to| place(to, &bucket)).transpose()?;
    Ok(BackupConfig {
        every: every(&raw.every)?,
        audit: None,
        segments_every: (raw.ship_seconds > 0 && to.is_some()).then(|| Duration::from_secs(raw.ship_seconds)),
        to,
        bucket,
        passphrase: passphrase.map_err(|message| value("backup.passphrase", message))?,
        retention: Retention {
            keep: raw.keep,
            orphans_after_ms: i64::from(raw.orphans_after_hours).saturating_mul(3_600_000),
        },
    })
}

fn place(to: &str, bucket: &BucketOptions) -> Result<Place, ConfigError> {
    let absolute = if to.contains("://") {
        to.to_owned()
    } else {
        let path = std::path::absolute(to).map_err(|err| value("backup.to", err.to_string()))?;
        path.to_str().ok_or_else(|| value("backup.to", "is not UTF-8"))?.to_owned()
    };
    Place::parse("backup.to", &absolute, bucket).map_err(|err| {
        if let BackupError::Invalid { message, .. } = err {
            return value("backup.to", message);
        }
        value("backup.to", err.to_string())
    })
}

fn encryption(sse: &str) -> Result<Encryption, ConfigError> {
    match sse.strip_prefix("aws:kms:") {
        Some(key) if !key.is_empty() => Ok(Encryption::Kms(key.to_owned())),
        None if sse == "AES256" => Ok(Encryption::Aes256),
        Some(_) | None => Err(value("backup.sse", format!("`{sse}` is neither \"AES256\" nor \"aws:kms:KEY\""))),
    }
}

/// `24h`, `90m`, `7d`; `off` is never.
fn every(text: &str) -> Result<Option<Duration>, ConfigError> {
    if text == "off" {
        return Ok(None);
    }
    let refused =
        || value("backup.every", format!("`{text}` is no interval: write \"24h\", \"90m\", \"7d\" or \"off\""));
    let unit = text.chars().next_back().ok_or_else(refused)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(refused()),
    };
    let count: u64 = text.trim_end_matches(unit).parse().map_err(|_| refused())?;
    let seconds =
        count.checked_mul(seconds).filter(|seconds| (1..=366 * 86_400).contains(seconds)).ok_or_else(refused)?;
    Ok(Some(Duration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use super::super::outbound::RawOutbound;
    use super::*;

    fn raw() -> RawBackup {
        // Another test may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        RawBackup { to: Some("s3://bucket/prefix".to_owned()), ..RawBackup::default() }
    }

    fn anywhere() -> Allowed {
        Allowed::of(&RawOutbound::default()).unwrap()
    }

    #[test]
    fn nothing_is_needed_and_nothing_happens_by_default() {
        let config = check(RawBackup::default(), &anywhere()).unwrap();
        assert!(config.to.is_none() && config.segments_every.is_none());
        let config = check(raw(), &anywhere()).unwrap();
        assert_eq!(
            (config.every, config.segments_every),
            (Some(Duration::from_secs(86_400)), Some(Duration::from_secs(10)))
        );
    }

    #[test]
    fn a_value_that_cant_be_used_names_its_key() {
        let cases = [
            ("backup.to", RawBackup { to: Some("gs://bucket".to_owned()), ..raw() }),
            ("backup.endpoint", RawBackup { endpoint: Some("minio:9000".to_owned()), ..raw() }),
            ("backup.access_key_id", RawBackup { access_key_id: Some(SecretRef::Env("X".to_owned())), ..raw() }),
            ("backup.sse", RawBackup { sse: Some("none".to_owned()), ..raw() }),
            ("backup.every", RawBackup { every: "daily".to_owned(), ..raw() }),
            ("backup.every", RawBackup { every: "0h".to_owned(), ..raw() }),
            ("backup.keep", RawBackup { keep: 0, ..raw() }),
            ("backup.timeout_seconds", RawBackup { timeout_seconds: 0, ..raw() }),
        ];
        for (key, raw) in cases {
            assert!(check(raw, &anywhere()).is_err_and(|err| err.to_string().starts_with(key)), "{key}");
        }
        assert_eq!(every("off").unwrap(), None);
        assert_eq!(encryption("aws:kms:alias/backup").unwrap(), Encryption::Kms("alias/backup".to_owned()));
    }
}
