//! Builds `sandbox/init`, the first process in a sandbox, as a static program that the crate embeds: the gateway stays one file.
//! Needs no network: what it depends on is in the workspace's lock file, and the workspace itself depends on it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

/// The cargo profile, in the workspace's manifest.
const PROFILE: &str = "init";

fn main() {
    println!("cargo::rerun-if-changed=init");
    println!("cargo::rerun-if-changed=../Cargo.lock");
    println!("cargo::rerun-if-changed=build.rs");
    // There are no namespaces elsewhere, so nothing to be the first process of.
    if variable("CARGO_CFG_TARGET_OS") == "linux" {
        let helper = build();
        println!("cargo::rustc-env=OPENCLAWMU_INIT={}", helper.display());
    }
}

/// Builds it, and answers where it is.
fn build() -> PathBuf {
    let target = variable("TARGET");
    let out = Path::new(&variable("OUT_DIR")).join("init");
    let mut cargo = Command::new(variable("CARGO"));
    cargo
        .args(["build", "--quiet", "--locked", "--offline", "--manifest-path", "init/Cargo.toml"])
        .args(["--profile", PROFILE, "--target", &target, "--target-dir"])
        .arg(&out);
    // What is set for the build that this is part of, an instrumented one or clippy's, is not meant for this program.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let foreign = ["CARGO_PROFILE_", "CARGO_BUILD_", "CARGO_ENCODED_", "CARGO_TARGET_DIR", "RUSTFLAGS", "CLIPPY_"];
        if foreign.iter().any(|start| text.starts_with(start))
            || text.ends_with("_WRAPPER")
            || text.ends_with("_RUSTFLAGS")
        {
            cargo.env_remove(&name);
        }
    }
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static");
    match cargo.status() {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!(
            "building sandbox/init for {target} failed: {status}; hint: it is linked statically, \
            so the C library's static form must be there (Debian: libc6-dev, Fedora: glibc-static)"
        )),
        Err(error) => fail(&format!("cargo could not be started: {error}")),
    }
    out.join(&target).join(PROFILE).join("openclawmu-init")
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| fail(&format!("{name} is not set: this is run by cargo alone")))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a build script has no other way to say that it failed, and holds nothing"
)]
fn fail(reason: &str) -> ! {
    println!("cargo::error={}", reason.replace('\n', " "));
    exit(1)
}
