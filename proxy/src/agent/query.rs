//! What a request about an agent's things says in its query: whose they are, and which page.

use openclawmu_control::agent::{AgentError, AgentName};

use super::desk::refused;
use crate::own::percent_decode;
use crate::refusal::Refusal;

/// How many a page has that names no number.
const PAGE: usize = 100;
/// How many it may have.
const MAX_PAGE: usize = 1000;

/// What a query says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query {
    /// `default`, where none is named.
    pub(super) agent: AgentName,
    pub(super) after: Option<String>,
    pub(super) limit: usize,
}

impl Query {
    /// Reads one of which `known` may be said.
    ///
    /// # Errors
    /// 400 that names what is at fault; 404 for a name that no agent can have.
    pub(super) fn read(text: &str, known: &[&str]) -> Result<Self, Refusal> {
        let mut query = Self { agent: AgentName::of_default(), after: None, limit: PAGE };
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode(&value.replace('+', "%20"))
                .ok_or_else(|| Refusal::bad("query", "The query is not UTF-8."))?;
            match name {
                "agent" if known.contains(&name) => query.agent = agent(&value)?,
                "after" if known.contains(&name) => query.after = Some(value),
                "limit" if known.contains(&name) => {
                    let limit = value.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit));
                    query.limit =
                        limit.ok_or_else(|| Refusal::bad("limit", format!("`limit` must be 1 to {MAX_PAGE}.")))?;
                }
                other => {
                    let message = format!("`{other}` is not one of {}.", known.join(", "));
                    return Err(Refusal::bad("query", message));
                }
            }
        }
        Ok(query)
    }
}

/// The agent that is named so: one that can't be is not there.
pub(super) fn agent(name: &str) -> Result<AgentName, Refusal> {
    name.parse().map_err(|_| refused(&AgentError::NotFound("agent")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_strictly() {
        let known = ["agent", "after", "limit"];
        let read = |text| Query::read(text, &known).map_err(|refusal| refusal.told().status);
        let query = read("agent=helper&after=a%20b&limit=7").unwrap();
        assert_eq!((query.agent.as_str(), query.after.as_deref(), query.limit), ("helper", Some("a b"), 7));
        assert_eq!(read("").map(|query| (query.agent.is_default(), query.limit)), Ok((true, PAGE)));
        for (text, status) in [
            ("limit=0", 400),
            ("limit=1001", 400),
            ("tenant=other", 400),
            ("agent=%ff", 400),
            ("agent=..%2fother", 404),
            ("agent=", 404),
        ] {
            assert_eq!(read(text), Err(status), "{text}");
        }
        assert!(Query::read("limit=5", &["agent"]).is_err());
    }
}
