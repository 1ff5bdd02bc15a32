//! A pairing link: the page behind it, and the form that makes the channel.

use http::HeaderMap;
use openclawmu_store::{Actor, ActorKind, NewChannel, Pairing, StoreError};

use super::adapter::NotPaired;
use super::credential::Credentials;
use super::desk::Channels;
use super::kind::Kind;
use super::page::{self, Page};

/// The largest form, in bytes.
const MAX_FORM_BYTES: usize = 32 << 10;

impl Channels {
    /// The page of a link.
    pub async fn pairing_page(&self, code: &str) -> Page {
        match self.link(code).await {
            Ok((kind, pairing)) => page::form(kind, &pairing, self.adapter(kind).guide(), None),
            Err(page) => page,
        }
    }

    /// The form of a link: makes the channel, once. `actor` says from where and in which request; who it is, is known by the link.
    pub async fn pair(&self, code: &str, (headers, body): (&HeaderMap, &[u8]), actor: &Actor) -> Page {
        if !is_own_page(headers, &self.config.public_url) {
            return page::refused(403, "This form was sent by a page of another site. Open the link itself.");
        }
        let (kind, pairing) = match self.link(code).await {
            Ok(found) => found,
            Err(page) => return page,
        };
        let actor = Actor { kind: ActorKind::Tenant, id: format!("pairing:{}", pairing.id), ..actor.clone() };
        match self.bind(kind, &pairing, body, &actor).await {
            Ok((id, with)) => page::done(kind, self.adapter(kind).guide(), &self.url(kind, &id), |name| with.get(name)),
            Err(Failed::Form(trouble)) => match self.store.pairing_failed(&pairing.id).await {
                Ok(0) => page::refused(404, "That was the last try. Ask for another link."),
                Ok(tries_left) => {
                    let pairing = Pairing { tries_left, ..pairing };
                    page::form(kind, &pairing, self.adapter(kind).guide(), Some(&trouble))
                }
                Err(err) => unavailable(&err),
            },
            Err(Failed::Page(page)) => page,
        }
    }

    async fn link(&self, code: &str) -> Result<(Kind, Pairing), Page> {
        match self.store.pairing(code).await {
            Ok(pairing) => match Kind::parse(&pairing.kind) {
                Some(kind) => Ok((kind, pairing)),
                None => Err(page::gone()),
            },
            Err(StoreError::NotFound(_)) => Err(page::gone()),
            Err(err) => Err(unavailable(&err)),
        }
    }

    async fn bind(
        &self,
        kind: Kind,
        pairing: &Pairing,
        body: &[u8],
        actor: &Actor,
    ) -> Result<(String, Credentials), Failed> {
        let adapter = self.adapter(kind);
        if body.len() > MAX_FORM_BYTES {
            return Err(Failed::Page(page::refused(413, "What was sent is too large for this form.")));
        }
        let mut given = Credentials::default();
        for (name, value) in url::form_urlencoded::parse(body) {
            if adapter.guide().fields.iter().any(|field| field.name == name) {
                given.set(&name, value.trim());
            }
        }
        let id = new_id().map_err(|why| Failed::Page(internal(&why)))?;
        let account = adapter.pair(&mut given, &self.url(kind, &id)).await.map_err(Failed::Form)?;
        // A rotation of the master key waits until what is sealed here is committed.
        let _sealing = self.master.sealing().await;
        let sealed = given.seal(&self.master, &pairing.tenant, &id).map_err(|why| Failed::Page(internal(&why)))?;
        let identity = account.identity.unwrap_or_else(|| id.clone());
        let new = NewChannel { id: id.clone(), identity, label: account.label, sealed };
        match self.store.bind_channel(actor, &pairing.id, new).await {
            Ok(_) => Ok((id, given)),
            Err(StoreError::Conflict(message)) => Err(Failed::Form(NotPaired::Provider(message))),
            Err(StoreError::NotFound(_)) => Err(Failed::Page(page::gone())),
            Err(err) => Err(Failed::Page(unavailable(&err))),
        }
    }
}

enum Failed {
    /// The form is shown again, with what is wrong.
    Form(NotPaired),
    Page(Page),
}

fn unavailable(err: &StoreError) -> Page {
    tracing::error!(%err, "a channel can't be paired");
    page::refused(503, "This can't be kept at the moment, and nothing was changed. Please try again.")
}

fn internal(why: &str) -> Page {
    tracing::error!(why, "a channel can't be paired");
    page::refused(503, "This can't be done at the moment, and nothing was changed. Please try again.")
}

fn new_id() -> Result<String, String> {
    let mut random = [0_u8; 12];
    getrandom::fill(&mut random).map_err(|err| format!("no random bytes: {err}"))?;
    Ok(format!("cb_{}", random.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}

/// Whether the browser says that the form is on a page of this very site. What says nothing is no browser's, and the link is
/// what lets it in.
fn is_own_page(headers: &HeaderMap, public_url: &str) -> bool {
    let one = |name: &str| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => value.to_str().map(Some).map_err(drop),
            (Some(_), Some(_)) => Err(()),
        }
    };
    let (Ok(site), Ok(origin), Ok(host)) = (one("sec-fetch-site"), one("origin"), one("host")) else { return false };
    let by_site = site.is_none_or(|site| site == "same-origin");
    let own = |origin: &str| {
        origin == public_url || host.is_some_and(|host| origin.split_once("://").is_some_and(|(_, of)| of == host))
    };
    by_site && origin.is_none_or(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w_02_a_form_on_another_sites_page_is_told_apart() {
        let from = |fields: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, value.parse().unwrap());
            }
            is_own_page(&headers, "https://gw.example.com")
        };
        assert!(from(&[]), "no browser");
        assert!(from(&[("sec-fetch-site", "same-origin"), ("origin", "https://gw.example.com")]));
        assert!(from(&[("origin", "http://127.0.0.1:8080"), ("host", "127.0.0.1:8080")]));
        for other in [
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "none")],
            &[("origin", "null"), ("host", "gw.example.com")],
            &[("origin", "https://gw.example.com.evil.com"), ("host", "gw.example.com")],
            &[("origin", "https://gw.example.com"), ("origin", "https://gw.example.com")],
        ] {
            assert!(!from(other), "{other:?}");
        }
    }
}
