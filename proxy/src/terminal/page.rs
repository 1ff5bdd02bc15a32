//! `/v1/terminal/ui`: the page of a terminal. Static files of this binary, the same for everybody; whoever has them has nothing.
//!
//! Its policy (CSP) lets in nothing but these files: no script in the page, none from elsewhere, no frame around it. What xterm.js
//! needs beyond that is two things: style elements that it makes, which must carry the nonce of this very answer, and style
//! attributes, by which it colours letters. Neither can load or run anything.
//!
//! A program in the terminal can't get at the page: xterm.js without its clipboard addon takes no OSC 52, the page listens to no
//! title and answers no report of one, and a link is text.

use http::HeaderName;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};

use super::ticket::random;
use crate::answer::Head;
use crate::client::Client;
use crate::context::Context;
use crate::gateway::{Gateway, Stop};
use crate::refusal::Refusal;
use crate::session::Session;

const PAGE: &str = include_str!("page/terminal.html");
/// Where the page has the nonce of its policy.
const NONCE: &str = "@NONCE@";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// What the page consists of.
const FILES: [(&str, &str, &str); 9] = [
    ("terminal.mjs", SCRIPT, include_str!("page/terminal.mjs")),
    ("frame.mjs", SCRIPT, include_str!("page/frame.mjs")),
    ("playback.mjs", SCRIPT, include_str!("page/playback.mjs")),
    ("terminal.css", STYLE, include_str!("page/terminal.css")),
    ("xterm.mjs", SCRIPT, include_str!("page/vendor/xterm.mjs")),
    ("xterm.css", STYLE, include_str!("page/vendor/xterm.css")),
    ("xterm.LICENSE", TEXT, include_str!("page/vendor/xterm.LICENSE")),
    ("addon-fit.mjs", SCRIPT, include_str!("page/vendor/addon-fit.mjs")),
    ("addon-fit.LICENSE", TEXT, include_str!("page/vendor/addon-fit.LICENSE")),
];

impl Gateway {
    /// The page, or a file of it.
    pub(crate) async fn terminal_page(
        &self,
        session: &mut Session<'_>,
        ctx: &mut Context,
        file: &str,
    ) -> Result<(), Stop> {
        let nonce = random::<16>()?;
        let (kind, body) = if file.is_empty() {
            ("text/html; charset=utf-8", PAGE.replace(NONCE, &nonce))
        } else {
            let found = FILES.iter().find(|(name, ..)| *name == file);
            let (_, kind, text) = found
                .ok_or_else(|| Refusal::unknown_url(&session.req_header().method, session.req_header().uri.path()))?;
            (*kind, (*text).to_owned())
        };
        let mut head = Head::new(200, ctx.request_id)?;
        head.extend(policy(&nonce));
        Ok(head.send(&mut Client::Http(session.again()), kind, body.into()).await?)
    }
}

/// What a browser may do with the page.
fn policy(nonce: &str) -> Vec<(HeaderName, HeaderValue)> {
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; style-src-elem 'self' 'nonce-{nonce}'; \
         style-src-attr 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    let policy = HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    vec![
        (CONTENT_SECURITY_POLICY, policy),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
        (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_lets_in_nothing_but_the_pages_own_files_and_styles() {
        let headers = policy("abc");
        let policy = headers.iter().find(|(name, _)| *name == CONTENT_SECURITY_POLICY).unwrap().1.to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        assert!(policy.contains("'nonce-abc'") && !policy.contains("unsafe-eval"), "{policy}");
        let script = policy.split(';').find(|part| part.trim().starts_with("script-src")).unwrap();
        assert!(!script.contains("unsafe"), "{policy}");
    }

    #[test]
    fn the_page_holds_no_script_and_no_style_and_all_that_it_names_is_served() {
        assert!(PAGE.contains(NONCE) && !PAGE.contains("<style") && !PAGE.contains(" style="));
        for name in PAGE.split("ui/").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            assert!(FILES.iter().any(|(known, ..)| *known == name), "{name}");
        }
        assert_eq!(PAGE.matches("<script").count(), PAGE.matches("></script>").count(), "a script is a file");
    }
}
