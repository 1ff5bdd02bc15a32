//! What all pages have in common: the frame around them, what they say once, and refusals as people read them.

use axum::body::to_bytes;
use axum::response::{Html, IntoResponse, Redirect, Response};
use http::StatusCode;
use maud::{DOCTYPE, Markup, html};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::admin::console::form::{CSRF, ONCE};
use crate::admin::console::guard::{Visit, is_plain_refusal};
use crate::admin::console::session::{self, Flash};
use crate::admin::idempotency;
use crate::admin::refusal::{Refusal, Said};
use crate::admin::state::AdminState;

/// The largest answer of the API that is made a page, in bytes. What may be larger is fetched as CSV.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// The places of the bar.
pub(super) const PLACES: [(&str, &str); 7] = [
    ("Overview", "/console"),
    ("Tenants", "/console/tenants"),
    ("Rates", "/console/rates"),
    ("Reports", "/console/reports"),
    ("Upkeep", "/console/upkeep"),
    ("Audit log", "/console/audit"),
    ("Configuration", "/console/config"),
];

/// A page that is to be shown.
pub(super) struct Page<'a> {
    /// Its title, and the name of its place in the bar.
    pub(super) title: &'a str,
    pub(super) place: &'a str,
    pub(super) body: Markup,
}

/// A form that was refused: shown again with what was typed.
pub(super) struct Failed {
    /// Which of the page's forms.
    pub(super) form: &'static str,
    pub(super) sent: crate::admin::console::form::Form,
    pub(super) refusal: Refusal,
}

/// Shows a page of a session, and what was to be said once.
pub(super) fn show(state: &AdminState, visit: &Visit, page: &Page<'_>) -> Response {
    let flash = state.sessions.take(visit.session);
    let main = html! {
        @if let Some(flash) = &flash { (said(flash)) }
        (page.body)
    };
    Html(frame(page.title, Some((visit, page.place)), &main).into_string()).into_response()
}

/// The same for a page with a form that was refused.
pub(super) fn show_failed(state: &AdminState, visit: &Visit, page: &Page<'_>, failed: Option<&Failed>) -> Response {
    let response = show(state, visit, page);
    match failed {
        Some(failed) => marked((failed.refusal.status(), response).into_response(), &failed.refusal),
        None => response,
    }
}

/// A page outside of any session.
pub(super) fn bare(title: &str, status: StatusCode, body: &Markup) -> Response {
    (status, Html(frame(title, None, body).into_string())).into_response()
}

/// The answer with a refusal's code and headers, for the audit log and for programs.
pub(super) fn marked(mut response: Response, refusal: &Refusal) -> Response {
    refusal.mark(&mut response);
    response
}

/// A refusal of the API as a page; any other answer as it is.
pub(super) fn readable(state: &AdminState, visit: Option<&Visit>, response: Response) -> Response {
    let Some(said) = response.extensions().get::<Said>().cloned().filter(|_| is_plain_refusal(&response)) else {
        return response;
    };
    let body = html! {
        h1 { (response.status().canonical_reason().unwrap_or("Refused")) }
        (problem_said(&said))
        p { a href="/console" { "To the overview" } }
    };
    let page = match visit {
        Some(visit) => show(state, visit, &Page { title: "Refused", place: "", body }),
        None => bare("Refused", StatusCode::OK, &body),
    };
    let mut page = (response.status(), page).into_response();
    page.extensions_mut().extend(response.extensions().clone());
    for (name, value) in response.headers() {
        // A browser has no use for the API's challenge.
        let kept = [http::header::RETRY_AFTER, http::header::SET_COOKIE];
        if kept.contains(name) {
            page.headers_mut().append(name, value.clone());
        }
    }
    page
}

/// What a handler of the API answers, as JSON.
pub(super) async fn value_of(response: impl IntoResponse) -> Result<Value, Refusal> {
    let body = response.into_response().into_body();
    let bytes = to_bytes(body, MAX_ANSWER_BYTES).await.map_err(|_| {
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_much", "there is more than a page can show")
            .hint("ask for less, or fetch it as CSV")
    })?;
    serde_json::from_slice(&bytes).map_err(|err| Refusal::internal(&err))
}

/// The same of a call that makes something; `None` where it was made before, by the same form.
pub(super) async fn made(response: Response) -> Result<Option<Value>, Refusal> {
    let again = idempotency::is_replayed(&response);
    let value = value_of(response).await?;
    Ok(Some(value).filter(|_| !again))
}

/// Leads to a page that says what was done.
pub(super) fn done(state: &AdminState, visit: &Visit, to: &str, says: impl Into<String>) -> Response {
    state.sessions.say(visit.session, Flash::Done(says.into()));
    Redirect::to(to).into_response()
}

/// The same of a form that was sent twice.
pub(super) fn done_before(state: &AdminState, visit: &Visit, to: &str) -> Response {
    done(state, visit, to, "This form was sent twice; it was done once.")
}

/// Leads to a page that shows a new secret, once.
pub(super) fn secret(
    state: &AdminState,
    visit: &Visit,
    to: &str,
    (title, hint, value): (String, &str, &str),
) -> Response {
    let flash = Flash::Secret { title, hint: hint.to_owned(), value: SecretString::from(value) };
    state.sessions.say(visit.session, flash);
    Redirect::to(to).into_response()
}

/// A form of this session.
pub(super) fn form(visit: &Visit, action: &str, inner: &Markup) -> Markup {
    // Without random bytes the form has no mark, and is refused.
    let once = session::random().unwrap_or_default();
    html! {
        form method="post" action=(action) {
            input type="hidden" name=(CSRF) value=(visit.csrf);
            input type="hidden" name=(ONCE) value=(once);
            (inner)
        }
    }
}

/// A form that is one button.
pub(super) fn button(visit: &Visit, action: &str, (says, class): (&str, &str)) -> Markup {
    form(visit, action, &html! { button class=(class) { (says) } })
}

/// A refusal, as a message.
pub(super) fn problem(refusal: &Refusal) -> Markup {
    problem_said(&refusal.said())
}

fn problem_said(said: &Said) -> Markup {
    html! {
        div.message.bad #problem role="alert" tabindex="-1" {
            p.sentence[said.field.is_none()] { (without_place(&said.message)) }
            @if let Some(hint) = &said.hint { p.quiet.sentence { (hint) } }
        }
    }
}

/// A message without the place in the JSON, which nobody typed.
fn without_place(message: &str) -> &str {
    let place = message.rsplit_once(" at line ");
    let is_place = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit() || b" column".contains(&byte));
    place.filter(|(_, rest)| is_place(rest)).map_or(message, |(message, _)| message)
}

fn said(flash: &Flash) -> Markup {
    match flash {
        Flash::Done(says) => html! { div.message.good role="status" { p { (says) } } },
        Flash::Secret { title, hint, value } => html! {
            div.message.secret role="status" {
                h2 { (title) }
                p { "It is shown on this page once, and nowhere again. " (hint) }
                div.copy {
                    code #secret { (value.expose_secret()) }
                    button type="button" data-copy="secret" hidden { "Copy" }
                }
            }
        },
    }
}

fn frame(title: &str, within: Option<(&Visit, &str)>, main: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · OpenClawMU" }
                link rel="icon" href="/console/icon.svg" type="image/svg+xml";
                link rel="stylesheet" href="/console/style.css";
                script src="/console/script.js" defer {}
            }
            body {
                a.skip href="#main" { "To the content" }
                @if let Some((visit, place)) = within { (bar(visit, place)) }
                main #main { (main) }
            }
        }
    }
}

fn bar(visit: &Visit, place: &str) -> Markup {
    html! {
        header.bar {
            a.name href="/console" { img src="/console/icon.svg" alt="" width="22" height="22"; "OpenClawMU" }
            nav aria-label="Console" {
                @for (name, path) in PLACES {
                    a href=(path) aria-current=[(name == place).then_some("page")] { (name) }
                }
            }
            div.who {
                span.quiet title="The admin key of this session" { (visit.actor.id) }
                (button(visit, "/console/logout", ("Log out", "")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_loses_the_place_in_a_text_that_nobody_typed_and_nothing_else() {
        assert_eq!(without_place("such as \"12.50\" at line 1 column 31"), "such as \"12.50\"");
        for whole in ["no such tenant", "look at line 3 of the file", "", "metadata must be JSON: EOF"] {
            assert_eq!(without_place(whole), whole);
        }
    }
}
