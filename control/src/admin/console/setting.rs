//! What a tenant may use, what it is called, whether it is served, and its end.

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use openclawmu_store::{Quota, TenantId, TenantPatch};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::admin::call::{Caller, Params, TenantPath, parse};
use crate::admin::console::field::{Field, Fields, Shape};
use crate::admin::console::form::{Form, Kind, Spec};
use crate::admin::console::guard::Visit;
use crate::admin::console::page::{self, Failed};
use crate::admin::console::shown::{tenant_path, text};
use crate::admin::console::tenant::{read, show_tab};
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;
use crate::admin::tenant::{self, Confirmation};

const FORM: &str = "settings";
const DELETE: &str = "delete";

/// A limit of a quota.
#[derive(Clone, Copy)]
pub(super) struct Limit {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    label: &'static str,
    hint: &'static str,
}

const fn limit(name: &'static str, kind: Kind, label: &'static str, hint: &'static str) -> Limit {
    Limit { name, kind, label, hint }
}

/// Every limit that is a number, by the API's names.
pub(super) const QUOTA: [Limit; 8] = [
    limit("quota.usd_per_day", Kind::Text, "USD a day", "An exact decimal, such as 50 or 12.50."),
    limit("quota.usd_per_month", Kind::Text, "USD a month", "An exact decimal."),
    limit("quota.tokens_per_day", Kind::Count, "Tokens a day", "Prompts and answers together."),
    limit("quota.requests_per_minute", Kind::Count, "Requests a minute", ""),
    limit("quota.tokens_per_minute", Kind::Count, "Tokens a minute", ""),
    limit("quota.concurrent_requests", Kind::Count, "Requests at once", ""),
    limit("quota.sandbox_seconds_per_day", Kind::Count, "Sandbox seconds a day", ""),
    limit("quota.storage_bytes", Kind::Count, "Storage", "Bytes of its files."),
];

const SPECS: [Spec; 4] = [
    ("name", Kind::Text),
    ("timezone", Kind::Text),
    ("markup_percent", Kind::Text),
    ("quota.on_tight_budget", Kind::Text),
];

/// A body's quota alone: read by itself, what is wrong in it is named by its field.
#[derive(Deserialize)]
struct QuotaAlone {
    #[expect(dead_code, reason = "it is only read to see whether it can be")]
    #[serde(default)]
    quota: Quota,
}

/// The fields of a quota, filled with what `tenant` has.
pub(super) fn quota_fields(fields: &Fields<'_>, tenant: &Value) -> Markup {
    let pointer = |name: &str| format!("/{}", name.replace('.', "/"));
    let tight = text(tenant, "/quota/on_tight_budget");
    let tight = if tight.is_empty() { "reject".into() } else { tight };
    let options = [("reject", "refuse the request"), ("clamp", "shorten the answer to what is affordable")];
    html! {
        div.grid {
            @for Limit { name, label, hint, .. } in QUOTA {
                (fields.field(Field { name, label, hint, value: &text(tenant, &pointer(name)), shape: Shape::Amount, ..Field::default() }))
            }
            (fields.choice(("quota.on_tight_budget", "Where a budget is tight"), &tight, &options))
        }
    }
}

pub(super) async fn show(
    State(state): State<AdminState>,
    visit: Visit,
    TenantPath(id): TenantPath,
) -> Result<Response, Refusal> {
    shown(&state, &visit, &id, None).await
}

async fn shown(state: &AdminState, visit: &Visit, id: &TenantId, failed: Option<&Failed>) -> Result<Response, Refusal> {
    let tenant = read(state, id).await?;
    let path = |rest: &str| tenant_path(id.as_str(), rest);
    let ending = Fields::of(DELETE, failed);
    let confirmation = html! {
        (ending.problem())
        (ending.field(Field { name: "confirm", label: "The tenant's id, to confirm", needed: true, ..Field::default() }))
        button.bad { "Delete this tenant" }
    };
    let is_active = text(&tenant, "/status") == "active";
    let inner = html! {
        section { (page::form(visit, &path("/settings"), &settings(&Fields::of(FORM, failed), &tenant))) }
        section {
            @if is_active {
                h2 { "Suspend" }
                p { "Its tokens stop working with the next request, until it is active again. Nothing of it is lost." }
                (page::button(visit, &path("/suspend"), ("Suspend", "bad")))
            } @else {
                h2 { "Activate" }
                p { "It is suspended: none of its tokens works." }
                (page::button(visit, &path("/activate"), ("Activate", "primary")))
            }
        }
        section.danger {
            h2 { "Delete" }
            p { "Its tokens stop working, and its files are gone. Its ledger and audit lines are kept; its id is never used again." }
            (page::form(visit, &path("/delete"), &confirmation))
        }
    };
    Ok(show_tab(state, visit, (&tenant, "Settings"), &inner, failed))
}

fn settings(fields: &Fields<'_>, tenant: &Value) -> Markup {
    let value = |path: &str| text(tenant, path).into_owned();
    let object = |path: &str| {
        let found = tenant.pointer(path).filter(|found| found.as_object().is_some_and(|all| !all.is_empty()));
        found.map_or_else(String::new, |found| format!("{found:#}"))
    };
    let listed = tenant.pointer("/models").and_then(Value::as_array);
    let models: Vec<&str> = listed.into_iter().flatten().filter_map(Value::as_str).collect();
    let field = |name, label, value: &str, hint| fields.field(Field { name, label, value, hint, ..Field::default() });
    let lines = |name, label, value: &str, hint| {
        fields.field(Field { name, label, value, hint, shape: Shape::Lines, ..Field::default() })
    };
    html! {
        (fields.problem())
        div.grid {
            (fields.field(Field { name: "name", label: "Name", value: &value("/name"), needed: true, ..Field::default() }))
            (field("timezone", "Time zone", &value("/timezone"), "Where its days and months begin, such as Europe/Berlin."))
            (field("markup_percent", "Markup in percent", &value("/markup_percent"), "Added to its costs in reports; a budget counts the cost alone."))
        }
        h2 { "Limits" }
        p.quiet { "The next request sees them. What is empty is not limited." }
        (quota_fields(fields, tenant))
        h2 { "Models" }
        div.grid {
            (fields.choice(("models_mode", "It may call"), if listed.is_some() { "listed" } else { "all" }, &[("all", "all models that have a price"), ("listed", "those of the list")]))
            (lines("models", "The list", &models.join("\n"), "Names, or beginnings followed by *, one a line."))
            (lines("aliases", "Names of its own for models", &object("/aliases"), "JSON, such as {\"fast\": \"gpt-4o-mini\"}."))
            (lines("metadata", "Metadata", &object("/metadata"), "Your own notes: JSON, at most 16 KiB."))
        }
        button.primary { "Save" }
    }
}

pub(super) async fn save(
    State(state): State<AdminState>,
    visit: Visit,
    TenantPath(id): TenantPath,
    form: Form,
) -> Result<Response, Refusal> {
    match saved(&state, &visit, &id, &form).await {
        Ok(()) => Ok(page::done(&state, &visit, &tenant_path(id.as_str(), "/settings"), "Saved.")),
        Err(refusal) => shown(&state, &visit, &id, Some(&Failed { form: FORM, sent: form, refusal })).await,
    }
}

async fn saved(state: &AdminState, visit: &Visit, id: &TenantId, form: &Form) -> Result<(), Refusal> {
    let tenant = read(state, id).await?;
    let quota = QUOTA.map(|limit| (limit.name, limit.kind));
    parse::<QuotaAlone>(Value::Object(form.body(&quota)?).to_string().as_bytes())?;
    let mut body = form.patch(&quota)?;
    for (name, value) in form.body(&SPECS)? {
        merge(&mut body, name, value);
    }
    body.insert(
        "models".to_owned(),
        if form.text("models_mode") == "listed" { json!(form.list("models")) } else { Value::Null },
    );
    for name in ["aliases", "metadata"] {
        body.insert(name.to_owned(), replacing(&tenant, name, form)?);
    }
    let call = form.call::<TenantPatch>(&visit.actor, body)?;
    tenant::patch(State(state.clone()), TenantPath(id.clone()), call).await.map(drop)
}

fn merge(body: &mut Map<String, Value>, name: String, value: Value) {
    match (body.get_mut(&name).and_then(Value::as_object_mut), value) {
        (Some(there), Value::Object(more)) => there.extend(more),
        (_, value) => {
            body.insert(name, value);
        }
    }
}

/// A merge patch that leaves an object as it was typed: null for each name that is there and was not.
fn replacing(tenant: &Value, name: &'static str, form: &Form) -> Result<Value, Refusal> {
    let typed = form.body(&[(name, Kind::Json)])?.remove(name).unwrap_or_else(|| json!({}));
    let Value::Object(typed) = typed else {
        return Err(Refusal::invalid(name, format!("{name} must be a JSON object")));
    };
    let before = tenant.get(name).and_then(Value::as_object);
    let mut patch: Map<String, Value> =
        before.into_iter().flatten().map(|(known, _)| (known.clone(), Value::Null)).collect();
    patch.extend(typed);
    Ok(Value::Object(patch))
}

pub(super) async fn suspend(
    state: State<AdminState>,
    visit: Visit,
    id: TenantPath,
    form: Form,
) -> Result<Response, Refusal> {
    turn(state, visit, (id, form), ("suspended", "Suspended: its tokens don't work now.")).await
}

pub(super) async fn activate(
    state: State<AdminState>,
    visit: Visit,
    id: TenantPath,
    form: Form,
) -> Result<Response, Refusal> {
    turn(state, visit, (id, form), ("active", "Active: its tokens work again.")).await
}

async fn turn(
    State(state): State<AdminState>,
    visit: Visit,
    (TenantPath(id), form): (TenantPath, Form),
    (status, says): (&str, &str),
) -> Result<Response, Refusal> {
    let body = Map::from_iter([("status".to_owned(), json!(status))]);
    let call = form.call::<TenantPatch>(&visit.actor, body)?;
    drop(tenant::patch(State(state.clone()), TenantPath(id.clone()), call).await?);
    Ok(page::done(&state, &visit, &tenant_path(id.as_str(), "/settings"), says))
}

pub(super) async fn delete(
    State(state): State<AdminState>,
    visit: Visit,
    TenantPath(id): TenantPath,
    form: Form,
) -> Result<Response, Refusal> {
    let confirm = Params(Confirmation { confirm: Some(form.text("confirm").to_owned()) });
    let caller = Caller(visit.actor.clone());
    match tenant::delete(State(state.clone()), TenantPath(id.clone()), confirm, caller).await {
        Ok(_) => Ok(page::done(&state, &visit, "/console/tenants", format!("{id} is deleted."))),
        Err(refusal) if state.store.tenant(&id).is_ok() => {
            let refusal = refusal.hint("type the tenant's id, as it stands above").field("confirm");
            shown(&state, &visit, &id, Some(&Failed { form: DELETE, sent: form, refusal })).await
        }
        Err(refusal) => Err(refusal),
    }
}
