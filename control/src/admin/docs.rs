//! `/openapi.json`, and pages that show it: Swagger UI, out of this program alone. Neither needs a key, since a browser can't
//! send one for a page; what the pages then ask of the API needs one as ever, and it is kept in the page's memory alone.

use std::sync::{Arc, LazyLock};

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Redirect, Response};
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use utoipa_swagger_ui::Config;

use crate::admin::call::FilePath;
use crate::admin::document;
use crate::admin::refusal::{ErrorBody, Refusal};

/// What the pages may do: run and show what came with them, and call this API. They write no style or script into a page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// This document
#[utoipa::path(get, path = "/openapi.json", tag = "gateway", responses(
    (status = 200, description = "The OpenAPI document of this API", body = Object, content_type = "application/json"),
))]
pub(super) async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json")], document::openapi()).into_response()
}

/// The way to this document for people
#[utoipa::path(get, path = "/docs", tag = "gateway", responses(
    (status = 303, description = "To the page", headers(("location" = String, description = "The page"))),
))]
pub(super) async fn index() -> Redirect {
    Redirect::to("/docs/index.html")
}

/// A file of Swagger UI
#[utoipa::path(get, path = "/docs/{file}", tag = "gateway", params(FilePath), responses(
    (status = 200, description = "The file", content((String = "text/html"), (String = "text/css"), (String = "text/javascript"), (String = "image/png"), (String = "application/json"))),
    (status = 404, description = "There is no such file", body = ErrorBody),
))]
pub(super) async fn file(FilePath(file): FilePath) -> Result<Response, Refusal> {
    static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
        // No validator: it is another site, and would be told of this one.
        Arc::new(Config::new(["../openapi.json"]).validator_url("none").deep_linking(true).try_it_out_enabled(true))
    });
    let found = utoipa_swagger_ui::serve(&file, Arc::clone(&CONFIG)).map_err(|err| Refusal::internal(&err))?;
    let page = found.ok_or_else(|| Refusal::not_found("page"))?;
    let headers = [(CONTENT_TYPE, page.content_type), (CONTENT_SECURITY_POLICY, POLICY.to_owned())];
    Ok((headers, Body::from(Bytes::from(page.bytes.into_owned()))).into_response())
}
