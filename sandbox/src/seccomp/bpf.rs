//! The policy as the kernel takes it: two filters, since one can only give one answer besides "allowed".

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use super::{Action, Arch, Condition, Policy, Rule, Test};
use crate::SandboxError;

/// From here on an x86-64 kernel takes numbers for those of x32, which are the same calls once more.
const X32: u32 = 0x4000_0000;

/// Both filters, as an array of the kernel's `struct sock_filter` each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filters {
    /// Answers EPERM.
    pub(crate) forbidden: Vec<u8>,
    /// Answers ENOSYS.
    pub(crate) unknown: Vec<u8>,
}

impl Filters {
    /// Compiles the policy.
    ///
    /// # Errors
    /// [`SandboxError::Seccomp`] if the compiler refuses it, for instance because it is too long.
    pub(crate) fn compile(policy: &Policy, arch: Arch) -> Result<Self, SandboxError> {
        let compile = |action| {
            let program = program(policy, action, arch).map_err(|err| SandboxError::Seccomp(err.to_string()))?;
            Ok::<_, SandboxError>(bytes(&program))
        };
        Ok(Self { forbidden: compile(Action::Eperm)?, unknown: compile(Action::Enosys)? })
    }
}

fn program(policy: &Policy, action: Action, arch: Arch) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut calls: BTreeMap<i64, Option<Vec<SeccompRule>>> = BTreeMap::new();
    for (rule, number) in policy.rules(action, arch) {
        // `None` is a rule without conditions: it takes in all others.
        let known = calls.entry(i64::from(number)).or_insert_with(|| Some(Vec::new()));
        match known {
            Some(_) if rule.when.is_empty() => *known = None,
            Some(alternatives) => alternatives.extend(alternatives_of(rule)?),
            None => {}
        }
    }
    let rules = calls.into_iter().map(|(number, rules)| (number, rules.unwrap_or_default())).collect();
    let target = match arch {
        Arch::X86_64 => TargetArch::x86_64,
        Arch::Aarch64 => TargetArch::aarch64,
    };
    let answer = SeccompAction::Errno(u32::from(action.errno()));
    let mut program = guard(arch);
    program.extend(BpfProgram::try_from(SeccompFilter::new(rules, SeccompAction::Allow, answer, target)?)?);
    Ok(program)
}

/// Every way in which all conditions of a rule can hold, as a rule of its own.
fn alternatives_of(rule: &Rule) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let mut ways: Vec<Vec<SeccompCondition>> = vec![Vec::new()];
    for condition in &rule.when {
        let mut longer = Vec::new();
        for way in &ways {
            for more in ways_of(condition)? {
                longer.push(way.iter().cloned().chain(more).collect());
            }
        }
        ways = longer;
    }
    ways.into_iter().map(SeccompRule::new).collect()
}

fn ways_of(condition: &Condition) -> Result<Vec<Vec<SeccompCondition>>, seccompiler::BackendError> {
    let compare = |op, value: u32| SeccompCondition::new(condition.arg, SeccompCmpArgLen::Dword, op, u64::from(value));
    match &condition.test {
        Test::AnyOf(pairs) => pairs
            .iter()
            .map(|(mask, value)| Ok(vec![compare(SeccompCmpOp::MaskedEq(u64::from(*mask)), *value)?]))
            .collect(),
        Test::NotIn(values) => {
            Ok(vec![values.iter().map(|value| compare(SeccompCmpOp::Ne, *value)).collect::<Result<_, _>>()?])
        }
    }
}

/// What comes before everything else: calls by another processor's numbers, such as `int 0x80`'s, and x32's are unknown. The
/// compiler knows nothing of the latter, and would kill at the former.
fn guard(arch: Arch) -> BpfProgram {
    const LOAD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const JUMP_IF_NOT_LESS: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const NUMBER_AT: u32 = 0;
    const ARCH_AT: u32 = 4;
    let unknown = 0x0005_0000 | u32::from(Action::Enosys.errno());
    let audit_arch = match arch {
        Arch::X86_64 => 0xC000_003E,
        Arch::Aarch64 => 0xC000_00B7,
    };
    let step = |code, jt, jf, k| seccompiler::sock_filter { code, jt, jf, k };
    vec![
        step(LOAD, 0, 0, ARCH_AT),
        step(JUMP_IF_EQUAL, 1, 0, audit_arch),
        step(RETURN, 0, 0, unknown),
        step(LOAD, 0, 0, NUMBER_AT),
        step(JUMP_IF_NOT_LESS, 0, 1, X32),
        step(RETURN, 0, 0, unknown),
    ]
}

fn bytes(program: &BpfProgram) -> Vec<u8> {
    let step = |step: &seccompiler::sock_filter| {
        let mut bytes = [0; 8];
        let (code, rest) = bytes.split_at_mut(2);
        code.copy_from_slice(&step.code.to_ne_bytes());
        let (jumps, constant) = rest.split_at_mut(2);
        jumps.copy_from_slice(&[step.jt, step.jf]);
        constant.copy_from_slice(&step.k.to_ne_bytes());
        bytes
    };
    program.iter().flat_map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::table;

    const ALLOW: u32 = 0x7fff_0000;
    const EPERM: u32 = 0x0005_0001;
    const ENOSYS: u32 = 0x0005_0026;
    const ARCHES: [(Arch, u32); 2] = [(Arch::X86_64, 0xC000_003E), (Arch::Aarch64, 0xC000_00B7)];

    /// Runs a filter as the kernel does, on one call.
    fn verdict(program: &[u8], audit_arch: u32, number: u32, args: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend(number.to_le_bytes());
        data.extend(audit_arch.to_le_bytes());
        data.extend(0_u64.to_le_bytes());
        args.iter().for_each(|arg| data.extend(arg.to_le_bytes()));
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
        let (mut at, mut value) = (0, 0_u32);
        loop {
            let step = &program[at * 8..at * 8 + 8];
            let (code, k) = (u16::from_le_bytes([step[0], step[1]]), word(&step[4..]));
            let jump = |met: bool| usize::from(if met { step[2] } else { step[3] });
            at += 1;
            match code {
                0x20 => value = word(&data[k as usize..k as usize + 4]),
                0x54 => value &= k,
                0x05 => at += k as usize,
                0x15 => at += jump(value == k),
                0x25 => at += jump(value > k),
                0x35 => at += jump(value >= k),
                0x06 => return k,
                other => panic!("step {other:#x}"),
            }
        }
    }

    /// The answer of both filters together: the kernel takes the one that is not "allowed".
    fn answer(arch: Arch, audit_arch: u32, number: u32, args: [u64; 6]) -> u32 {
        let filters = Filters::compile(&Policy::builtin().unwrap(), arch).unwrap();
        let both = [&filters.forbidden, &filters.unknown].map(|program| verdict(program, audit_arch, number, args));
        *both.iter().min().unwrap()
    }

    fn call(arch: Arch, audit_arch: u32, name: &str, args: &[u64]) -> Option<u32> {
        let mut six = [0; 6];
        six[..args.len()].copy_from_slice(args);
        table::number(arch, name).map(|number| answer(arch, audit_arch, number, six))
    }

    #[test]
    fn x32_every_rule_is_answered_as_written_on_both_processors() {
        let policy = Policy::builtin().unwrap();
        for (arch, audit_arch) in ARCHES {
            let filters = Filters::compile(&policy, arch).unwrap();
            for (action, wanted, program) in
                [(Action::Eperm, EPERM, &filters.forbidden), (Action::Enosys, ENOSYS, &filters.unknown)]
            {
                for (rule, number) in policy.rules(action, arch) {
                    let mut args = [0; 6];
                    for condition in &rule.when {
                        args[usize::from(condition.arg)] = match &condition.test {
                            Test::AnyOf(pairs) => u64::from(pairs[0].1),
                            Test::NotIn(values) => (3..).find(|value| !values.contains(value)).unwrap().into(),
                        };
                    }
                    assert_eq!(verdict(program, audit_arch, number, args), wanted, "{:?}", rule.calls);
                }
            }
            assert!(filters.forbidden.len() / 8 < 4096 && filters.unknown.len() / 8 < 4096);
        }
    }

    #[test]
    fn x32_conditions_let_through_what_they_do_not_mean() {
        for (arch, audit_arch) in ARCHES {
            let told = |name: &str, args: &[u64]| call(arch, audit_arch, name, args);
            let (no, yes) = (Some(EPERM), Some(ALLOW));
            assert_eq!(told("clone", &[0x3d_0f00]), yes, "a thread");
            assert_eq!(told("clone", &[17]), yes, "a process");
            for flag in [0x2_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] {
                assert_eq!(told("clone", &[flag | 17]), no, "{flag:#x}");
            }
            assert_eq!(told("ioctl", &[0, 0x5401]), yes, "TCGETS");
            for request in [0x5412, 0x541c, 0x1_0000_5412, 0xffff_ffff_0000_541c, 0x401c_5820, 0x4008_6602] {
                assert_eq!(told("ioctl", &[0, request]), no, "{request:#x}");
            }
            for family in [1, 2, 10] {
                assert_eq!(told("socket", &[family, 1]), yes, "{family}");
                assert_eq!(told("socket", &[family, 3]), no, "raw {family}");
                assert_eq!(told("socket", &[family, 3 | 0x80000]), no, "raw, close on exec {family}");
            }
            for family in [0, 3, 16, 17, 38, 40, 45, u64::from(u32::MAX)] {
                assert_eq!(told("socket", &[family, 1]), no, "{family}");
            }
            for (persona, wanted) in [(0, yes), (8, yes), (0xffff_ffff, yes), (0x40000, no), (0x20_0000, no)] {
                assert_eq!(told("personality", &[persona]), wanted, "{persona:#x}");
            }
            assert_eq!(told("fchmod", &[3, 0o755]), yes);
            assert_eq!(told("fchmod", &[3, 0o4755]), no);
            assert_eq!(told("fchmod", &[3, 0o2755]), no);
            assert_eq!(told("openat", &[0, 0, 0x40 | 1, 0o644]), yes);
            assert_eq!(told("openat", &[0, 0, 0, 0o4755]), yes, "the mode is nothing but noise here");
            assert_eq!(told("openat", &[0, 0, 0x40 | 1, 0o4755]), no);
            assert_eq!(told("openat", &[0, 0, 0x3_0000, 0o4755]), yes, "O_DIRECTORY and O_NOFOLLOW make nothing");
            assert_eq!(told("openat", &[0, 0, 0x41_0000, 0o2755]), no, "O_TMPFILE");
            for (mode, wanted) in [(0o10_0644, yes), (0o1_0644, yes), (0o2_0644, no), (0o6_0644, no), (0o10_4755, no)] {
                assert_eq!(told("mknodat", &[0, 0, mode]), wanted, "{mode:o}");
            }
        }
    }

    #[test]
    fn x32_the_same_calls_by_other_numbers_are_unknown() {
        for (arch, audit_arch) in ARCHES {
            let getpid = match arch {
                Arch::X86_64 => 39,
                Arch::Aarch64 => 172,
            };
            assert_eq!(answer(arch, audit_arch, getpid, [0; 6]), ALLOW);
            for number in [X32, X32 | getpid, X32 | 101, u32::MAX] {
                assert_eq!(answer(arch, audit_arch, number, [0; 6]), ENOSYS, "{number:#x}");
            }
            for other in [0x4000_0003, 0x4000_0028, 0, audit_arch ^ 1] {
                assert_eq!(answer(arch, other, getpid, [0; 6]), ENOSYS, "{other:#x}");
            }
        }
    }
}
