//! A tenant's own keys at providers, which are written and never shown, and short-lived secrets for pages of its users.

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use openclawmu_store::{NewClientSecret, TenantId};
use serde_json::{Map, Value, json};

use crate::admin::call::{Caller, TenantPath, UpstreamPath};
use crate::admin::console::field::{Field, Fields, Shape};
use crate::admin::console::form::{Form, Kind, Spec};
use crate::admin::console::guard::Visit;
use crate::admin::console::page::{self, Failed, made, value_of};
use crate::admin::console::shown::{rows, segment, tenant_path, text, time};
use crate::admin::console::tenant::{read, show_tab};
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;
use crate::admin::{client_secret, provider_key};

const KEY: &str = "provider_key";
const SECRET: &str = "client_secret";
const SPECS: [Spec; 6] = [
    ("ttl_seconds", Kind::Count),
    ("models", Kind::List),
    ("max_cost_usd", Kind::Text),
    ("max_requests", Kind::Count),
    ("origin", Kind::Text),
    ("user", Kind::Text),
];

pub(super) async fn show(
    State(state): State<AdminState>,
    visit: Visit,
    TenantPath(id): TenantPath,
) -> Result<Response, Refusal> {
    shown(&state, &visit, &id, None).await
}

async fn shown(state: &AdminState, visit: &Visit, id: &TenantId, failed: Option<&Failed>) -> Result<Response, Refusal> {
    let tenant = read(state, id).await?;
    let keys = value_of(provider_key::list(State(state.clone()), TenantPath(id.clone())).await?).await?;
    let named = (state.hooks.upstreams)();
    let upstreams: Vec<&str> =
        named.iter().map(String::as_str).filter(|name| (state.hooks.takes_own_key)(name)).collect();
    let (of_key, of_secret) = (Fields::of(KEY, failed), Fields::of(SECRET, failed));
    let path = |rest: &str| tenant_path(id.as_str(), rest);
    let inner = html! {
        section {
            h2 { "Its own keys at providers" }
            p.quiet { "Its calls to that upstream carry its key instead of yours, from the next request on. No page and no answer shows one." }
            (keys_table(visit, &path("/keys"), rows(&keys, "/data")))
            @if upstreams.is_empty() { p.empty { "No upstream that is configured takes a tenant's own key." } }
            @else { (page::form(visit, &path("/keys"), &asking_key(&of_key, &upstreams))) }
        }
        section {
            h2 { "A client secret" }
            p.quiet { "For a page of its users: short-lived, and bound as you say. It dies with the tenant, and can't be listed." }
            (page::form(visit, &path("/client_secrets"), &asking_secret(&of_secret)))
        }
    };
    Ok(show_tab(state, visit, (&tenant, "Keys and secrets"), &inner, failed))
}

fn keys_table(visit: &Visit, path: &str, found: &[Value]) -> Markup {
    html! {
        @if found.is_empty() { p.empty { "It has none: your keys are used." } } @else {
            div.scroll { table {
                thead { tr { th { "Upstream" } th { "Key" } th { "Set (UTC)" } th {} } }
                tbody { @for one in found {
                    @let upstream = text(one, "/upstream");
                    tr {
                        td { (upstream) } td { code { (text(one, "/id")) } } td { (time(&text(one, "/created_at"))) }
                        td { div.row { (page::button(visit, &format!("{path}/{}/remove", segment(&upstream)), ("Remove", "bad small"))) } }
                    }
                } }
            } }
        }
    }
}

fn asking_key(fields: &Fields<'_>, upstreams: &[&str]) -> Markup {
    let options: Vec<(&str, &str)> = upstreams.iter().map(|name| (*name, *name)).collect();
    html! {
        (fields.problem())
        div.grid {
            (fields.choice(("upstream", "Upstream"), upstreams.first().copied().unwrap_or_default(), &options))
            (fields.field(Field { name: "api_key", label: "Its key", needed: true, shape: Shape::Secret, ..Field::default() }))
        }
        button.primary { "Set" }
    }
}

fn asking_secret(fields: &Fields<'_>) -> Markup {
    let field = |name, label, hint, shape| fields.field(Field { name, label, hint, shape, ..Field::default() });
    html! {
        (fields.problem())
        div.grid {
            (field("ttl_seconds", "Seconds to live", "10 to 86400. Empty: ten minutes.", Shape::Amount))
            (field("origin", "Origin", "The page's, such as https://app.example.com. Empty: any.", Shape::Line))
            (field("user", "User", "Whom its rows name.", Shape::Line))
            (field("models", "Models", "Separated by commas. Empty: all of the tenant's.", Shape::Line))
            (field("max_cost_usd", "USD at most", "An exact decimal.", Shape::Amount))
            (field("max_requests", "Requests at most", "", Shape::Amount))
        }
        button.primary { "Create" }
    }
}

pub(super) async fn put(
    State(state): State<AdminState>,
    visit: Visit,
    TenantPath(id): TenantPath,
    form: Form,
) -> Result<Response, Refusal> {
    let upstream = form.text("upstream").to_owned();
    let body = Map::from_iter([("api_key".to_owned(), json!(form.text("api_key")))]);
    let set = async {
        let call = form.call(&visit.actor, body)?;
        provider_key::put(State(state.clone()), UpstreamPath(id.clone(), upstream.clone()), call).await
    };
    match set.await {
        Ok(_) => {
            Ok(page::done(&state, &visit, &tenant_path(id.as_str(), "/keys"), format!("Its key at {upstream} is set.")))
        }
        Err(refusal) => shown(&state, &visit, &id, Some(&Failed { form: KEY, sent: form, refusal })).await,
    }
}

pub(super) async fn remove(
    State(state): State<AdminState>,
    visit: Visit,
    UpstreamPath(id, upstream): UpstreamPath,
) -> Result<Response, Refusal> {
    let (path, says) = (tenant_path(id.as_str(), "/keys"), format!("Its key at {upstream} is gone."));
    let caller = Caller(visit.actor.clone());
    drop(provider_key::delete(State(state.clone()), UpstreamPath(id, upstream), caller).await?);
    Ok(page::done(&state, &visit, &path, says))
}

pub(super) async fn client_secret(
    State(state): State<AdminState>,
    visit: Visit,
    TenantPath(id): TenantPath,
    form: Form,
) -> Result<Response, Refusal> {
    match made_secret(&state, &visit, &id, &form).await {
        Ok(response) => Ok(response),
        Err(refusal) => shown(&state, &visit, &id, Some(&Failed { form: SECRET, sent: form, refusal })).await,
    }
}

async fn made_secret(state: &AdminState, visit: &Visit, id: &TenantId, form: &Form) -> Result<Response, Refusal> {
    let to = tenant_path(id.as_str(), "/keys");
    let route = tenant_path(id.as_str(), "/client_secrets");
    let call = form.create::<NewClientSecret>(&visit.actor, (&route, form.body(&SPECS)?))?;
    let Some(answer) = made(client_secret::create(State(state.clone()), TenantPath(id.clone()), call).await?).await?
    else {
        return Ok(page::done_before(state, visit, &to));
    };
    let title = format!("A client secret, good until {} UTC", text(&answer, "/expires_at"));
    Ok(page::secret(state, visit, &to, (title, "A page presents it as a bearer.", &text(&answer, "/value"))))
}
