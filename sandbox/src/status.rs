//! What process 1 says from inside, on a descriptor that the command does not have: what keeps it in, and how the command ended.

use crate::{Isolation, SandboxError};

/// The most that process 1 says.
pub(crate) const MAX_STATUS_BYTES: usize = 4096;

/// What was said until now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// What keeps it in.
    pub(crate) isolation: Isolation,
    /// How the command ended, if it did by itself.
    pub(crate) end: Option<End>,
    /// That process 1 was there at all.
    pub(crate) any: bool,
    /// That it went on to start the command: nothing more comes of what keeps it in.
    pub(crate) started: bool,
}

/// How the command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Exited(u8),
    Signalled(u8),
    /// It could not be started; the system's error number.
    Unstarted(i32),
    /// Process 1 refused.
    Refused(String),
}

impl Status {
    /// Reads the lines.
    pub(crate) fn parse(said: &[u8]) -> Self {
        let mut status = Self::default();
        for line in String::from_utf8_lossy(said).lines() {
            status.any = true;
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "uid_map" => status.isolation.uid_map = rest.to_owned(),
                "seccomp" => status.isolation.seccomp = rest.parse().unwrap_or(0),
                "no_new_privs" => status.isolation.no_new_privs = rest == "1",
                "cap_eff" => status.isolation.cap_eff = rest.to_owned(),
                "exited" => status.end = rest.parse().ok().map(End::Exited),
                "signalled" => status.end = rest.parse().ok().map(End::Signalled),
                "exec_failed" => status.end = rest.parse().ok().map(End::Unstarted),
                "refused" => status.end = Some(End::Refused(rest.to_owned())),
                "started" => status.started = true,
                // Whatever a later one adds.
                _ => {}
            }
        }
        status
    }

    /// The exit code that a shell would show, and the signal.
    pub(crate) fn shown(&self) -> (u8, Option<u8>) {
        match self.end {
            Some(End::Exited(code)) => (code, None),
            Some(End::Signalled(signal)) => (signal.saturating_add(128), Some(signal)),
            // ENOENT is what a shell calls "not found", the rest "can't be run".
            Some(End::Unstarted(2)) => (127, None),
            Some(End::Unstarted(_)) => (126, None),
            // Killed from outside, process 1 with it.
            Some(End::Refused(_)) | None => (137, Some(9)),
        }
    }

    /// Whether process 1 is bound as it must be, whatever ran it: a filter, no rights, and none to be gained.
    ///
    /// # Errors
    /// [`SandboxError::Unproved`], with what is missing.
    pub(crate) fn prove(&self) -> Result<(), SandboxError> {
        let seen = &self.isolation;
        let lacks = if seen.seccomp != 2 {
            format!("seccomp's mode is {}", seen.seccomp)
        } else if !seen.no_new_privs {
            "programs can gain rights".to_owned()
        } else if seen.cap_eff.is_empty() || seen.cap_eff.bytes().any(|digit| digit != b'0') {
            format!("process 1 has the rights {:?}", seen.cap_eff)
        } else {
            return Ok(());
        };
        Err(SandboxError::Unproved(lacks))
    }

    /// Whether it has a user namespace of its own, with the one user `inner` in it.
    ///
    /// # Errors
    /// [`SandboxError::Unproved`], with the map.
    pub(crate) fn prove_user(&self, inner: u32) -> Result<(), SandboxError> {
        let map = &self.isolation.uid_map;
        let fields: Vec<&str> = map.split(' ').collect();
        match fields.as_slice() {
            [inside, _, "1"] if *inside == inner.to_string() => Ok(()),
            _ => Err(SandboxError::Unproved(format!("the user map is {map:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "uid_map 1000 0 1\nseccomp 2\nno_new_privs 1\ncap_eff 0000000000000000\nstarted\n";

    #[test]
    fn x39_only_a_whole_proof_is_one() {
        let proved = |said: &str| {
            let status = Status::parse(said.as_bytes());
            status.prove().and_then(|()| status.prove_user(1000))
        };
        proved(GOOD).unwrap();
        for (from, to) in [
            ("uid_map 1000 0 1", "uid_map 0 0 1"),
            ("uid_map 1000 0 1", "uid_map 1000 0 4294967295"),
            ("uid_map 1000 0 1", "uid_map 1000 0 1;1001 1 1"),
            ("uid_map 1000 0 1\n", ""),
            ("seccomp 2", "seccomp 0"),
            ("no_new_privs 1", "no_new_privs 0"),
            ("cap_eff 0000000000000000", "cap_eff 0000000000200000"),
            ("cap_eff 0000000000000000\n", ""),
        ] {
            assert!(proved(&GOOD.replace(from, to)).is_err(), "{from} -> {to}");
        }
    }

    #[test]
    fn x10_the_end_is_read_exactly() {
        let end = |line: &str| Status::parse(format!("{GOOD}{line}\n").as_bytes()).end;
        assert_eq!(end("exited 255"), Some(End::Exited(255)));
        assert_eq!(end("signalled 9"), Some(End::Signalled(9)));
        assert_eq!(end("exec_failed 2"), Some(End::Unstarted(2)));
        assert_eq!(end("refused no"), Some(End::Refused("no".to_owned())));
        assert_eq!(end(""), None);
    }
}
