//! The operator's client of the admin listener.

use std::net::SocketAddr;

use http::Method;
use serde_json::{Value, json};

use crate::client::{Reply, http_client};
use crate::money::nanos;
use crate::wait;

/// A tenant as it was just made.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Its id.
    pub id: String,
    /// The id of its first token.
    pub token_id: String,
    /// The token itself.
    pub token: String,
}

/// One budget's state, in nano-dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// The cap, if there is one.
    pub cap: Option<i128>,
    /// Settled.
    pub posted: i128,
    /// Reserved by requests in flight.
    pub pending: i128,
    /// Kept back after a crash.
    pub held: i128,
    /// What is left.
    pub remaining: Option<i128>,
}

/// The admin API with its key.
#[derive(Clone)]
pub struct Admin {
    http: reqwest::Client,
    address: SocketAddr,
    key: String,
}

impl Admin {
    /// A client with this key.
    #[must_use]
    pub fn new(address: SocketAddr, key: &str) -> Self {
        Self { http: http_client(false), address, key: key.to_owned() }
    }

    /// The same with another key.
    #[must_use]
    pub fn with_key(&self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self.clone() }
    }

    /// A request to be finished by the caller, with the key set.
    pub fn build(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.address)).bearer_auth(&self.key)
    }

    /// Sends without a body.
    pub async fn send(&self, method: Method, path: &str) -> Reply {
        Reply::of(self.build(method, path).send().await.expect("an answer")).await
    }

    /// Sends JSON.
    pub async fn send_json(&self, method: Method, path: &str, body: &Value) -> Reply {
        Reply::of(self.build(method, path).json(body).send().await.expect("an answer")).await
    }

    /// GET that must be a 200.
    pub async fn get(&self, path: &str) -> Value {
        let reply = self.send(Method::GET, path).await;
        assert_eq!(reply.status, 200, "GET {path}: {}", reply.text());
        reply.json()
    }

    /// POST.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send_json(Method::POST, path, body).await
    }

    /// Makes a tenant with this quota.
    pub async fn tenant(&self, id: &str, quota: Value) -> Tenant {
        self.tenant_of(json!({ "id": id, "quota": quota })).await
    }

    /// Makes a tenant of this body.
    pub async fn tenant_of(&self, body: Value) -> Tenant {
        let reply = self.post("/v1/tenants", &body).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        let made = reply.json();
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("a string in {made}")).to_owned();
        Tenant {
            id: text(&made["tenant"]["id"]),
            token_id: text(&made["token"]["id"]),
            token: text(&made["token"]["value"]),
        }
    }

    /// Changes a tenant; must be a 200.
    pub async fn patch(&self, tenant: &str, body: &Value) -> Value {
        let reply = self.send_json(Method::PATCH, &format!("/v1/tenants/{tenant}"), body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }

    /// Mints another token: its id and its value.
    pub async fn mint(&self, tenant: &str, body: &Value) -> (String, String) {
        let reply = self.post(&format!("/v1/tenants/{tenant}/tokens"), body).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        let made = reply.json();
        let token = made.get("token").unwrap_or(&made);
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("a string in {made}")).to_owned();
        (text(&token["id"]), text(&token["value"]))
    }

    /// Revokes a token.
    pub async fn revoke(&self, tenant: &str, token: &str) {
        let reply = self.send(Method::DELETE, &format!("/v1/tenants/{tenant}/tokens/{token}")).await;
        assert!(matches!(reply.status, 200 | 204), "{} {}", reply.status, reply.text());
    }

    /// One bucket of the tenant's quota, such as `usd_per_day`.
    pub async fn budget(&self, tenant: &str, bucket: &str) -> Budget {
        let quota = self.get(&format!("/v1/tenants/{tenant}/quota")).await;
        budget_of(&quota, bucket)
    }

    /// The daily budget once nothing is pending.
    pub async fn settled(&self, tenant: &str) -> Budget {
        wait::until("nothing pending", || async {
            let budget = self.budget(tenant, "usd_per_day").await;
            (budget.pending == 0).then_some(budget)
        })
        .await
    }

    /// A counter of `/metrics`, summed over the series whose text contains every one of `labels`.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        let reply = self.send(Method::GET, "/metrics").await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let text = reply.text();
        let series =
            text.lines().filter(|line| line.starts_with(name) && labels.iter().all(|label| line.contains(label)));
        series
            .filter_map(|line| line.rsplit(' ').next())
            .map(|value| value.parse::<u64>().unwrap_or_else(|_| panic!("a count: {value}")))
            .sum()
    }
}

/// Reads one bucket of a quota answer.
#[must_use]
pub fn budget_of(quota: &Value, bucket: &str) -> Budget {
    let part = &quota[bucket];
    assert!(part.is_object(), "{bucket} in {quota}");
    let amount = |key: &str| nanos(part[key].as_str().unwrap_or_else(|| panic!("{key} is a decimal string in {part}")));
    let optional = |key: &str| part[key].as_str().map(nanos);
    Budget {
        cap: optional("cap"),
        posted: amount("posted"),
        pending: amount("pending"),
        held: amount("held"),
        remaining: optional("remaining"),
    }
}
