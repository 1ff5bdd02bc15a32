//! What the gateway holds in memory when it does nothing for many tenants.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::bar::Bar;
use crate::cpu::resident_bytes;
use crate::scale::seed;
use crate::scale::served::Gateway;

const TENANTS: u32 = 10_000;
/// What start-up left is given back by then, as far as it is.
const SETTLE: Duration = Duration::from_secs(5);
const MOST_MIB: f64 = 60.0;

/// Fills a store in `dir` with tenants alone, and looks at a gateway that has just started on it.
pub(super) fn measure(binary: &Path, dir: &Path) -> Result<Bar> {
    seed::seed(dir, seed::last_month()?, TENANTS, 0)?;
    let gateway = Gateway::start(binary, dir)?;
    thread::sleep(SETTLE);
    let mebibytes = resident_bytes(gateway.process.id())? as f64 / f64::from(1 << 20);
    Ok(Bar::at_most("RSS with 10,000 tenants, MiB", MOST_MIB, mebibytes))
}
