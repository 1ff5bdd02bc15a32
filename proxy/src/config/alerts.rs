//! `[alerts]`: when budgets tell that they are being spent, and whom.

use openclawmu_control::OutboundUrl;
use openclawmu_control::webhook::WebhookSecret;
use openclawmu_store::Alerts;
use serde::{Deserialize, Serialize};

use super::load::{ConfigError, value};
use super::secret::SecretRef;

/// `[alerts]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawAlerts {
    /// Percentages of a cap.
    pub thresholds: Vec<u8>,
    /// Where to tell them; absent: the audit log alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<String>,
    /// What webhooks are signed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_secret: Option<SecretRef>,
}

impl Default for RawAlerts {
    fn default() -> Self {
        Self { thresholds: vec![50, 80, 100], webhook_url: None, webhook_secret: None }
    }
}

/// When budgets tell that they are being spent, and whom.
#[derive(Clone, Debug)]
pub struct AlertsConfig {
    /// The thresholds.
    pub alerts: Alerts,
    /// Where to tell them, and what it is signed with.
    pub webhook: Option<(OutboundUrl, WebhookSecret)>,
}

pub(super) fn check(raw: RawAlerts) -> Result<AlertsConfig, ConfigError> {
    let alerts = Alerts::new(raw.thresholds).map_err(|message| value("alerts.thresholds", message))?;
    let secret = |secret: &SecretRef| {
        let read = secret.read().and_then(|text| WebhookSecret::parse(&text));
        read.map_err(|message| value("alerts.webhook_secret", message))
    };
    match (raw.webhook_url.filter(|url| !url.is_empty()), raw.webhook_secret) {
        (None, None) => Ok(AlertsConfig { alerts, webhook: None }),
        (None, Some(_)) => Err(value("alerts.webhook_secret", "signs nothing: set alerts.webhook_url as well")),
        (Some(_), None) => {
            let message = "is missing: webhooks are always signed; make one with `echo whsec_$(openssl rand -base64 32)`, and name it as \"env:NAME\" or \"file:PATH\"";
            Err(value("alerts.webhook_secret", message))
        }
        (Some(url), Some(key)) => {
            let url = OutboundUrl::parse(&url).map_err(|message| value("alerts.webhook_url", message))?;
            Ok(AlertsConfig { alerts: alerts.with_webhook(), webhook: Some((url, secret(&key)?)) })
        }
    }
}
