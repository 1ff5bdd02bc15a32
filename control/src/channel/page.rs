//! The pages of a pairing link. No script, nothing from elsewhere; whatever a person or a provider wrote is escaped.

use std::fmt::{self, Write};

use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderName, HeaderValue};
use openclawmu_store::Pairing;

use super::adapter::{Field, Guide, NotPaired};
use super::kind::Kind;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem;color:#1c1c1c;background:#fff}\
h1{font-size:1.5rem}label{display:block;font-weight:600;margin-top:1rem}\
input{width:100%;box-sizing:border-box;font:inherit;padding:.5rem;border:1px solid #777;border-radius:.25rem}\
button{font:inherit;margin-top:1.5rem;padding:.5rem 1.25rem;border:0;border-radius:.25rem;background:#14532d;color:#fff}\
code{background:#eee;padding:.1rem .3rem;border-radius:.2rem;overflow-wrap:anywhere}\
.bad{border-left:.25rem solid #b91c1c;padding:.5rem 1rem;background:#fef2f2}small{color:#555}";

/// A page, ready to be sent. Its `Debug` shows nothing of it: it may hold a secret that is shown once.
#[derive(Clone)]
pub struct Page {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Its HTML.
    pub body: String,
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").field("status", &self.status).finish_non_exhaustive()
    }
}

/// The steps and the form of a link.
pub(super) fn form(kind: Kind, pairing: &Pairing, guide: Guide, trouble: Option<&NotPaired>) -> Page {
    let mut html = format!("<h1>Pair {} with {}</h1>", Text(kind.title()), Text(pairing.tenant.as_str()));
    let status = match trouble {
        None => 200,
        Some(trouble) => {
            let what = match trouble {
                NotPaired::Field(name, sentence) => format!("{} {sentence}.", label(guide.fields, name)),
                NotPaired::Provider(sentence) => format!("{sentence}."),
            };
            let left = pairing.tries_left;
            put(&mut html, format_args!("<p class=\"bad\" role=\"alert\">{} Tries left: {left}.</p>", Text(&what)));
            422
        }
    };
    let agent = Text(&pairing.agent);
    put(&mut html, format_args!("<p>What people write there will be answered by the agent <code>{agent}</code>.</p>"));
    steps(&mut html, guide.before.iter().map(|step| (*step).to_owned()));
    html.push_str("<form method=\"post\" autocomplete=\"off\">");
    for field in guide.fields {
        let (name, label, example) = (Text(field.name), Text(field.label), Text(field.example));
        let kind = if field.secret { "password" } else { "text" };
        put(
            &mut html,
            format_args!(
                "<label for=\"{name}\">{label}</label><input id=\"{name}\" name=\"{name}\" type=\"{kind}\" placeholder=\"{example}\" autocomplete=\"off\" spellcheck=\"false\" required>"
            ),
        );
    }
    html.push_str("<button type=\"submit\">Pair</button></form>");
    let until = pairing.expires_at.rfc3339();
    put(&mut html, format_args!("<p><small>This link works once, until {}.</small></p>", Text(&until)));
    page(status, &html)
}

/// What is left to do once the channel is there. Credentials that the adapter made are shown here, and never again.
pub(super) fn done<'a>(kind: Kind, guide: Guide, url: &str, made: impl Fn(&str) -> Option<&'a str>) -> Page {
    let mut html = format!("<h1>{} is paired</h1><p>What is left to do:</p>", Text(kind.title()));
    steps(&mut html, guide.after.iter().map(|step| filled(step, url, &made)));
    html.push_str("<p><small>This page is shown once; the link is used up.</small></p>");
    page(200, &html)
}

/// The answer to every code that opens nothing.
pub(super) fn gone() -> Page {
    refused(404, "This link was used, is older than ten minutes, or never was. Ask for another one.")
}

/// A page that says no more than this.
pub(super) fn refused(status: u16, sentence: &str) -> Page {
    page(status, &format!("<h1>Pairing</h1><p class=\"bad\" role=\"alert\">{}</p>", Text(sentence)))
}

fn label<'a>(fields: &'a [Field], name: &'a str) -> &'a str {
    fields.iter().find(|field| field.name == name).map_or(name, |field| field.label)
}

/// A step with its URL and what was made in their places.
fn filled<'a>(step: &str, url: &str, made: &impl Fn(&str) -> Option<&'a str>) -> String {
    let step = step.replace("{url}", url);
    let named = step.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(name, _)| name.to_owned());
    match named.as_deref().and_then(|name| made(name).map(|value| (name, value))) {
        Some((name, value)) => step.replace(&format!("{{{name}}}"), value),
        None => step,
    }
}

fn steps(html: &mut String, steps: impl Iterator<Item = String>) {
    html.push_str("<ol>");
    for step in steps {
        put(html, format_args!("<li>{}</li>", Text(&step)));
    }
    html.push_str("</ol>");
}

fn page(status: u16, content: &str) -> Page {
    // Without random bytes the page has no style, and nothing else differs.
    let mut random = [0_u8; 16];
    let nonce = match getrandom::fill(&mut random) {
        Ok(()) => random.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        Err(_) => "none".to_owned(),
    };
    let body = format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Pairing</title><style nonce=\"{nonce}\">{STYLE}</style></head><body>{content}</body></html>\n"
    );
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    let policy = HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    let headers = vec![
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (CONTENT_SECURITY_POLICY, policy),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // The link is a secret; its own form still says where it comes from.
        (REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
        (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    ];
    Page { status, headers, body }
}

fn put(html: &mut String, piece: fmt::Arguments<'_>) {
    // Writing to a string can't fail.
    let _ = html.write_fmt(piece);
}

/// Text that is shown as it is, in an element or in an attribute.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use openclawmu_store::{ChannelPolicy, UnixMs};

    use super::*;

    fn header<'a>(page: &'a Page, name: &str) -> &'a str {
        page.headers.iter().find(|(known, _)| known == name).unwrap().1.to_str().unwrap()
    }

    /// W-03, W-04
    #[test]
    fn what_somebody_wrote_is_text_and_the_policy_lets_nothing_in() {
        let evil = "\"><script>alert(1)</script>'&";
        let pairing = Pairing {
            id: "x".to_owned(),
            tenant: "acme".parse().unwrap(),
            kind: "slack".to_owned(),
            agent: evil.to_owned(),
            policy: ChannelPolicy::Open,
            expires_at: UnixMs(0),
            tries_left: 4,
        };
        const FIELDS: &[Field] = &[Field { name: "bot_token", label: "Token", example: "x", secret: true }];
        let guide = Guide { before: &["one"], fields: FIELDS, after: &["paste {url}", "and {verify}"] };
        let trouble = NotPaired::Provider(evil.to_owned());
        let shown = form(Kind::Slack, &pairing, guide, Some(&trouble));
        assert!(!shown.body.contains("<script") && shown.body.matches("&lt;script&gt;").count() == 2, "{}", shown.body);
        assert!(shown.body.contains("Tries left: 4") && shown.status == 422);
        assert!(shown.body.contains("type=\"password\""));
        let policy = header(&shown, "content-security-policy");
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("form-action 'self'"), "{policy}");
        assert_eq!((header(&shown, "cache-control"), header(&shown, "referrer-policy")), ("no-store", "same-origin"));
        let finished = done(Kind::Slack, guide, "https://gw/<b>", |name| (name == "verify").then_some("<i>"));
        assert!(finished.body.contains("paste https://gw/&lt;b&gt;") && finished.body.contains("and &lt;i&gt;"));
        assert_eq!(gone().status, 404);
    }
}
