//! The policy as a container engine takes it: Docker's JSON profile.
//!
//! Must never put two conditions on one argument into one rule: runc takes each for a rule of its own, so that "neither 1
//! nor 2" would become "everything". What is excluded is written as the blocks of numbers around it.

use serde_json::{Value, json};

use super::{Condition, Policy, Rule, Test};

impl Policy {
    /// The profile.
    pub(crate) fn docker_profile(&self) -> String {
        let mut syscalls = Vec::new();
        for rule in &self.rules {
            for args in alternatives_of(rule) {
                syscalls.push(json!({
                    "names": rule.calls, "action": "SCMP_ACT_ERRNO", "errnoRet": rule.action.errno(), "args": args,
                }));
            }
        }
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "archMap": [
                {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": []},
                {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": []},
            ],
            "syscalls": syscalls,
        })
        .to_string()
    }
}

fn alternatives_of(rule: &Rule) -> Vec<Vec<Value>> {
    let mut ways: Vec<Vec<Value>> = vec![Vec::new()];
    for condition in &rule.when {
        let pairs = pairs_of(condition);
        ways = ways.iter().flat_map(|way| pairs.iter().map(|pair| longer(way, condition.arg, *pair))).collect();
    }
    ways
}

fn longer(way: &[Value], arg: u8, (mask, value): (u32, u32)) -> Vec<Value> {
    let more = json!({"index": arg, "op": "SCMP_CMP_MASKED_EQ", "value": mask, "valueTwo": value});
    way.iter().cloned().chain([more]).collect()
}

/// The condition as pairs of which one has to fit: `value & mask` is the second.
fn pairs_of(condition: &Condition) -> Vec<(u32, u32)> {
    match &condition.test {
        Test::AnyOf(pairs) => pairs.clone(),
        Test::NotIn(values) => blocks_without(values),
    }
}

/// All numbers but these, as blocks that share their leading bits.
fn blocks_without(values: &[u32]) -> Vec<(u32, u32)> {
    let mut blocks = Vec::new();
    let mut open = vec![(0_u32, 0_u32)];
    while let Some((mask, value)) = open.pop() {
        if !values.iter().any(|excluded| excluded & mask == value) {
            blocks.push((mask, value));
        } else if mask != u32::MAX {
            let next = 1 << (31 - mask.leading_ones());
            open.extend([(mask | next, value), (mask | next, value | next)]);
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn x32_the_blocks_around_some_numbers_hold_all_others(
            values in proptest::collection::vec(prop_oneof![0_u32..20, any::<u32>()], 0..4),
            probe in prop_oneof![0_u32..20, any::<u32>()]
        ) {
            let blocks = blocks_without(&values);
            for number in values.iter().chain([&probe]) {
                let held = blocks.iter().any(|(mask, value)| number & mask == *value);
                prop_assert_eq!(held, !values.contains(number), "{}", number);
            }
        }
    }

    #[test]
    fn x32_no_rule_of_the_profile_has_two_conditions_on_one_argument() {
        let profile: Value = serde_json::from_str(&Policy::builtin().unwrap().docker_profile()).unwrap();
        let rules = profile["syscalls"].as_array().unwrap();
        assert!(rules.len() > 60, "{}", rules.len());
        for rule in rules {
            let mut seen: Vec<u64> =
                rule["args"].as_array().unwrap().iter().map(|arg| arg["index"].as_u64().unwrap()).collect();
            let all = seen.len();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), all, "{rule}");
        }
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ALLOW");
    }
}
