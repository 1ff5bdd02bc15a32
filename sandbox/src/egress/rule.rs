//! Which hosts a run may reach: [`Rule`] and [`Policy`].

use std::fmt;

/// The longest name (RFC 1035, section 2.3.4, as text).
const MAX_NAME_BYTES: usize = 253;
/// The longest part between two dots.
const MAX_LABEL_BYTES: usize = 63;
/// What HTTPS uses.
const HTTPS: u16 = 443;

/// A host by name, or all below one (`*.pythonhosted.org`), at one port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// In small letters, without a dot at the end.
    name: String,
    /// Whether it is all below the name, not the name itself.
    below: bool,
    port: u16,
}

/// What one run may reach. Without a rule that is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    allowed: Vec<Rule>,
    internal: Vec<Rule>,
}

impl Rule {
    /// Reads `name`, `name:port`, `*.name` or `*.name:port`; without a port it is 443.
    ///
    /// # Errors
    /// The sentence to show: what it must be instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no host; write it as \"pypi.org:443\" or \"*.pythonhosted.org:443\", never as an address"
            )
        };
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, parse_port(port).ok_or_else(wrong)?),
            None => (text, HTTPS),
        };
        let (below, host) = host.strip_prefix("*.").map_or((false, host), |host| (true, host));
        // All of `*.com` is more than anybody means.
        if below && !host.contains('.') {
            return Err(wrong());
        }
        let name = parse_name(host).ok_or_else(wrong)?;
        Ok(Self { name, below, port })
    }

    /// Whether it names this host, which `parse_name` made, at this port.
    fn names(&self, host: &str, port: u16) -> bool {
        let named = if self.below { is_below(host, &self.name) } else { host == self.name };
        named && port == self.port
    }

    /// Whether it names all that another rule does.
    fn covers(&self, other: &Self) -> bool {
        let covered = match (self.below, other.below) {
            (true, true) => other.name == self.name || is_below(&other.name, &self.name),
            (true, false) => is_below(&other.name, &self.name),
            (false, false) => other.name == self.name,
            (false, true) => false,
        };
        covered && self.port == other.port
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let below = if self.below { "*." } else { "" };
        write!(f, "{below}{}:{}", self.name, self.port)
    }
}

impl Policy {
    /// `allowed` may be reached. The operator's `internal` hosts may have addresses that are not public; that alone allows none.
    #[must_use]
    pub fn new(allowed: Vec<Rule>, internal: Vec<Rule>) -> Self {
        Self { allowed, internal }
    }

    /// The same, but for nothing more than `asked`.
    ///
    /// # Errors
    /// The first rule that asks for more than is allowed here.
    pub fn narrow(&self, asked: Vec<Rule>) -> Result<Self, Rule> {
        match asked.iter().find(|asked| !self.allowed.iter().any(|rule| rule.covers(asked))) {
            Some(wider) => Err(wider.clone()),
            None => Ok(Self { allowed: asked, internal: self.internal.clone() }),
        }
    }

    /// What it allows.
    pub fn allowed(&self) -> impl Iterator<Item = &Rule> {
        self.allowed.iter()
    }

    /// Whether there is nothing that it allows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.allowed.is_empty()
    }

    pub(super) fn allows(&self, host: &str, port: u16) -> bool {
        self.allowed.iter().any(|rule| rule.names(host, port))
    }

    pub(super) fn is_internal(&self, host: &str, port: u16) -> bool {
        self.internal.iter().any(|rule| rule.names(host, port))
    }
}

/// Whether a name ends in `.` and another.
fn is_below(name: &str, above: &str) -> bool {
    name.strip_suffix(above).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

/// A port as digits alone, from 1.
pub(super) fn parse_port(text: &str) -> Option<u16> {
    let plain = (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| plain && *port > 0)
}

/// A name in small letters, without a dot at the end. Whatever a resolver might take for an address is none: it ends in a
/// number, decimal, octal or hexadecimal.
pub(super) fn parse_name(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let name = text.to_ascii_lowercase();
    let label = |label: &str| {
        (1..=MAX_LABEL_BYTES).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = name.rsplit('.').next()?;
    let digits = last.bytes().all(|byte| byte.is_ascii_digit());
    let hexadecimal = last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    (name.len() <= MAX_NAME_BYTES && name.split('.').all(label) && !digits && !hexadecimal).then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(list: &[&str]) -> Vec<Rule> {
        list.iter().map(|text| Rule::parse(text).unwrap()).collect()
    }

    #[test]
    fn a_rule_names_one_host_or_all_below_it_at_one_port() {
        let policy = Policy::new(rules(&["PyPI.org.", "*.files.test:8443", "localhost:80"]), Vec::new());
        for (host, port) in [("pypi.org", 443), ("a.files.test", 8443), ("b.a.files.test", 8443), ("localhost", 80)] {
            assert!(policy.allows(host, port), "{host}:{port}");
        }
        for (host, port) in [
            ("pypi.org", 80),
            ("www.pypi.org", 443),
            ("evilpypi.org", 443),
            ("pypi.org.evil.test", 443),
            ("files.test", 8443),
            (".files.test", 8443),
            ("evilfiles.test", 8443),
            ("a.files.test", 443),
        ] {
            assert!(!policy.allows(host, port), "{host}:{port}");
        }
        assert!(!Policy::default().allows("pypi.org", 443));
        assert!(!policy.is_internal("pypi.org", 443));
    }

    /// an address in any form is no host.
    #[test]
    fn what_is_no_name_is_no_rule() {
        for text in [
            "",
            ":443",
            "*",
            "*.com",
            "*.*.com",
            "a.*.com",
            "a..b",
            ".a",
            "a b",
            "a/b",
            "http://a.com",
            "a.com:",
            "a.com:0",
            "a.com:65536",
            "a.com:+1",
            "a.com:http",
            "user@a.com",
            "-a.com",
            "a-.com",
            "é.com",
            "a.com\r\n",
            "127.0.0.1:443",
            "2130706433",
            "0177.0.0.1",
            "0x7f.0.0.1",
            "0x7f000001",
            "127.1",
            "[::1]:443",
            "[::ffff:127.0.0.1]:443",
            "a.1",
            "a.0x1",
            "a.0x",
            "1.2.3.4.",
        ] {
            assert!(Rule::parse(text).is_err(), "{text:?}");
        }
        for (text, shown) in
            [("A.com", "a.com:443"), ("*.a.co:1", "*.a.co:1"), ("1.a:2", "1.a:2"), ("_x.a", "_x.a:443")]
        {
            assert_eq!(Rule::parse(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn a_run_may_ask_for_less_and_never_for_more() {
        let policy = Policy::new(rules(&["pypi.org", "*.files.test:8443"]), rules(&["*.files.test:8443"]));
        for less in [&["pypi.org"][..], &["*.files.test:8443", "a.files.test:8443", "*.b.files.test:8443"], &[]] {
            let narrowed = policy.narrow(rules(less)).unwrap();
            assert_eq!(narrowed.allows("pypi.org", 443), less.contains(&"pypi.org"));
            assert!(narrowed.is_internal("a.files.test", 8443), "what the operator opens stays open");
        }
        for more in ["pypi.org:80", "*.pypi.org", "files.test:8443", "*.test.test", "a.files.test", "evil.test"] {
            assert_eq!(policy.narrow(rules(&["pypi.org", more])), Err(Rule::parse(more).unwrap()), "{more}");
        }
    }

    proptest! {
        /// What is covered is named as well, whichever host it is.
        #[test]
        fn what_a_narrower_policy_allows_the_wider_one_does(
            grants in proptest::collection::vec("(\\*\\.)?[ab](\\.[ab]){1,2}:[12]", 0..4),
            asked in proptest::collection::vec("(\\*\\.)?[ab](\\.[ab]){1,3}:[12]", 0..4),
            host in "[ab](\\.[ab]){0,4}",
            port in 1_u16..3,
        ) {
            let read = |list: Vec<String>| list.iter().map(|text| Rule::parse(text).unwrap()).collect::<Vec<_>>();
            let wide = Policy::new(read(grants), Vec::new());
            if let Ok(narrow) = wide.narrow(read(asked)) {
                prop_assert!(!narrow.allows(&host, port) || wide.allows(&host, port));
            }
        }

        #[test]
        fn reading_a_rule_never_panics_and_its_display_is_read_as_itself(text: String) {
            if let Ok(rule) = Rule::parse(&text) {
                prop_assert_eq!(Rule::parse(&rule.to_string()), Ok(rule));
            }
        }
    }
}
