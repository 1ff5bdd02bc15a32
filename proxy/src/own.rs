//! Routes that no upstream is needed for: what this token may call, what it has used, what it has left. Free, and served over
//! quota.

use std::collections::BTreeSet;
use std::time::Instant;

use openclawmu_store::{Seldom, Store, StoreError, UsageKey, UsageQuery};
use serde_json::{Value, json};

use crate::admit::{count_tokens, estimate_tokens};
use crate::authenticate::Caller;
use crate::catalog::{Catalog, Listed};
use crate::dialect::anthropic;
use crate::read::Call;
use crate::refusal::Refusal;

/// The same moment in every model's `created`: the gateway does not know when a model was made.
const CREATED: u64 = 1_767_225_600;
/// The longest time that one usage report covers, in milliseconds: 400 days.
const MAX_RANGE_MS: i64 = 400 * 24 * 60 * 60 * 1000;

/// `GET /v1/models`
pub(crate) fn models(catalog: &Catalog, store: &Store, caller: &Caller) -> Value {
    let data: Vec<Value> = allowed(catalog, store, caller).iter().map(model_object).collect();
    json!({"object": "list", "data": data})
}

/// `GET /v1/models/{id}`
pub(crate) fn model(catalog: &Catalog, store: &Store, caller: &Caller, id: &str) -> Result<Value, Refusal> {
    let id = percent_decode(id).ok_or_else(|| model_not_found(id))?;
    if let Some(listed) = allowed(catalog, store, caller).iter().find(|listed| listed.id == id) {
        return Ok(model_object(listed));
    }
    if caller.policy.allows_model(&id) && is_priced(catalog, store, &id) {
        return Ok(model_object(&Listed { id, owned_by: "openclawmu".to_owned() }));
    }
    Err(model_not_found(&id))
}

/// The size of a prompt, where no provider counts it: exact where the encoding is public to us, else an estimate.
pub(crate) fn prompt_tokens(call: &Call) -> Vec<u8> {
    let tokens = count_tokens(&call.body, None).unwrap_or_else(|| estimate_tokens(call.body.len()));
    anthropic::reply::count(tokens.into())
}

/// The refusal for a model that nothing serves.
pub(crate) fn model_not_found(name: &str) -> Refusal {
    let name: String = name.chars().take(200).collect();
    Refusal::NotFound {
        code: "model_not_found",
        message: format!(
            "The model `{name}` does not exist or you do not have access to it. GET /v1/models lists what you may call."
        ),
    }
}

/// What the caller may call, with the names that its tenant has made.
fn allowed(catalog: &Catalog, store: &Store, caller: &Caller) -> Vec<Listed> {
    let policy = &caller.policy;
    let mut listed = catalog.list(&store.rates());
    listed.retain(|listed| policy.allows_model(&listed.id));
    for name in policy.overlay.aliases.keys().filter(|name| !policy.aliases.contains_key(*name)) {
        let asked = policy.named(name);
        let meant = policy.aliases.get(asked).map_or(asked, String::as_str);
        if (policy.allows_model(asked) || policy.allows_model(meant)) && is_priced(catalog, store, meant) {
            listed.retain(|listed| listed.id != *name);
            listed.push(Listed { id: name.clone(), owned_by: policy.tenant.to_string() });
        }
    }
    for (name, meant) in &policy.aliases {
        if (policy.allows_model(name) || policy.allows_model(meant)) && is_priced(catalog, store, meant) {
            listed.retain(|listed| listed.id != *name);
            listed.push(Listed { id: name.clone(), owned_by: policy.tenant.to_string() });
        }
    }
    listed
}

/// The first model that the caller may talk to: a name that was given to one, before the models themselves.
pub(crate) fn first_chat_model(catalog: &Catalog, store: &Store, caller: &Caller) -> Option<String> {
    let (rates, listed) = (store.rates(), allowed(catalog, store, caller));
    let speaks = |listed: &&Listed| {
        let meant = caller.policy.aliases.get(caller.policy.named(&listed.id)).unwrap_or(&listed.id);
        let targets = catalog.plan(meant, 0, Instant::now());
        let price = targets.first().and_then(|target| target.price(&rates));
        price.is_some_and(|price| price.price.base.output.is_some())
    };
    let by_itself = |listed: &&Listed| catalog.upstream(&listed.owned_by).is_some();
    let named = listed.iter().find(|listed| speaks(listed) && !by_itself(listed));
    named.or_else(|| listed.iter().find(speaks)).map(|listed| listed.id.clone())
}

fn is_priced(catalog: &Catalog, store: &Store, name: &str) -> bool {
    let targets = catalog.plan(name, 0, Instant::now());
    targets.first().is_some_and(|target| target.price(&store.rates()).is_some())
}

fn model_object(listed: &Listed) -> Value {
    json!({"id": listed.id, "object": "model", "created": CREATED, "owned_by": listed.owned_by})
}

/// `GET /v1/quota`
pub(crate) fn quota(store: &Store, caller: &Caller) -> Result<Value, Refusal> {
    let policy = &caller.policy;
    let status =
        store.quota_status_of(policy.tenant_key, &policy.quota, &policy.zone).map_err(|err| unavailable(&err))?;
    serde_json::to_value(status).map_err(|err| unavailable(&err))
}

/// `GET /v1/usage?from=&to=&group_by=`: by default this month and today, by day and model.
pub(crate) async fn usage(store: &Store, caller: &Caller, query: &str) -> Result<Value, Refusal> {
    let query = usage_query(store, caller, query)?;
    if let Err(err) = store.flush().await {
        static FAILED: Seldom = Seldom::new();
        if let Some(unheard) = FAILED.tell() {
            tracing::warn!(%err, unheard, "usage is answered without the rows that the store can't write now");
        }
    }
    let store = store.clone();
    let report = tokio::task::spawn_blocking(move || store.usage(&query))
        .await
        .map_err(|err| unavailable(&err))?
        .map_err(|err| refused(&err))?;
    serde_json::to_value(report).map_err(|err| unavailable(&err))
}

fn usage_query(store: &Store, caller: &Caller, text: &str) -> Result<UsageQuery, Refusal> {
    let (mut from, mut to) = (None, None);
    let mut keys = BTreeSet::from([UsageKey::Day, UsageKey::Model]);
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decode(&value.replace('+', "%20"))
            .ok_or_else(|| Refusal::bad("query", "The query is not UTF-8."))?;
        match name {
            "from" => from = Some(value),
            "to" => to = Some(value),
            "group_by" => keys = group_by(&value)?,
            other => {
                return Err(Refusal::bad("query", format!("`{other}` is not one of from, to, group_by.")));
            }
        }
    }
    let tenant = &caller.policy.tenant;
    let span = store.usage_span(tenant, from.as_deref(), to.as_deref()).map_err(|err| refused(&err))?;
    if span.to == span.from || span.to.0.saturating_sub(span.from.0) > MAX_RANGE_MS {
        return Err(Refusal::bad("to", "`to` must be after `from`, by at most 400 days."));
    }
    Ok(UsageQuery { tenant: Some(tenant.clone()), range: span.range, group_by: keys })
}

fn group_by(text: &str) -> Result<BTreeSet<UsageKey>, Refusal> {
    let key = |name: &str| match name {
        "day" => Ok(UsageKey::Day),
        "model" => Ok(UsageKey::Model),
        "token" => Ok(UsageKey::Token),
        _ => Err(Refusal::bad("group_by", format!("`{name}` is not one of day, model, token."))),
    };
    text.split(',').filter(|name| !name.is_empty()).map(key).collect()
}

fn refused(err: &StoreError) -> Refusal {
    let StoreError::Invalid { field, message } = err else { return unavailable(err) };
    let field = if field == "from" { "from" } else { "to" };
    Refusal::bad(field, format!("`{field}` {message}."))
}

fn unavailable(err: &dyn std::fmt::Display) -> Refusal {
    static FAILED: Seldom = Seldom::new();
    if let Some(unheard) = FAILED.tell() {
        tracing::error!(%err, unheard, "the store can't be read");
    }
    Refusal::Store
}

/// Decodes `%XX` once; `None` when that is no UTF-8 or a `%` stands alone.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    String::from_utf8(percent_bytes(text)?).ok()
}

/// The same for what need not be UTF-8, such as a file's name.
pub(crate) fn percent_bytes(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_signs_are_decoded_once() {
        assert_eq!(percent_decode("openai%2Fgpt-4o").as_deref(), Some("openai/gpt-4o"));
        assert_eq!(percent_decode("a%252Fb").as_deref(), Some("a%2Fb"));
        assert_eq!(percent_decode("%c3%a9").as_deref(), Some("é"));
        for bad in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(percent_decode(bad), None);
        }
    }
}
