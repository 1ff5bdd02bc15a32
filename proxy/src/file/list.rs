//! Lists of what a tenant has at providers, from the store alone: a provider's own list has everybody's.

use openclawmu_store::{ObjectKind, ObjectQuery, UpstreamObject};

use super::desk::{not_found, unavailable};
use crate::authenticate::Caller;
use crate::context::Shared;
use crate::own::percent_decode;
use crate::refusal::Refusal;

/// One page as JSON; `show` makes a thing's own.
///
/// # Errors
/// 400 that names a field of the query, 404 for an `after` that is not the tenant's.
pub(crate) fn page(
    (shared, caller): (&Shared, &Caller),
    kind: ObjectKind,
    query: &str,
    show: impl Fn(&UpstreamObject) -> Result<String, Refusal>,
) -> Result<String, Refusal> {
    let mut query = parse(kind, query)?;
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    query.limit = query.limit.saturating_add(1);
    let found = shared.store.objects(caller.policy.tenant_key, &query).map_err(|err| unavailable(&err))?;
    let mut found = found.ok_or_else(|| not_found(kind, query.after.as_deref().unwrap_or_default()))?;
    let has_more = found.len() > limit;
    found.truncate(limit);
    let data = found.iter().map(show).collect::<Result<Vec<_>, _>>()?.join(",");
    let id = |object: Option<&UpstreamObject>| serde_json::Value::from(object.map(|object| object.id.as_str()));
    let (first, last) = (id(found.first()), id(found.last()));
    Ok(format!(r#"{{"object":"list","data":[{data}],"first_id":{first},"last_id":{last},"has_more":{has_more}}}"#))
}

/// Reads the query as the provider's API has it.
fn parse(kind: ObjectKind, text: &str) -> Result<ObjectQuery, Refusal> {
    let (default, largest) = match kind {
        ObjectKind::File => (10_000, 10_000),
        ObjectKind::Batch => (20, 100),
    };
    let mut query = ObjectQuery { kind, purpose: None, after: None, ascending: false, limit: default };
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decode(&value.replace('+', "%20"))
            .ok_or_else(|| Refusal::bad("query", "The query is not UTF-8."))?;
        match (name, kind) {
            ("limit", _) => {
                let limit = value.parse().ok().filter(|limit| (1..=largest).contains(limit));
                query.limit =
                    limit.ok_or_else(|| Refusal::bad("limit", format!("`limit` must be from 1 to {largest}.")))?;
            }
            ("after", _) => query.after = Some(value),
            ("purpose", ObjectKind::File) => query.purpose = Some(value),
            ("order", ObjectKind::File) => {
                query.ascending = match value.as_str() {
                    "asc" => true,
                    "desc" => false,
                    _ => return Err(Refusal::bad("order", "`order` must be `asc` or `desc`.")),
                }
            }
            (other, _) => return Err(Refusal::bad("query", format!("`{other}` is no parameter of this list."))),
        }
    }
    Ok(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_what_is_wanted_or_is_400() {
        let query = parse(ObjectKind::File, "purpose=batch&limit=5&after=file%2D1&order=asc").unwrap();
        assert_eq!((query.purpose.as_deref(), query.limit, query.ascending), (Some("batch"), 5, true));
        assert_eq!(query.after.as_deref(), Some("file-1"));
        assert_eq!(parse(ObjectKind::Batch, "").unwrap().limit, 20);
        for (kind, bad) in [
            (ObjectKind::File, "limit=0"),
            (ObjectKind::File, "limit=10001"),
            (ObjectKind::Batch, "limit=101"),
            (ObjectKind::Batch, "limit=x"),
            (ObjectKind::Batch, "purpose=batch"),
            (ObjectKind::File, "order=up"),
            (ObjectKind::File, "tenant=other"),
            (ObjectKind::File, "after=%ff"),
        ] {
            assert!(parse(kind, bad).is_err(), "{bad}");
        }
    }
}
