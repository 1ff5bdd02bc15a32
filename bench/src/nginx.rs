//! nginx as a further column of a run: what a proxy in C takes for the same requests. One worker, connections to the upstream
//! kept, nothing buffered; a configuration and files of its own. Held to no bar.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::child::Process;

/// Where distributions have it.
const PLACES: [&str; 4] = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx", "/opt/homebrew/bin/nginx"];

/// Starts nginx between `listen` and `upstream`, its files in `directory`.
pub(crate) fn start(listen: SocketAddr, upstream: SocketAddr, directory: &Path) -> Result<Process> {
    let binary = PLACES.iter().map(PathBuf::from).find(|place| place.is_file());
    let binary = binary.context("no nginx here: `.ci/install bench` installs it, --without-nginx does without")?;
    let place = directory.join("nginx");
    fs::create_dir(&place)?;
    let config = place.join("nginx.conf");
    fs::write(&config, config_of(listen, upstream, &place)?)?;
    let mut command = Command::new(&binary);
    command.arg("-e").arg("stderr").arg("-p").arg(&place).arg("-c").arg(&config);
    let mut process = Process::start("nginx", &command, directory)?;
    process.wait_listening(listen)?;
    Ok(process)
}

fn config_of(listen: SocketAddr, upstream: SocketAddr, place: &Path) -> Result<String> {
    let place = place.to_str().context("the data directory is not UTF-8")?;
    ensure!(!place.contains(['"', '\\', '$', '\n']), "nginx can't be told of a directory {place}");
    // As root its workers would be somebody who can't enter the directory.
    let user = if rustix::process::geteuid().is_root() { "user root root;\n" } else { "" };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("    {kind}_temp_path \"{place}/{kind}\";\n"))
        .concat();
    Ok(format!(
        r#"{user}daemon off;
worker_processes 1;
pid "{place}/nginx.pid";
error_log stderr warn;
events {{
    worker_connections 4096;
}}
http {{
    access_log off;
{temporary}    client_max_body_size 64m;
    client_body_buffer_size 256k;
    keepalive_requests 100000000;
    upstream scripted {{
        server {upstream};
        keepalive 512;
        keepalive_requests 100000000;
    }}
    server {{
        listen {listen};
        location / {{
            proxy_pass http://scripted;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"#
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_configuration_has_one_worker_that_keeps_connections_and_leaves_nothing_elsewhere() {
        let (listen, upstream) = ("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        let text = config_of(listen, upstream, Path::new("/d/nginx")).unwrap();
        for part in ["worker_processes 1;", "listen 127.0.0.1:1;", "server 127.0.0.1:2;", "keepalive 512;"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let paths = text.lines().filter(|line| line.contains("_temp_path") || line.contains("pid "));
        assert!(paths.clone().count() == 6 && paths.clone().all(|line| line.contains("\"/d/nginx/")), "{text}");
        assert!(config_of(listen, upstream, Path::new("/d/\"; evil")).is_err());
    }
}
