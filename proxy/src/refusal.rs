//! Everything a client may be told when it is refused. The cause goes to the log; this goes to the client.

use std::borrow::Cow;

use openclawmu_store::{BudgetKind, RateKind, Refused, Scope, SecretLimit, UnixMs};

use crate::dialect::form::{Trouble, TroubleKind};
use crate::dialect::json::Json;
use crate::observe::Fate;

/// The code of what is no well-formed HTTP. Where a request ends is then anybody's guess, so its connection ends with it.
pub(crate) const MALFORMED: &str = "malformed_request";

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// No, bad, expired or revoked credential.
    #[error("no valid credential")]
    Unauthenticated,
    /// The credential is right and does not reach this far.
    #[error("{message}")]
    Forbidden {
        /// The machine's word.
        code: &'static str,
        /// The person's sentence.
        message: String,
    },
    /// No such route, or no such model.
    #[error("{message}")]
    NotFound {
        /// The machine's word.
        code: &'static str,
        /// The person's sentence.
        message: String,
    },
    /// The request can't be used as it is.
    #[error("{message}")]
    Bad {
        /// 400, or what is more exact.
        status: u16,
        /// The field at fault.
        param: Option<Cow<'static, str>>,
        /// The machine's word.
        code: Option<&'static str>,
        /// The person's sentence.
        message: String,
    },
    /// The quota refuses.
    #[error("{refused}")]
    Quota {
        /// The store's word.
        refused: Refused,
        /// Milliseconds from now until it may succeed.
        retry_after_ms: Option<u64>,
    },
    /// The store can't answer.
    #[error("the store is unavailable")]
    Store,
    /// This process can open no more connections.
    #[error("no more connections can be opened")]
    Exhausted,
    /// No code can be run, or no file of a tenant be reached, at the moment.
    #[error("{message}")]
    Sandbox {
        /// The machine's word.
        code: &'static str,
        /// The person's sentence.
        message: String,
    },
    /// The upstream refused, broke or could not be reached.
    #[error("{message}")]
    Upstream {
        /// The machine's word.
        code: &'static str,
        /// The person's sentence; names the upstream, never its address or key.
        message: String,
    },
    /// The upstream took too long.
    #[error("{message}")]
    UpstreamTimeout {
        /// The person's sentence.
        message: String,
    },
}

/// A refusal as it goes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The error's `type`.
    pub(crate) kind: &'static str,
    /// The error's `code`.
    pub(crate) code: Option<&'static str>,
    /// The error's `param`.
    pub(crate) param: Option<Cow<'static, str>>,
    /// The error's `message`.
    pub(crate) message: String,
    /// `retry-after` and `retry-after-ms`.
    pub(crate) retry_after_ms: Option<u64>,
    /// Whether an SDK may retry by itself; `None` leaves it to the status.
    pub(crate) should_retry: Option<bool>,
    /// Whether the connection ends with it: what follows on it can't be told apart from what was refused.
    pub(crate) closes: bool,
}

impl Refusal {
    /// A 400 that names the field at fault.
    pub(crate) fn bad(param: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::Bad { status: 400, param: Some(param.into()), code: Some("invalid_value"), message: message.into() }
    }

    /// The quota's refusal, its wait counted from `now`.
    pub(crate) fn quota(refused: Refused, now: UnixMs) -> Self {
        let retry_after_ms = match &refused {
            Refused::Budget { resets_at, .. } => u64::try_from(resets_at.0.saturating_sub(now.0)).ok(),
            Refused::ClientSecret { ends_at, .. } => u64::try_from(ends_at.0.saturating_sub(now.0)).ok(),
            Refused::Rate { retry_after_ms, .. } => *retry_after_ms,
            Refused::Concurrency { .. } | Refused::Unavailable(_) => Some(1000),
        };
        Self::Quota { refused, retry_after_ms }
    }

    /// No such route.
    pub(crate) fn unknown_url(method: &http::Method, path: &str) -> Self {
        let path: String = path.chars().take(200).collect();
        let message =
            format!("Unknown request URL: {method} {path}. The README lists the routes that this gateway serves.");
        Self::NotFound { code: "unknown_url", message }
    }

    /// The route has another method.
    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        Self::Bad {
            status: 405,
            param: Some(allow.into()),
            code: Some("method_not_allowed"),
            message: format!("This route takes {allow}."),
        }
    }

    /// A token without the scope that a route needs.
    pub(crate) fn scope_missing(scope: Scope) -> Self {
        let name =
            serde_json::to_value(scope).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
        Self::Forbidden {
            code: "scope_missing",
            message: format!("This token lacks the scope `{name}`. Ask for a token with it."),
        }
    }

    /// What becomes of a request that is refused so.
    pub(crate) fn fate(&self) -> Fate {
        match self {
            Self::Upstream { .. } | Self::UpstreamTimeout { .. } => Fate::UpstreamFailed,
            Self::Unauthenticated
            | Self::Forbidden { .. }
            | Self::NotFound { .. }
            | Self::Bad { .. }
            | Self::Quota { .. }
            | Self::Store
            | Self::Exhausted
            | Self::Sandbox { .. } => Fate::Refused,
        }
    }

    /// What the client is told: the contract's table.
    pub(crate) fn told(&self) -> Told {
        let plain = |status, kind, code, message: &str| Told {
            status,
            kind,
            code: Some(code),
            param: None,
            message: message.to_owned(),
            retry_after_ms: None,
            should_retry: None,
            closes: false,
        };
        match self {
            Self::Unauthenticated => plain(
                401,
                "invalid_request_error",
                "invalid_api_key",
                "Incorrect API key provided. Send a valid tenant token as `Authorization: Bearer tk_...`.",
            ),
            Self::Forbidden { code, message } => plain(403, "permission_error", code, message),
            Self::NotFound { code, message } => plain(404, "invalid_request_error", code, message),
            Self::Bad { status, param, code, message } => {
                let closes = *code == Some(MALFORMED) || matches!(status, 408 | 413 | 414 | 431);
                Told {
                    param: param.clone(),
                    code: *code,
                    closes,
                    ..plain(*status, "invalid_request_error", "", message)
                }
            }
            Self::Quota { refused, retry_after_ms } => told_quota(refused, *retry_after_ms),
            Self::Store => Told {
                retry_after_ms: Some(1000),
                ..plain(
                    503,
                    "server_error",
                    "store_unavailable",
                    "The quota cannot be proved at the moment. Please try again.",
                )
            },
            Self::Exhausted => Told {
                retry_after_ms: Some(1000),
                ..plain(503, "server_error", "overloaded", "The gateway is overloaded. Please try again.")
            },
            Self::Sandbox { code, message } => {
                Told { retry_after_ms: Some(10_000), ..plain(503, "server_error", code, message) }
            }
            Self::Upstream { code, message } => plain(502, "upstream_error", code, message),
            Self::UpstreamTimeout { message } => plain(504, "upstream_error", "upstream_timeout", message),
        }
    }
}

fn told_quota(refused: &Refused, retry_after_ms: Option<u64>) -> Told {
    let rate = |kind, message, should_retry| (429, kind, "rate_limit_exceeded", message, should_retry);
    let (status, kind, code, message, should_retry) = match refused {
        Refused::Budget { kind, resets_at, .. } => {
            let message = budget_message(*kind, *resets_at);
            (429, "insufficient_quota", "insufficient_quota", message, Some(false))
        }
        Refused::ClientSecret { limit, .. } => {
            let message = secret_message(*limit).to_owned();
            (429, "insufficient_quota", "insufficient_quota", message, Some(false))
        }
        Refused::Rate { kind, limit, retry_after_ms } => {
            let unit = match kind {
                RateKind::Requests => "requests",
                RateKind::Tokens => "tokens",
            };
            let message = if retry_after_ms.is_some() {
                format!("Rate limit reached: {limit} {unit} per minute. Please try again later.")
            } else {
                format!(
                    "Request too large: it may need more than {limit} {unit}, the limit per minute. Lower max_tokens or the prompt."
                )
            };
            rate(unit, message, retry_after_ms.is_none().then_some(false))
        }
        Refused::Concurrency { limit } => rate(
            "requests",
            format!("Rate limit reached: {limit} requests are in flight. Please try again later."),
            None,
        ),
        Refused::Unavailable(_) => return Refusal::Store.told(),
    };
    Told { status, kind, code: Some(code), param: None, message, retry_after_ms, should_retry, closes: false }
}

fn secret_message(limit: SecretLimit) -> &'static str {
    match limit {
        SecretLimit::Cost => {
            "You exceeded your current quota: what this client secret may cost does not cover this request. A shorter prompt or \
             a lower max_tokens may still fit; else ask for a new client secret."
        }
        SecretLimit::Requests => {
            "You exceeded your current quota: this client secret has made all the requests that it may. Ask for a new one."
        }
    }
}

fn budget_message(kind: BudgetKind, resets_at: UnixMs) -> String {
    let shorter = "A shorter prompt or a lower max_tokens";
    let (name, shorter) = match kind {
        BudgetKind::UsdPerDay => ("daily budget", shorter),
        BudgetKind::UsdPerMonth => ("monthly budget", shorter),
        BudgetKind::TokensPerDay => ("daily token quota", shorter),
        BudgetKind::SandboxSecondsPerDay => ("daily quota of sandbox seconds", "A shorter timeout_seconds"),
    };
    let resets_at = resets_at.rfc3339();
    format!(
        "You exceeded your current quota: the {name} does not cover this request. It resets at {resets_at}. \
         {shorter} may still fit."
    )
}

impl Told {
    /// The same in the words that every dialect has.
    pub(crate) fn trouble(&self) -> Trouble {
        let kind = match self.status {
            401 => TroubleKind::Authentication,
            402 | 403 => TroubleKind::Permission,
            404 | 405 => TroubleKind::NotFound,
            413 => TroubleKind::TooLarge,
            429 => TroubleKind::RateLimit,
            400..500 => TroubleKind::InvalidRequest,
            503 | 529 => TroubleKind::Overloaded,
            504 => TroubleKind::Timeout,
            _ => TroubleKind::Internal,
        };
        let param = self.param.as_deref().map(str::to_owned);
        Trouble { kind, message: self.message.clone(), param, code: self.code.map(str::to_owned) }
    }

    /// The body in the `OpenAI` dialect.
    pub(crate) fn openai_body(&self) -> Vec<u8> {
        let members: [(&str, Json<'_>); 4] = [
            ("message", Json::from(&self.message)),
            ("type", Json::from(self.kind)),
            ("param", Json::from(self.param.as_deref())),
            ("code", Json::from(self.code)),
        ];
        let error = Vec::from(members.map(|(name, value)| (name.into(), value)));
        Json::Object(vec![("error".into(), Json::Object(error))]).to_bytes()
    }

    /// The same as an event of a stream that has begun.
    pub(crate) fn openai_event(&self) -> Vec<u8> {
        let mut event = b"data: ".to_vec();
        event.extend(self.openai_body());
        event.extend(b"\n\n");
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contracts_table_holds() {
        let budget = Refused::Budget {
            kind: BudgetKind::UsdPerDay,
            usd_left: None,
            tokens_left: None,
            resets_at: UnixMs(90_000),
        };
        let told = Refusal::quota(budget, UnixMs(30_000)).told();
        assert_eq!(
            (told.status, told.kind, told.code, told.retry_after_ms, told.should_retry),
            (429, "insufficient_quota", Some("insufficient_quota"), Some(60_000), Some(false))
        );
        let rate = Refused::Rate { kind: RateKind::Tokens, limit: 5, retry_after_ms: Some(7) };
        let told = Refusal::quota(rate, UnixMs(0)).told();
        assert_eq!(
            (told.status, told.kind, told.code, told.retry_after_ms, told.should_retry),
            (429, "tokens", Some("rate_limit_exceeded"), Some(7), None)
        );
        let told = Refusal::quota(Refused::Unavailable("disk".into()), UnixMs(0)).told();
        assert_eq!((told.status, told.kind, told.code), (503, "server_error", Some("store_unavailable")));
        assert!(!told.message.contains("disk"));
        assert_eq!(Refusal::Unauthenticated.told().status, 401);
    }

    #[test]
    fn a_hostile_message_stays_one_json_string() {
        let body = Refusal::bad("model", "a\"b\nc\u{2028}</script>").told().openai_body();
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(value["error"]["message"], "a\"b\nc\u{2028}</script>");
        assert!(!body.contains(&b'\n'));
    }
}
