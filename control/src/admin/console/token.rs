//! A tenant's tokens. A secret is on the page after the one that made it, and on no other.

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use openclawmu_store::{NewToken, Scope, TenantId};
use serde_json::{Value, json};

use crate::admin::call::{Caller, Params, TenantPath, TokenPath};
use crate::admin::console::field::{Field, Fields};
use crate::admin::console::form::{Form, Kind, Spec};
use crate::admin::console::guard::Visit;
use crate::admin::console::page::{self, Failed, made, value_of};
use crate::admin::console::shown::{next, rows, segment, state as mark, tenant_path, text, time};
use crate::admin::console::tenant::{read, show_tab};
use crate::admin::page::PageParams;
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;
use crate::admin::token;

const FORM: &str = "token";
const SPECS: [Spec; 4] =
    [("name", Kind::Text), ("models", Kind::List), ("expires_at", Kind::Text), ("allowed_ips", Kind::List)];
/// How long an old token may still work, in seconds.
const GRACES: [(&str, &str); 4] = [
    ("0", "the old one ends now"),
    ("3600", "ends in an hour"),
    ("86400", "ends in a day"),
    ("604800", "ends in a week"),
];
const HINT: &str = "Give it to the tenant: its programs present it.";

pub(super) async fn show(
    State(state): State<AdminState>,
    visit: Visit,
    TenantPath(id): TenantPath,
    Params(params): Params<PageParams>,
) -> Result<Response, Refusal> {
    shown(&state, &visit, (&id, params), None).await
}

async fn shown(
    state: &AdminState,
    visit: &Visit,
    (id, params): (&TenantId, PageParams),
    failed: Option<&Failed>,
) -> Result<Response, Refusal> {
    let tenant = read(state, id).await?;
    let listed = token::list(State(state.clone()), TenantPath(id.clone()), Params(params)).await?;
    let answer = value_of(listed).await?;
    let path = tenant_path(id.as_str(), "/tokens");
    let now = state.store.clock().now().rfc3339();
    let found = rows(&answer, "/data");
    let inner = html! {
        section {
            h2 { "Tokens" }
            @if found.is_empty() { p.empty { "It has no token: none of its programs gets in. Make one below." } }
            @else { (table(visit, &path, (found, &now))) }
            (next(&path, &[], &answer))
        }
        section { h2 { "New token" } (page::form(visit, &path, &asking(&Fields::of(FORM, failed)))) }
    };
    Ok(show_tab(state, visit, (&tenant, "Tokens"), &inner, failed))
}

fn status<'a>(token: &Value, now: &str) -> &'a str {
    let expires = text(token, "/expires_at");
    if !text(token, "/revoked_at").is_empty() {
        "revoked"
    } else if !expires.is_empty() && *expires <= *now {
        "expired"
    } else {
        "active"
    }
}

fn table(visit: &Visit, path: &str, (found, now): (&[Value], &str)) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { th { "Id" } th { "Name" } th { "State" } th { "Scopes" } th { "Models" } th { "From" } th { "Created (UTC)" } th { "Expires (UTC)" } th {} } }
            tbody { @for one in found {
                @let status = status(one, now);
                @let id = text(one, "/id");
                tr {
                    td { code { (id) } }
                    td { (text(one, "/name")) }
                    td { (mark(status)) }
                    td { @if rows(one, "/scopes").len() == Scope::ALL.len() { "all" } @else { (text(one, "/scopes")) } }
                    td { @if one.pointer("/models").is_none_or(Value::is_null) { "all" } @else { (text(one, "/models")) } }
                    td { @if one.pointer("/allowed_ips").is_none_or(Value::is_null) { "anywhere" } @else { (text(one, "/allowed_ips")) } }
                    td { (time(&text(one, "/created_at"))) }
                    td { @if text(one, "/expires_at").is_empty() { "never" } @else { (time(&text(one, "/expires_at"))) } }
                    td { @if status == "active" { (actions(visit, &format!("{path}/{}", segment(&id)), &id)) } }
                }
            } }
        } }
    }
}

fn actions(visit: &Visit, path: &str, id: &str) -> Markup {
    let rotating = html! {
        select name="grace_seconds" aria-label={"When " (id) " ends"} { @for (seconds, says) in GRACES { option value=(seconds) { (says) } } }
        button.small { "Rotate" }
    };
    html! {
        details { summary { "Change" }
            div.row { (page::form(visit, &format!("{path}/rotate"), &rotating)) }
            div.row { (page::button(visit, &format!("{path}/revoke"), ("Revoke", "bad small"))) span.quiet { "the next request fails" } }
        }
    }
}

fn asking(fields: &Fields<'_>) -> Markup {
    let field = |name, label, hint| fields.field(Field { name, label, hint, ..Field::default() });
    html! {
        (fields.problem())
        div.grid {
            (field("name", "Name", "What it is for, such as the program that gets it."))
            (field("models", "Models", "Separated by commas. Empty: all of the tenant's."))
            (field("expires_at", "Expires", "An instant, such as 2027-01-01T00:00:00Z. Empty: never."))
            (field("allowed_ips", "From", "Addresses or networks, such as 10.0.0.0/8. Empty: anywhere."))
        }
        (fields.boxes(("scopes", "What it may do"), &Scope::ALL.map(Scope::name), true))
        button.primary { "Create" }
    }
}

pub(super) async fn create(
    State(state): State<AdminState>,
    visit: Visit,
    TenantPath(id): TenantPath,
    form: Form,
) -> Result<Response, Refusal> {
    match created(&state, &visit, &id, &form).await {
        Ok(response) => Ok(response),
        Err(refusal) => {
            let failed = Failed { form: FORM, sent: form, refusal };
            shown(&state, &visit, (&id, PageParams::new(None, None)), Some(&failed)).await
        }
    }
}

async fn created(state: &AdminState, visit: &Visit, id: &TenantId, form: &Form) -> Result<Response, Refusal> {
    let path = tenant_path(id.as_str(), "/tokens");
    let mut body = form.body(&SPECS)?;
    // Without one a token could do nothing, and without the list it may do everything: what is ticked is what is meant.
    let scopes = form.all("scopes");
    if scopes.is_empty() {
        return Err(Refusal::invalid("scopes", "tick what the token may do"));
    }
    body.insert("scopes".to_owned(), json!(scopes));
    let call = form.create::<NewToken>(&visit.actor, (&path, body))?;
    let answer = made(token::create(State(state.clone()), TenantPath(id.clone()), call).await?).await?;
    Ok(secret(state, visit, &path, answer.as_ref()))
}

fn secret(state: &AdminState, visit: &Visit, path: &str, answer: Option<&Value>) -> Response {
    let Some(answer) = answer else { return page::done_before(state, visit, path) };
    let title = format!("The new token {}", text(answer, "/id"));
    page::secret(state, visit, path, (title, HINT, &text(answer, "/value")))
}

pub(super) async fn rotate(
    State(state): State<AdminState>,
    visit: Visit,
    TokenPath(id, token_id): TokenPath,
    form: Form,
) -> Result<Response, Refusal> {
    let path = tenant_path(id.as_str(), "/tokens");
    let route = format!("{path}/{token_id}/rotate");
    let body = form.body(&[("grace_seconds", Kind::Count)])?;
    let call = form.create(&visit.actor, (&route, body))?;
    let answer = made(token::rotate(State(state.clone()), TokenPath(id, token_id), call).await?).await?;
    Ok(secret(&state, &visit, &path, answer.as_ref()))
}

pub(super) async fn revoke(
    State(state): State<AdminState>,
    visit: Visit,
    TokenPath(id, token_id): TokenPath,
) -> Result<Response, Refusal> {
    let path = tenant_path(id.as_str(), "/tokens");
    let says = format!("{token_id} is revoked: the next request that presents it fails.");
    drop(token::revoke(State(state.clone()), TokenPath(id, token_id), Caller(visit.actor.clone())).await?);
    Ok(page::done(&state, &visit, &path, says))
}
