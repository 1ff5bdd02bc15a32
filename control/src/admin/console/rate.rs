//! The prices in effect, what one model costs, and their versions.

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::{Map, Value};

use crate::admin::call::Params;
use crate::admin::console::guard::Visit;
use crate::admin::console::page::{self, Page, problem, value_of};
use crate::admin::console::shown::{next, rows, text, time, with_query};
use crate::admin::page::PageParams;
use crate::admin::rate::{self, RateParams};
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;

/// Prices that most models have, by the API's names: USD per million tokens.
const COLUMNS: [(&str, &str); 5] = [
    ("Input", "/input"),
    ("Cache read", "/cache_read"),
    ("Cache write", "/cache_write"),
    ("Output", "/output"),
    ("Per request", "/per_request"),
];
const PATH: &str = "/console/rates";

pub(super) async fn show(
    State(state): State<AdminState>,
    visit: Visit,
    Params(asked): Params<RateParams>,
) -> Result<Response, Refusal> {
    let (model, at) = (asked.model.clone().unwrap_or_default(), asked.at.clone().unwrap_or_default());
    // Nothing is asked for at an instant without a model.
    let asked = RateParams { at: asked.at.filter(|_| !model.is_empty()), ..asked };
    let found = match rate::get(State(state.clone()), Params(asked)).await {
        Ok(answer) => Ok(value_of(answer).await?),
        Err(refusal) => Err(refusal),
    };
    let body = html! {
        div.head { h1 { "Rates" } a.button href="/console/rates/history" { "Versions" } }
        form.filter method="get" action=(PATH) {
            div.field { label for="model" { "Model" } input #model name="model" value=(model) autocomplete="off" spellcheck="false"; }
            div.field { label for="at" { "At (empty: now)" } input #at name="at" value=(at) placeholder="2026-11-01T00:00:00Z" autocomplete="off"; }
            button { "Show" }
            @if !model.is_empty() { a.button href=(PATH) { "All prices" } }
        }
        @match &found {
            Err(refusal) => (problem(refusal)),
            Ok(answer) if model.is_empty() => section { (all(answer)) },
            Ok(answer) => section {
                h2 { (text(answer, "/model")) }
                p.quiet { "At " (time(&text(answer, "/at"))) " UTC, by version " (text(answer, "/rate_card")) ", " (origin(&text(answer, "/source"))) "." }
                (price(answer.pointer("/price").unwrap_or(&Value::Null)))
            },
        }
    };
    Ok(page::show(&state, &visit, &Page { title: "Rates", place: "Rates", body }))
}

fn origin(source: &str) -> &'static str {
    if source == "import" { "imported" } else { "your own" }
}

fn all(answer: &Value) -> Markup {
    let none = Map::new();
    let models = answer.pointer("/models").and_then(Value::as_object).unwrap_or(&none);
    html! {
        @if models.is_empty() {
            p.empty { "No model has a price, so none may be called. Import some: " code { "openclawmu rates import conf/rates.json" } }
        } @else {
            p.quiet { "USD per million tokens, at " (time(&text(answer, "/at"))) " UTC. A name that ends in * stands for every model that begins so; the longest counts." }
            div.scroll { table {
                thead { tr { th { "Model" } @for (name, _) in COLUMNS { th.number { (name) } } th { "More" } th.number { "Version" } th { "From" } } }
                tbody { @for (name, price) in models { tr {
                    td { a href=(with_query(PATH, &[("model", name.trim_end_matches('*'))])) { (name) } }
                    @for (_, column) in COLUMNS { td.number { (text(price, column)) } }
                    td.quiet { (more(price)) }
                    td.number { (text(price, "/rate_card")) }
                    td { (origin(&text(price, "/source"))) }
                } } }
            } }
        }
    }
}

/// What a price has beside the columns.
fn more(price: &Value) -> String {
    let known = ["rate_card", "source", "context_tokens", "max_output_tokens", "tokenizer"];
    let names = price.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    let other = names.filter(|name| {
        !known.contains(name) && !COLUMNS.iter().any(|(_, column)| column.trim_start_matches('/') == *name)
    });
    other.map(|name| name.replace('_', " ")).collect::<Vec<_>>().join(", ")
}

fn price(price: &Value) -> Markup {
    html! {
        dl.pairs { @for (name, value) in price.as_object().into_iter().flatten() {
            dt { (name.replace('_', " ")) }
            dd { @if value.is_object() || value.is_array() { pre { (format!("{value:#}")) } } @else { (text(value, "")) } }
        } }
    }
}

pub(super) async fn history(
    State(state): State<AdminState>,
    visit: Visit,
    asked: Params<PageParams>,
) -> Result<Response, Refusal> {
    let answer = value_of(rate::history(State(state.clone()), asked).await?).await?;
    let body = html! {
        div.head { h1 { "Versions of the rates" } a.button href=(PATH) { "Prices in effect" } }
        section {
            p.quiet { "Oldest first. A version never changes; a row keeps the price that it was admitted with." }
            @if rows(&answer, "/data").is_empty() { p.empty { "There is none." } }
            @for card in rows(&answer, "/data") {
                @let models = card.pointer("/models").and_then(Value::as_object);
                details {
                    summary {
                        "Version " (text(card, "/version")) " · " (origin(&text(card, "/source"))) " · in effect from " (time(&text(card, "/effective_from")))
                        " UTC · " (models.map_or(0, Map::len)) " models"
                    }
                    pre { (card.pointer("/models").map_or_else(String::new, |models| format!("{models:#}"))) }
                }
            }
        }
        (next("/console/rates/history", &[], &answer))
    };
    Ok(page::show(&state, &visit, &Page { title: "Versions of the rates", place: "Rates", body }))
}
