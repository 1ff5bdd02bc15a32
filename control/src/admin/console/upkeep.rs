//! What keeps the gateway as a whole: its backups, the webhooks that tell of budgets, and months of detail that were moved to files.

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::{Map, Value};

use crate::admin::backup::Whence;
use crate::admin::call::Params;
use crate::admin::console::backup::{table as backups_table, unlisted};
use crate::admin::console::field::{Field, Fields};
use crate::admin::console::form::{Form, Kind};
use crate::admin::console::guard::Visit;
use crate::admin::console::page::{self, Failed, Page, made, value_of};
use crate::admin::console::shown::{count, next, rows, state as mark, tenant_path, text, time};
use crate::admin::page::PageParams;
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;
use crate::admin::{alert, archive, backup};

pub(super) const PATH: &str = "/console/upkeep";
const FORM: &str = "archive";
/// Where a webhook that says nothing is asked for.
pub(super) const TEST: &str = "/console/upkeep/alerts/test";

pub(super) async fn show(
    State(state): State<AdminState>,
    visit: Visit,
    Params(asked): Params<PageParams>,
) -> Result<Response, Refusal> {
    shown(&state, &visit, asked, None).await
}

async fn shown(
    state: &AdminState,
    visit: &Visit,
    asked: PageParams,
    failed: Option<&Failed>,
) -> Result<Response, Refusal> {
    let backups = backup::list_whole(State(state.clone()), Params(Whence { from: None })).await;
    let running = value_of(backup::progress(State(state.clone())).await).await?;
    let webhooks = value_of(alert::list(State(state.clone()), Params(asked)).await?).await?;
    let archives = value_of(archive::list(State(state.clone())).await?).await?;
    let fields = Fields::of(FORM, failed);
    let body = html! {
        h1 { "Upkeep" }
        section {
            h2 { "Backups of the whole gateway" }
            @if !text(&running, "/progress/phase").is_empty() {
                p { (mark("running")) " " (text(&running, "/progress/phase")) ": " (count(&text(&running, "/progress/done_bytes"))) " of " (count(&text(&running, "/progress/total_bytes"))) " bytes" }
            }
            @match backups {
                Err(refusal) => { (unlisted(&refusal)) },
                Ok(listed) => {
                    @let listed = value_of(listed).await?;
                    @if rows(&listed, "/data").is_empty() { p.empty { "There is none yet." } } @else { (backups_table(rows(&listed, "/data"))) }
                    (page::button(visit, "/console/upkeep/backups", ("Back up now", "primary")))
                },
            }
        }
        section {
            h2 { "Webhooks that tell of budgets" }
            (webhooks_table(rows(&webhooks, "/data")))
            (next(PATH, &[], &webhooks))
            @if state.has_webhook { (page::button(visit, TEST, ("Send one that is only a test", ""))) }
            @else { p.empty { "No webhook is configured: " code { "[alerts] webhook_url" } } }
        }
        section {
            h2 { "Request detail that was moved to files" }
            @if rows(&archives, "/data").is_empty() { p.empty { "All of it is in the database." } } @else { (archives_table(rows(&archives, "/data"))) }
            (page::form(visit, "/console/upkeep/archives", &html! {
                (fields.problem())
                div.grid { (fields.field(Field { name: "month", label: "Move a month that is over", hint: "Such as 2026-01. Every report stays as it is.", needed: true, ..Field::default() })) }
                button { "Move" }
            }))
        }
    };
    Ok(page::show_failed(state, visit, &Page { title: "Upkeep", place: "Upkeep", body }, failed))
}

fn webhooks_table(found: &[Value]) -> Markup {
    html! {
        @if !found.is_empty() {
            div.scroll { table {
                thead { tr { th { "Made (UTC)" } th { "Tells of" } th { "Tenant" } th { "State" } th.number { "Attempts" } th { "Next or delivered (UTC)" } th { "Last error" } } }
                tbody { @for one in found {
                    @let tenant = text(one, "/tenant");
                    @let delivered = text(one, "/delivered_at");
                    tr {
                        td { (time(&text(one, "/created_at"))) } td { (text(one, "/event")) }
                        td.keep { @if !tenant.is_empty() { a href=(tenant_path(&tenant, "")) { (tenant) } } }
                        td { (mark(&text(one, "/state"))) } td.number { (text(one, "/attempts")) }
                        td { @if delivered.is_empty() { (time(&text(one, "/next_attempt_at"))) } @else { (time(&delivered)) } }
                        td { (text(one, "/last_error")) }
                    }
                } }
            } }
        }
    }
}

fn archives_table(found: &[Value]) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { th { "Month" } th.number { "Part" } th.number { "Rows" } th.number { "Cost USD" } th { "Made (UTC)" } th { "File" } } }
            tbody { @for one in found { tr {
                td.keep { (text(one, "/month")) } td.number { (text(one, "/part")) } td.number { (count(&text(one, "/rows"))) }
                td.number { (text(one, "/cost_usd")) } td { (time(&text(one, "/created_at"))) } td { (text(one, "/file")) }
            } } }
        } }
    }
}

pub(super) async fn back_up(State(state): State<AdminState>, visit: Visit, form: Form) -> Result<Response, Refusal> {
    let call = form.call(&visit.actor, Map::new())?;
    let made = value_of(backup::create_whole(State(state.clone()), call).await?).await?;
    Ok(page::done(&state, &visit, PATH, format!("It is at {}.", text(&made, "/backup/url"))))
}

pub(super) async fn test(State(state): State<AdminState>, visit: Visit, form: Form) -> Result<Response, Refusal> {
    let call = form.create(&visit.actor, (TEST, Map::new()))?;
    made(alert::test(State(state.clone()), call).await?).await?;
    Ok(page::done(&state, &visit, PATH, "It is on its way: its state is in the list."))
}

pub(super) async fn archive(State(state): State<AdminState>, visit: Visit, form: Form) -> Result<Response, Refusal> {
    let moved = async {
        let call = form.call(&visit.actor, form.body(&[("month", Kind::Text)])?)?;
        value_of(archive::create(State(state.clone()), call).await?).await
    };
    match moved.await {
        Ok(moved) => {
            let file = text(&moved, "/archive/file");
            let says = if file.is_empty() {
                "There was nothing left to move.".to_owned()
            } else {
                format!("It is in {file}.")
            };
            Ok(page::done(&state, &visit, PATH, says))
        }
        Err(refusal) => {
            let failed = Failed { form: FORM, sent: form, refusal };
            shown(&state, &visit, PageParams::new(None, None), Some(&failed)).await
        }
    }
}
