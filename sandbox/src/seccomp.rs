//! What code in the sandbox may not ask of the kernel.
//!
//! The policy is data, `conf/seccomp.json`, with a reason beside each rule. It is read here, and both backends take it from
//! here: `bpf` makes two filters of it for bubblewrap, `docker` a profile for a container engine. Must never skip a call
//! that it does not know: a name that is not in `table` refuses the whole policy.

mod bpf;
mod docker;
mod table;

use serde::{Deserialize, Deserializer};

pub(crate) use bpf::Filters;

use crate::SandboxError;

/// The policy as a profile for Docker (`--security-opt seccomp=FILE`).
///
/// # Errors
/// [`SandboxError::Seccomp`] if the policy that was built in can't be read.
pub fn docker_profile() -> Result<String, SandboxError> {
    Ok(Policy::builtin()?.docker_profile())
}

/// A processor's own numbering of system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arch {
    /// AMD and Intel.
    X86_64,
    /// Arm.
    Aarch64,
}

impl Arch {
    /// This machine's; none on a machine that there is no table for.
    pub(crate) fn host() -> Option<Self> {
        if cfg!(target_arch = "x86_64") {
            Some(Self::X86_64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Self::Aarch64)
        } else {
            None
        }
    }
}

/// The policy as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Policy {
    /// How it is read, for people.
    #[serde(rename = "about")]
    _about: String,
    rules: Vec<Rule>,
}

/// One rule: for each of its calls, where all its conditions hold.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    action: Action,
    calls: Vec<String>,
    #[serde(default)]
    when: Vec<Condition>,
    why: String,
}

/// What a caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Action {
    /// It is not allowed.
    Eperm,
    /// There is no such call: programs then take an older one.
    Enosys,
}

impl Action {
    fn errno(self) -> u16 {
        match self {
            Self::Eperm => 1,
            Self::Enosys => 38,
        }
    }
}

/// A condition on the low 32 bits of one argument.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, try_from = "Written")]
struct Condition {
    arg: u8,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    /// For one of these pairs, `value & mask` is the second.
    AnyOf(Vec<(u32, u32)>),
    /// The value is none of these.
    NotIn(Vec<u32>),
}

/// As a condition is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    arg: u8,
    mask: Option<Number>,
    r#in: Option<Vec<Number>>,
    any_bit: Option<Number>,
    not_in: Option<Vec<Number>>,
}

/// A number of 32 bits, written in decimal or as `0x...`.
#[derive(Clone, Copy, Debug)]
struct Number(u32);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parsed = match text.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => text.parse(),
        };
        parsed.map(Self).map_err(|_| serde::de::Error::custom(format!("{text} is no number of 32 bits")))
    }
}

impl TryFrom<Written> for Condition {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        if written.arg > 5 {
            return Err("a system call has the arguments 0 to 5".to_owned());
        }
        let test = match (written.mask, written.r#in, written.any_bit, written.not_in) {
            (mask, Some(values), None, None) => {
                let mask = mask.map_or(u32::MAX, |Number(mask)| mask);
                Test::AnyOf(values.into_iter().map(|Number(value)| (mask, value)).collect())
            }
            (None, None, None, Some(values)) => Test::NotIn(values.into_iter().map(|Number(value)| value).collect()),
            (None, None, Some(Number(bits)), None) => {
                let set = (0..32).map(|bit| 1_u32 << bit).filter(|bit| bits & bit != 0);
                Test::AnyOf(set.map(|bit| (bit, bit)).collect())
            }
            _ => return Err("a condition is `in` (with `mask` or not), `any_bit` or `not_in`".to_owned()),
        };
        Ok(Self { arg: written.arg, test })
    }
}

impl Policy {
    /// The policy that the program was built with.
    ///
    /// # Errors
    /// [`SandboxError::Seccomp`] if it can't be read, has a rule without a reason, or names a call that no table has.
    pub(crate) fn builtin() -> Result<Self, SandboxError> {
        Self::parse(include_str!("../../conf/seccomp.json"))
    }

    fn parse(text: &str) -> Result<Self, SandboxError> {
        let refused = |what: String| SandboxError::Seccomp(format!("conf/seccomp.json: {what}"));
        let policy: Self = serde_json::from_str(text).map_err(|err| refused(err.to_string()))?;
        for rule in &policy.rules {
            if rule.why.is_empty() || rule.calls.is_empty() {
                return Err(refused(format!("the rule for {:?} has no reason or no call", rule.calls)));
            }
            if let Some(call) = rule.calls.iter().find(|call| !table::knows(call)) {
                return Err(refused(format!("no table knows the call {call}")));
            }
        }
        Ok(policy)
    }

    /// The rules of one action, each with the numbers that its calls have on `arch`.
    fn rules(&self, action: Action, arch: Arch) -> impl Iterator<Item = (&Rule, u32)> {
        let of_action = self.rules.iter().filter(move |rule| rule.action == action);
        of_action.flat_map(move |rule| {
            rule.calls.iter().filter_map(move |call| table::number(arch, call).map(|number| (rule, number)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x32_a_policy_with_a_mistake_is_refused_whole() {
        let policy = |rule: &str| Policy::parse(&format!(r#"{{"about":"","rules":[{rule}]}}"#));
        assert!(policy(r#"{"action":"EPERM","calls":["ptrace"],"why":"it looks"}"#).is_ok());
        for bad in [
            r#"{"action":"EPERM","calls":["ptrace"],"why":""}"#,
            r#"{"action":"EPERM","calls":["ptrace"]}"#,
            r#"{"action":"EPERM","calls":["ptraze"],"why":"it looks"}"#,
            r#"{"action":"LOG","calls":["ptrace"],"why":"it looks"}"#,
            r#"{"action":"EPERM","calls":["ptrace"],"why":"it looks","when":[{"arg":6,"in":["1"]}]}"#,
            r#"{"action":"EPERM","calls":["ptrace"],"why":"it looks","when":[{"arg":0,"mask":"1"}]}"#,
            r#"{"action":"EPERM","calls":["ptrace"],"why":"it looks","when":[{"arg":0,"in":["1"],"not_in":["2"]}]}"#,
            r#"{"action":"EPERM","calls":["ptrace"],"why":"it looks","when":[{"arg":0,"in":["0x100000000"]}]}"#,
        ] {
            assert!(policy(bad).is_err(), "{bad}");
        }
        Policy::builtin().unwrap();
    }
}
