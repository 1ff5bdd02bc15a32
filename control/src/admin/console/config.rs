//! The configuration in use, without its secrets, and how it is read again.

use axum::extract::State;
use axum::response::Response;
use maud::html;
use serde_json::{Map, Value};

use crate::admin::config;
use crate::admin::console::form::Form;
use crate::admin::console::guard::Visit;
use crate::admin::console::page::{self, Failed, Page, made, value_of};
use crate::admin::console::shown::text;
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;

const PATH: &str = "/console/config";
const RELOAD: &str = "/console/config/reload";

pub(super) async fn show(State(state): State<AdminState>, visit: Visit) -> Result<Response, Refusal> {
    shown(&state, &visit, None).await
}

async fn shown(state: &AdminState, visit: &Visit, failed: Option<&Failed>) -> Result<Response, Refusal> {
    let answer = value_of(config::config(State(state.clone())).await).await?;
    let tables = answer.as_object().cloned().unwrap_or_default();
    let body = html! {
        div.head { h1 { "Configuration" } (page::button(visit, RELOAD, ("Read the file again", "primary"))) }
        @if let Some(failed) = failed { (page::problem(&failed.refusal)) }
        p.quiet { "What is in use, with every default. Secrets are references, and stay so. It is changed in its file; upstreams and aliases then change with a reload, the rest with a start." }
        section {
            @for (name, table) in &tables { details open[is_short(table)] { summary { code { (name) } } pre { (format!("{table:#}")) } } }
        }
    };
    Ok(page::show_failed(state, visit, &Page { title: "Configuration", place: "Configuration", body }, failed))
}

fn is_short(table: &Value) -> bool {
    table.as_object().is_some_and(|keys| keys.len() <= 4)
}

pub(super) async fn reload(State(state): State<AdminState>, visit: Visit, form: Form) -> Result<Response, Refusal> {
    let read = async {
        let call = form.create(&visit.actor, (RELOAD, Map::new()))?;
        made(config::reload(State(state.clone()), call).await?).await
    };
    match read.await {
        Ok(None) => Ok(page::done_before(&state, &visit, PATH)),
        Ok(Some(done)) => {
            let named = |path: &str| Some(text(&done, path).into_owned()).filter(|names| !names.is_empty());
            let changed = named("/changed")
                .map_or_else(|| "Nothing has changed.".to_owned(), |names| format!("In force now: {names}."));
            let waits = named("/needs_restart")
                .map_or_else(String::new, |names| format!(" Waiting for the next start: {names}."));
            Ok(page::done(&state, &visit, PATH, changed + &waits))
        }
        Err(refusal) => shown(&state, &visit, Some(&Failed { form: "reload", sent: form, refusal })).await,
    }
}
