//! What a run may reach: hosts that the operator granted and the run asked for, each decision on record. The proxy's own rules are
//! tried by the sandbox crate; here a tenant's programs go through it.

use std::path::Path;
use std::process::Command;

use openclawmu_tests::canned::{Answer, Canned};
use openclawmu_tests::tls::TlsFront;
use openclawmu_tests::wait::until;
use openclawmu_tests::{Client, Scene, Setup, Upstream, audit};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The name of the stand-in for what people have in their networks.
const HOST: &str = "registry.test";

/// A registry of everything, behind TLS, and a gateway whose tenants may reach it.
struct Stand {
    scene: Scene,
    origin: Canned,
    front: TlsFront,
}

/// The path of a request's first line, without its query.
fn path_of(start: &str) -> &str {
    start.split(' ').nth(1).and_then(|target| target.split('?').next()).unwrap_or_default()
}

impl Stand {
    async fn new(answering: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        Self::with("", answering).await
    }

    async fn with(lines: &str, answering: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let origin = Canned::start(move |message| answering(path_of(&message.start))).await;
        let front = TlsFront::named(origin.address(), HOST).await;
        let rule = format!("\"{HOST}:{}\"", front.port());
        let network = format!(
            "{lines}\n[sandbox.network]\nallow = [{rule}]\ninternal = [{rule}, \"own.test:{port}\"]\n[sandbox.network.tenants]\nacme = \
             [\"own.test:{port}\"]\n[sandbox.network.hosts]\n\"{HOST}\" = [\"127.0.0.1\"]\n\"other.test\" = [\"127.0.0.1\"]\n",
            port = front.port()
        );
        let upstream = Upstream::start().await;
        let setup = Setup::with(&upstream).line(&network);
        Self { scene: Scene::of(upstream, setup, json!({})).await, origin, front }
    }

    fn rule(&self) -> String {
        format!("{HOST}:{}", self.front.port())
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.rule())
    }

    /// A run that may reach the stand-in and has its certificate.
    async fn run(&self, script: &str, files: Value) -> Value {
        self.run_reaching(&self.rule(), script, files).await
    }

    /// A run that may reach `rule` alone and has the stand-in's certificate.
    async fn run_reaching(&self, rule: &str, script: &str, files: Value) -> Value {
        let mut files = files;
        files["ca.pem"] = json!(std::fs::read_to_string(self.front.ca_file()).expect("the certificate"));
        let body = json!({
            "command": ["sh", "-c", script], "files": files, "network": { "allow": [rule] }, "timeout_seconds": 120,
            "env": { "REGISTRY": self.url(""), "SSL_CERT_FILE": "/workspace/ca.pem" },
        });
        self.scene.client.post("/v1/sandbox/exec", &body).await.ok()
    }

    /// Lines of the audit log about runs' connections, at least `count`.
    async fn lines(&self, count: usize) -> Vec<Value> {
        let folder = self.scene.gateway.data().join("audit");
        until("the audit lines", || async {
            let lines = audit::done(&folder);
            let lines: Vec<Value> = lines.into_iter().filter(|line| line["action"] == "sandbox.connect").collect();
            (lines.len() >= count).then_some(lines)
        })
        .await
    }
}

const GET: &str = "
import ssl, sys, urllib.request
context = ssl.create_default_context(cafile='ca.pem')
for url in sys.argv[1:]:
    try:
        print(urllib.request.urlopen(url, context=context, timeout=20).read().decode())
    except Exception as error:
        print('refused:', error)
";

/// one host at one port is reached, and nothing else; each decision is a line.
#[tokio::test(flavor = "multi_thread")]
async fn an_allowed_host_is_reached_and_any_other_is_not_and_both_are_on_record() {
    let stand = Stand::new(|_| Answer::whole(200, &[], b"hello from the registry")).await;
    let port = stand.front.port();
    let other = format!("https://other.test:{port}/");
    let wrong_port = format!("https://{HOST}:1/");
    let script = format!("python3 get.py {} {other} {wrong_port}", stand.url("/"));
    let told = stand.run(&script, json!({ "get.py": GET })).await;
    let lines: Vec<&str> = told["stdout"].as_str().expect("text").lines().collect();
    assert_eq!(lines[0], "hello from the registry", "{told}");
    assert!(lines[1..].len() == 2 && lines[1..].iter().all(|line| line.contains("403")), "{told}");
    assert_eq!(stand.origin.asked().len(), 1);

    let lines = stand.lines(3).await;
    let seen = |host: &str, port: u16| {
        let line = lines.iter().find(|line| line["detail"]["host"] == host && line["detail"]["port"] == port);
        line.unwrap_or_else(|| panic!("no line of {host}:{port}: {lines:#?}")).clone()
    };
    let allowed = seen(HOST, port);
    assert_eq!((&allowed["outcome"], &allowed["detail"]["address"]), (&json!("ok"), &json!("127.0.0.1")), "{allowed}");
    assert_eq!((&allowed["tenant"], &allowed["actor"]["kind"]), (&json!("acme"), &json!("tenant")), "{allowed}");
    assert_eq!(allowed["target"], told["id"], "the run's name");
    for refused in [seen("other.test", port), seen(HOST, 1)] {
        assert_eq!(
            (&refused["outcome"], &refused["detail"]["reason"]),
            (&json!("denied"), &json!("not_listed")),
            "{refused}"
        );
    }
    let all = audit::done(&stand.scene.gateway.data().join("audit"));
    let granted = all.iter().find(|line| line["action"] == "sandbox.network").expect("what it might reach");
    assert_eq!(granted["detail"]["allow"], json!([stand.rule()]), "{granted}");
}

/// who asks for no host reaches none, and nobody asks for what another was granted.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_reaches_nothing_that_it_did_not_ask_for_and_asks_for_nothing_that_was_not_granted() {
    let stand = Stand::new(|_| Answer::whole(200, &[], b"hello")).await;
    let exec = async |client: &Client, allow: Value| {
        let body = json!({
            "command": ["python3", "get.py", stand.url("/")], "network": { "allow": allow },
            "files": { "get.py": GET, "ca.pem": std::fs::read_to_string(stand.front.ca_file()).expect("the certificate") },
        });
        client.post("/v1/sandbox/exec", &body).await
    };
    let acme = &stand.scene.client;
    let told = exec(acme, json!([])).await.ok();
    assert!(told["stdout"].as_str().is_some_and(|text| text.starts_with("refused:")), "{told}");
    assert_eq!(exec(acme, json!([stand.rule()])).await.ok()["stdout"], "hello\n");
    let own = format!("own.test:{}", stand.front.port());
    let told = exec(acme, json!([own])).await.ok();
    assert!(told["stdout"].as_str().is_some_and(|text| text.contains("403")), "it asked for another one: {told}");
    let rival = stand.scene.admin().tenant("rival", json!({})).await;
    let rival = acme.with_token(&rival.token);
    exec(&rival, json!([own])).await.refused(403, "permission_error", "network_not_allowed");
    exec(&rival, json!(["*.own.test:443"])).await.refused(403, "permission_error", "network_not_allowed");
    exec(&rival, json!(["127.0.0.1:443"])).await.refused(400, "invalid_request_error", "invalid_value");
    assert_eq!(exec(&rival, json!([stand.rule()])).await.ok()["stdout"], "hello\n");
    assert_eq!(stand.origin.asked().len(), 2);
    let left = std::fs::read_dir(stand.scene.gateway.data().join("sandbox")).expect("a directory").flatten();
    let sockets = left.filter(|entry| entry.file_name().to_string_lossy().starts_with("egress-"));
    assert_eq!(
        sockets.flat_map(|dir| std::fs::read_dir(dir.path()).expect("a directory")).count(),
        0,
        "no socket is left"
    );
}

/// Runs something here, to make what the stand-in serves.
fn made(dir: &Path, script: &str) {
    let output = Command::new("sh").args(["-ec", script]).current_dir(dir).output().expect("sh runs");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A server of a directory's files.
fn files_of(dir: &Path) -> impl Fn(&str) -> Answer + Send + Sync + 'static {
    let dir = dir.to_owned();
    move |path| {
        let path = path.trim_matches('/');
        let found = [dir.join(path), dir.join(path).join("index.html")].into_iter().find(|path| path.is_file());
        match found.map(|path| (path.extension().is_some_and(|end| end == "html"), std::fs::read(path))) {
            Some((true, Ok(page))) => Answer::whole(200, &[("content-type", "text/html")], &page),
            Some((false, Ok(file))) => Answer::whole(200, &[("content-type", "application/octet-stream")], &file),
            Some((_, Err(_))) | None => Answer::whole(404, &[], b""),
        }
    }
}

/// X-33, its positive twin: what developers use works, unchanged, against a host that is allowed.
#[tokio::test(flavor = "multi_thread")]
async fn pip_and_requests_work_through_the_proxy() {
    let site = tempfile::tempdir().expect("a directory");
    let wheel = "import zipfile\nz = zipfile.ZipFile('files/demo-1.0-py3-none-any.whl', 'w')\nz.writestr('demo.py', 'ANSWER = 42\\n')\n\
        i = 'demo-1.0.dist-info/'\nz.writestr(i + 'METADATA', 'Metadata-Version: 2.1\\nName: demo\\nVersion: 1.0\\n')\n\
        z.writestr(i + 'WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\nz.writestr(i + 'RECORD', '')\nz.close()\n";
    std::fs::write(site.path().join("wheel.py"), wheel).expect("a file");
    let page = "<a href='/files/demo-1.0-py3-none-any.whl'>demo-1.0-py3-none-any.whl</a>";
    made(
        site.path(),
        &format!(
            "mkdir -p files simple/demo; python3 wheel.py; echo \"{page}\" > simple/demo/index.html; echo hi > hi"
        ),
    );
    let stand = Stand::new(files_of(site.path())).await;
    let script = "python3 -m venv env && env/bin/pip install -q --disable-pip-version-check --cert ca.pem --index-url $REGISTRY/simple/ demo \
        && env/bin/python -c 'import demo; print(demo.ANSWER)' \
        && env/bin/python -c 'import os; from pip._vendor import requests; print(requests.get(os.environ[\"REGISTRY\"] + \"/hi\", verify=\"ca.pem\").text)'";
    let told = stand.run(script, json!({})).await;
    assert_eq!((&told["exit_code"], &told["stdout"]), (&json!(0), &json!("42\nhi\n\n")), "{told}");
}

/// X-33, its positive twin.
#[tokio::test(flavor = "multi_thread")]
async fn npm_works_through_the_proxy() {
    let site = tempfile::tempdir().expect("a directory");
    let script = "mkdir -p package; echo '{\"name\":\"demo\",\"version\":\"1.0.0\",\"main\":\"index.js\"}' > package/package.json; \
        echo 'module.exports = 42' > package/index.js; tar czf demo-1.0.0.tgz package";
    made(site.path(), script);
    let (tarball, port) =
        (std::fs::read(site.path().join("demo-1.0.0.tgz")).expect("a file"), std::sync::OnceLock::new());
    let port = std::sync::Arc::new(port);
    let known: std::sync::Arc<std::sync::OnceLock<u16>> = std::sync::Arc::clone(&port);
    let stand = Stand::new(move |path| match path {
        "/demo" => {
            let at = format!("https://{HOST}:{}/demo-1.0.0.tgz", known.get().copied().unwrap_or(0));
            let version = json!({ "name": "demo", "version": "1.0.0", "main": "index.js", "dist": { "tarball": at } });
            let all = json!({ "name": "demo", "dist-tags": { "latest": "1.0.0" }, "versions": { "1.0.0": version } });
            Answer::whole(200, &[("content-type", "application/json")], all.to_string().as_bytes())
        }
        "/demo-1.0.0.tgz" => Answer::whole(200, &[("content-type", "application/octet-stream")], &tarball),
        _ => Answer::whole(404, &[], b""),
    })
    .await;
    port.set(stand.front.port()).expect("once");
    let script = "npm install --silent --no-audit --no-fund --no-update-notifier --cafile ca.pem --registry $REGISTRY/ demo && node -p 'require(\"demo\")'";
    let told = stand.run(script, json!({ "package.json": "{\"name\":\"mine\",\"version\":\"1.0.0\"}" })).await;
    let printed = told["stdout"].as_str().expect("text");
    assert!(told["exit_code"] == 0 && printed.ends_with("42\n"), "{told}");
}

/// X-33, its positive twin.
#[tokio::test(flavor = "multi_thread")]
async fn git_works_through_the_proxy() {
    let site = tempfile::tempdir().expect("a directory");
    let script = "git init -q work; cd work; echo content > file; git add file; \
        git -c user.name=n -c user.email=e@example.com commit -q -m first; cd ..; git clone -q --bare work repo.git; \
        git -C repo.git update-server-info";
    made(site.path(), script);
    let stand = Stand::new(files_of(site.path())).await;
    let told = stand
        .run("git -c http.sslCAInfo=/workspace/ca.pem clone -q $REGISTRY/repo.git && cat repo/file", json!({}))
        .await;
    assert_eq!((&told["exit_code"], &told["stdout"]), (&json!(0), &json!("content\n")), "{told}");
}

/// The program that builds this test, and what it needs to start, where a tenant brings it: in its own files. Whatever is below `/usr`
/// is seen in the sandbox anyway. Answers where it is inside.
fn bring_cargo(workspace: &Path) -> String {
    let told = Command::new("rustc").args(["--print", "sysroot"]).output().expect("rustc runs");
    let sysroot = String::from_utf8(told.stdout).expect("a path");
    let sysroot = Path::new(sysroot.trim());
    if sysroot.starts_with("/usr") {
        return sysroot.join("bin").display().to_string();
    }
    let copy = |from: &Path, to: &Path| {
        std::fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    };
    let (bin, lib) = (workspace.join("toolchain/bin"), workspace.join("toolchain/lib"));
    for dir in [&bin, &lib] {
        std::fs::create_dir_all(dir).expect("a directory");
    }
    for name in ["cargo", "rustc"] {
        copy(&sysroot.join("bin").join(name), &bin.join(name));
    }
    for entry in std::fs::read_dir(sysroot.join("lib")).expect("its libraries").flatten() {
        if entry.path().is_file() {
            copy(&entry.path(), &lib.join(entry.file_name()));
        }
    }
    "/workspace/toolchain/bin".to_owned()
}

/// X-33, both twins: a sparse registry is fetched from where it is allowed, and from nowhere where another host is.
#[tokio::test(flavor = "multi_thread")]
async fn cargo_fetches_from_an_allowed_registry_and_from_no_other() {
    let site = tempfile::tempdir().expect("a directory");
    let script = "mkdir -p demo-1.0.0/src index/de/mo crates/demo/1.0.0; \
        printf '[package]\\nname = \"demo\"\\nversion = \"1.0.0\"\\n' > demo-1.0.0/Cargo.toml; \
        echo 'pub const ANSWER: u8 = 42;' > demo-1.0.0/src/lib.rs; tar czf crates/demo/1.0.0/download demo-1.0.0";
    made(site.path(), script);
    let package = std::fs::read(site.path().join("crates/demo/1.0.0/download")).expect("the package");
    let cksum: String = Sha256::digest(&package).iter().map(|byte| format!("{byte:02x}")).collect();
    let line = json!({
        "name": "demo", "vers": "1.0.0", "deps": [], "cksum": cksum, "features": {}, "yanked": false,
    });
    std::fs::write(site.path().join("index/de/mo/demo"), format!("{line}\n")).expect("a file");
    let stand = Stand::new(files_of(site.path())).await;
    let config = json!({ "dl": stand.url("/crates") }).to_string();
    std::fs::write(site.path().join("index/config.json"), config).expect("a file");
    let bin = bring_cargo(&stand.scene.gateway.data().join("tenants/acme/workspace"));
    let index = stand.url("/index/");
    let files = json!({
        "Cargo.toml": "[package]\nname = \"mine\"\nversion = \"1.0.0\"\nedition = \"2021\"\n[dependencies]\ndemo = { version = \"1\", registry = \"stand\" }\n",
        "src/lib.rs": "",
        ".cargo/config.toml": format!("[registries.stand]\nindex = \"sparse+{index}\"\n[http]\ncainfo = \"/workspace/ca.pem\"\n[net]\nretry = 0\n"),
    });
    let fetch = format!("PATH={bin}:$PATH cargo fetch && cat .cargo/registry/src/*/demo-1.0.0/src/lib.rs");
    let own = format!("own.test:{}", stand.front.port());
    let told = stand.run_reaching(&own, &fetch, files.clone()).await;
    let said = told["stderr"].as_str().expect("text");
    assert!(told["exit_code"] == 101 && said.contains("403"), "{told}");
    assert_eq!(stand.origin.asked().len(), 0, "nothing came through");
    let told = stand.run(&fetch, files).await;
    assert_eq!((&told["exit_code"], &told["stdout"]), (&json!(0), &json!("pub const ANSWER: u8 = 42;\n")), "{told}");
}
