//! libFuzzer around the targets of [`openclawmu_proxy::fuzzing`]: one program for all of them, since linking the proxy once for
//! each takes longer than CI fuzzes. `OPENCLAWMU_FUZZ` names the target; without it, the names are listed.
#![no_main]
#![expect(
    clippy::panic,
    reason = "libFuzzer calls this in the midst of its own `main`: there is nobody to return an error to"
)]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use openclawmu_proxy::fuzzing::{TARGETS, Target};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("OPENCLAWMU_FUZZ").unwrap_or_default();
    let named = TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target);
    named.unwrap_or_else(|| {
        let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
        panic!("OPENCLAWMU_FUZZ must be one of: {}", names.join(" "))
    })
});

fuzz_target!(|data: &[u8]| TARGET(data));
