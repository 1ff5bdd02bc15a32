//! Who has logged in. Sessions are in memory alone, so that a restart ends them all; of a session's id only the hash is kept.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// How long a session lives that is not used.
pub(in crate::admin) const IDLE_MS: i64 = 30 * 60_000;
/// How long one lives at most.
pub(in crate::admin) const MOST_MS: i64 = 12 * 60 * 60_000;
/// Sessions at once. Past it, a new one ends the one that was not used for the longest.
pub(in crate::admin) const MAX_SESSIONS: usize = 256;
/// Random bytes of an id.
const ID_BYTES: usize = 32;

/// The hash of a session's id, by which it is known here.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct SessionKey([u8; 32]);

/// What the next page says once.
pub(super) enum Flash {
    /// Something was done.
    Done(String),
    /// Something was done that made a secret: it is shown on that page and on no other.
    Secret {
        /// What it is.
        title: String,
        /// What to do with it.
        hint: String,
        /// Itself.
        value: SecretString,
    },
}

/// Everybody who has logged in.
#[derive(Default)]
pub(in crate::admin) struct Sessions(Mutex<HashMap<SessionKey, Session>>);

struct Session {
    admin_key: String,
    csrf: String,
    began_ms: i64,
    used_ms: i64,
    flash: Option<Flash>,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

/// A session that is open.
#[derive(Clone)]
pub(super) struct Open {
    pub(super) key: SessionKey,
    /// The name of the admin key that opened it.
    pub(super) admin_key: String,
    /// What each of its forms must carry.
    pub(super) csrf: String,
}

impl Open {
    /// Whether a form carries this session's token. Takes the same time whatever it carries.
    pub(super) fn is_own(&self, csrf: &str) -> bool {
        self.csrf.as_bytes().ct_eq(csrf.as_bytes()).into()
    }
}

impl Session {
    fn is_over(&self, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.used_ms) >= IDLE_MS || now_ms.saturating_sub(self.began_ms) >= MOST_MS
    }
}

impl Sessions {
    fn all(&self) -> MutexGuard<'_, HashMap<SessionKey, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a session of whoever has the admin key of this name; its id, which is nowhere else.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub(super) fn begin(&self, admin_key: &str, now_ms: i64) -> Result<String, getrandom::Error> {
        let (id, csrf) = (random()?, random()?);
        let session = Session { admin_key: admin_key.to_owned(), csrf, began_ms: now_ms, used_ms: now_ms, flash: None };
        let mut all = self.all();
        all.retain(|_, session| !session.is_over(now_ms));
        if all.len() >= MAX_SESSIONS
            && let Some(oldest) = all.iter().min_by_key(|(_, session)| session.used_ms).map(|(key, _)| *key)
        {
            all.remove(&oldest);
        }
        all.insert(key_of(&id), session);
        Ok(id)
    }

    /// The open session of this id, which is thereby used.
    pub(super) fn used(&self, id: &str, now_ms: i64) -> Option<Open> {
        let (key, mut all) = (key_of(id), self.all());
        let session = all.get_mut(&key)?;
        if session.is_over(now_ms) {
            all.remove(&key);
            return None;
        }
        session.used_ms = now_ms;
        Some(Open { key, admin_key: session.admin_key.clone(), csrf: session.csrf.clone() })
    }

    /// Ends one.
    pub(super) fn end(&self, key: SessionKey) {
        self.all().remove(&key);
    }

    /// Ends the one of this id, if there is one.
    pub(super) fn forget(&self, id: &str) {
        self.all().remove(&key_of(id));
    }

    /// What its next page says once. A secret that no page has shown yet stays, unless another takes its place.
    pub(super) fn say(&self, key: SessionKey, flash: Flash) {
        if let Some(session) = self.all().get_mut(&key) {
            let unseen = matches!((&session.flash, &flash), (Some(Flash::Secret { .. }), Flash::Done(_)));
            if !unseen {
                session.flash = Some(flash);
            }
        }
    }

    /// What its next page says: asked once, it is gone.
    pub(super) fn take(&self, key: SessionKey) -> Option<Flash> {
        self.all().get_mut(&key).and_then(|session| session.flash.take())
    }
}

/// A value that nobody can guess.
pub(super) fn random() -> Result<String, getrandom::Error> {
    let mut bytes = [0_u8; ID_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn key_of(id: &str) -> SessionKey {
    SessionKey(Sha256::digest(id.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_after_half_an_hour_without_use_and_after_twelve_hours_with_it() {
        let sessions = Sessions::default();
        let idle = sessions.begin("a", 0).unwrap();
        assert!(sessions.used(&idle, IDLE_MS - 1).is_some());
        assert!(sessions.used(&idle, 2 * IDLE_MS - 1).is_none(), "half an hour after its last use");
        assert!(sessions.used(&idle, IDLE_MS).is_none(), "and it does not come back");
        let busy = sessions.begin("a", 0).unwrap();
        for at in (0..MOST_MS).step_by(60_000) {
            assert!(sessions.used(&busy, at).is_some(), "{at}");
        }
        assert!(sessions.used(&busy, MOST_MS).is_none());
    }

    #[test]
    fn there_are_so_many_sessions_and_a_new_one_ends_the_one_that_was_least_used() {
        let sessions = Sessions::default();
        let ids: Vec<String> = (0..MAX_SESSIONS).map(|_| sessions.begin("a", 0).unwrap()).collect();
        for id in ids.iter().skip(1) {
            assert!(sessions.used(id, 1).is_some());
        }
        let new = sessions.begin("a", 2).unwrap();
        assert!(sessions.used(&new, 2).is_some() && sessions.used(&ids[1], 2).is_some());
        assert!(sessions.used(&ids[0], 2).is_none());
        assert_eq!(sessions.all().len(), MAX_SESSIONS);
    }

    #[test]
    fn a_secret_is_taken_once_and_not_by_another_session() {
        let sessions = Sessions::default();
        let (mine, other) = (sessions.begin("a", 0).unwrap(), sessions.begin("a", 0).unwrap());
        let (mine, other) = (sessions.used(&mine, 0).unwrap(), sessions.used(&other, 0).unwrap());
        let secret = Flash::Secret { title: String::new(), hint: String::new(), value: SecretString::from("tk_x") };
        sessions.say(mine.key, secret);
        sessions.say(mine.key, Flash::Done("a form that was sent twice".to_owned()));
        assert!(sessions.take(other.key).is_none());
        assert!(matches!(sessions.take(mine.key), Some(Flash::Secret { .. })));
        assert!(sessions.take(mine.key).is_none());
        assert!(mine.is_own(&mine.csrf) && !mine.is_own(&other.csrf) && !mine.is_own(""));
    }
}
