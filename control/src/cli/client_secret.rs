//! `tenants client-secret`. The secret is printed once, by the call that made it.

use clap::Args;
use http::Method;
use openclawmu_store::{NanoUsd, TenantId};
use serde_json::{Map, Value};

use crate::cli::answer::shown;
use crate::cli::client::{Call, Client};
use crate::cli::duration;
use crate::cli::table::fields;
use crate::cli::value;

/// What a client secret is good for, as flags.
#[derive(Debug, Default, Args)]
pub struct ClientSecretFlags {
    /// How long it works, 10s to 24h [default: 10m]
    #[arg(long, value_parser = duration::parse_seconds, value_name = "TIME")]
    ttl: Option<u32>,
    /// Models that it may call, of those that its tenant may; may be repeated
    #[arg(long = "model", value_delimiter = ',', value_name = "A,B")]
    models: Vec<String>,
    /// The most that it may cost, such as 0.50
    #[arg(long, value_parser = value::positive_usd, value_name = "USD")]
    max_cost_usd: Option<NanoUsd>,
    /// The most requests that it may make
    #[arg(long, value_name = "N")]
    max_requests: Option<u64>,
    /// The only page that may use it, such as `https://app.example.com`
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<String>,
    /// Whom it is for, in the reports
    #[arg(long, value_name = "USER")]
    user: Option<String>,
}

impl ClientSecretFlags {
    /// The body of the API's POST.
    pub(crate) fn to_body(&self) -> Map<String, Value> {
        let models = (!self.models.is_empty()).then(|| Value::from(self.models.clone()));
        let given = [
            ("ttl_seconds", self.ttl.map(Value::from)),
            ("models", models),
            ("max_cost_usd", self.max_cost_usd.map(|usd| Value::from(usd.to_short_string()))),
            ("max_requests", self.max_requests.map(Value::from)),
            ("origin", self.origin.clone().map(Value::from)),
            ("user", self.user.clone().map(Value::from)),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

pub(crate) async fn create(
    client: &Client,
    tenant: &TenantId,
    flags: &ClientSecretFlags,
    json: bool,
) -> anyhow::Result<String> {
    let path = ["tenants", tenant.as_str(), "client_secrets"];
    let answer = client.text(Call::send(Method::POST, &path, flags.to_body().into())).await?;
    if json {
        return Ok(format!("{answer}\n"));
    }
    let made: Value = serde_json::from_str(&answer)?;
    let text = |name: &str| made.get(name).map(shown);
    let listed = [("secret", text("value")), ("expires", text("expires_at")), ("cookie", text("cookie"))];
    Ok(format!("{}\nKeep the secret now: it is shown this once and can't be read again.\n", fields(&listed)))
}
