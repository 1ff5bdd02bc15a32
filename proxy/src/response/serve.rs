//! `/v1/responses/{id}`: reading and removing what was kept and has ended. Free, and served over quota.

use http::Method;
use openclawmu_store::TenantId;
use serde_json::Value;

use super::shelf::Shelf;
use crate::dialect::responses::state;
use crate::refusal::Refusal;

/// Answers a request for a kept response; `rest` is what follows `/v1/responses/`.
///
/// # Errors
/// 404 for what there is not, and for another tenant's.
pub(crate) async fn serve(
    shelf: &Shelf,
    tenant: &TenantId,
    (method, rest, query): (&Method, &str, &str),
) -> Result<Value, Refusal> {
    let (id, what) = rest.split_once('/').unwrap_or((rest, ""));
    let kept = shelf.get(tenant, id).await?;
    match (method, what) {
        (&Method::GET | &Method::HEAD, "") => kept.map(|kept| kept.response).ok_or_else(|| state::not_found(id)),
        (&Method::GET | &Method::HEAD, "input_items") => {
            let query: Vec<(&str, &str)> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
            kept.ok_or_else(|| state::not_found(id))?.input_items(&query)
        }
        (&Method::DELETE, "") => {
            if shelf.remove(tenant, id).await? {
                Ok(state::deleted(id))
            } else {
                Err(state::not_found(id))
            }
        }
        _ => Err(Refusal::NotFound { code: "unknown_url", message: "There is no such route.".to_owned() }),
    }
}
