//! Official client libraries, unmodified, in their own language's environment under `target/`. Installed once per set of pinned versions.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Mutex;

/// The longest that a script may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// One install at a time, however many tests want it.
static INSTALLING: Mutex<()> = Mutex::const_new(());

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk")
}

fn environments() -> PathBuf {
    let this = std::env::current_exe().expect("the test's own path");
    let target = this.ancestors().nth(3).expect("tests run from target/<profile>/deps");
    target.join("sdk")
}

fn run(what: &str, package: &str, command: &mut Command) {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{what}: {error}; install the system package `{package}`"));
    assert!(
        output.status.success(),
        "{what}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// True when the stamp in `home` already holds `pins`.
fn fresh(home: &Path, pins: &str) -> bool {
    std::fs::read_to_string(home.join("stamp")).is_ok_and(|stamp| stamp == pins)
}

/// A virtual environment with the `requirements.txt` of this directory of `tests/sdk`; the path of its interpreter.
async fn python(directory: &str) -> PathBuf {
    let _one = INSTALLING.lock().await;
    let requirements = scripts().join(directory).join("requirements.txt");
    let pins = std::fs::read_to_string(&requirements).expect("the pinned versions");
    let home = environments().join(directory);
    let interpreter = home.join("bin/python");
    if !fresh(&home, &pins) {
        run("python3 -m venv", "python3-venv", Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home));
        let mut install = Command::new(&interpreter);
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&requirements);
        run("pip install", "python3-pip", &mut install);
        std::fs::write(home.join("stamp"), pins).expect("a writable target directory");
    }
    interpreter
}

/// A directory with the locked modules of this directory of `tests/sdk` and its scripts.
async fn node(directory: &str) -> PathBuf {
    let _one = INSTALLING.lock().await;
    let from = scripts().join(directory);
    let lock = std::fs::read_to_string(from.join("package-lock.json")).expect("the lock file");
    let home = environments().join(directory);
    std::fs::create_dir_all(&home).expect("a writable target directory");
    if !fresh(&home, &lock) {
        for file in ["package.json", "package-lock.json"] {
            std::fs::copy(from.join(file), home.join(file)).expect("a writable target directory");
        }
        let mut install = Command::new("npm");
        install.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&home);
        run("npm ci", "npm", &mut install);
        std::fs::write(home.join("stamp"), lock).expect("a writable target directory");
    }
    for entry in std::fs::read_dir(&from).expect("the scripts") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "mjs") {
            std::fs::copy(&path, home.join(path.file_name().expect("a name"))).expect("a writable target directory");
        }
    }
    home
}

async fn result_of((what, limit): (&str, Duration), package: &str, command: Command) -> Value {
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(limit, command.output())
        .await
        .unwrap_or_else(|_| panic!("{what} did not end"))
        .unwrap_or_else(|error| panic!("{what}: {error}; install the system package `{package}`"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}: {}\n{out}\n{err}", output.status);
    serde_json::from_str(out.trim())
        .unwrap_or_else(|error| panic!("{what} prints one JSON value ({error}): {out}\n{err}"))
}

/// Runs `tests/sdk/python/<script>` with arguments; its JSON result.
pub async fn run_python(script: &str, arguments: &[&str]) -> Value {
    run_in(("python", PATIENCE), script, arguments).await
}

/// Runs `tests/sdk/litellm/<script>` with arguments; its JSON result. LiteLLM pins versions of the other clients, so it has an
/// environment of its own.
pub async fn run_litellm(script: &str, arguments: &[&str]) -> Value {
    run_in(("litellm", PATIENCE), script, arguments).await
}

/// Runs `tests/sdk/schemathesis/<script>` with arguments; its JSON result.
pub async fn run_schemathesis(script: &str, arguments: &[&str]) -> Value {
    run_in(("schemathesis", PATIENCE * 3), script, arguments).await
}

/// Runs a program of `conf/examples` with arguments and variables, where the official clients are; what it prints.
pub async fn run_example(path: &str, arguments: &[&str], env: &[(&str, &str)]) -> String {
    let mut command = tokio::process::Command::new(python("python").await);
    command.arg(scripts().join("../../conf/examples").join(path)).args(arguments).envs(env.iter().copied());
    command.env("NO_PROXY", "*").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("the example ends");
    let output = output.expect("python3 runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{path}: {said}\n{}", String::from_utf8_lossy(&output.stderr));
    said
}

async fn run_in((directory, limit): (&str, Duration), script: &str, arguments: &[&str]) -> Value {
    let mut command = Command::new(python(directory).await);
    command.arg(scripts().join(directory).join(script)).args(arguments);
    for key in [
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
    ] {
        command.env_remove(key);
    }
    result_of((script, limit), "python3", command).await
}

/// Runs `tests/sdk/node/<script>` with arguments; its JSON result.
pub async fn run_node(script: &str, arguments: &[&str]) -> Value {
    run_node_in("node", script, arguments).await
}

/// Runs `tests/sdk/browser/<script>`, which drives a browser, with arguments; its JSON result.
pub async fn run_browser(script: &str, arguments: &[&str]) -> Value {
    run_node_in("browser", script, arguments).await
}

/// The browser; panics when there is none.
#[must_use]
pub fn chromium() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found =
        std::env::split_paths(&path).flat_map(|dir| names.map(|name| dir.join(name))).find(|file| file.is_file());
    found.expect("no Chromium is installed: .ci/install does it; the system package is `chromium`")
}

async fn run_node_in(directory: &str, script: &str, arguments: &[&str]) -> Value {
    let home = node(directory).await;
    let mut command = Command::new("node");
    command.arg(home.join(script)).args(arguments).env_remove("OPENAI_API_KEY").env_remove("OPENAI_BASE_URL");
    result_of((script, PATIENCE), "nodejs", command).await
}
