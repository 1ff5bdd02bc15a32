//! What the way out of a sandbox costs a connection: from the connect to the first byte that comes back, by a program in a run, through
//! the proxy, beside the same program outside, straight to the same server. In turn, in the same run.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result, ensure};

/// The server's name; its address is pinned in the configuration.
pub(crate) const HOST: &str = "bench.test";
/// Connections of one measurement.
const CONNECTIONS: usize = 50;

/// Says hello as TLS does, which is what the proxy checks, and waits for a byte; prints the median in microseconds.
const PROGRAM: &str = r#"
import socket, ssl, sys, time
host, port, way, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
tls = ssl.create_default_context().wrap_bio(coming, going, server_hostname=host)
try:
    tls.do_handshake()
except ssl.SSLWantReadError:
    pass
hello, took = going.read(), []
for _ in range(count):
    began = time.perf_counter()
    stream = socket.create_connection(("127.0.0.1", 3128 if way == "proxy" else port))
    if way == "proxy":
        stream.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            piece = stream.recv(1024)
            assert piece, head
            head += piece
        assert b" 200 " in head.split(b"\r\n")[0], head
    stream.sendall(hello)
    assert stream.recv(1) == b"x"
    stream.close()
    took.append(time.perf_counter() - began)
took.sort()
print(int(took[len(took) // 2] * 1e6))
"#;

/// A server that answers whatever it is told with one byte, until this process ends.
pub(crate) fn serve() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("a port for the way out")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut hello = [0; 4096];
            // Whoever goes away is counted by the program.
            if stream.read(&mut hello).is_ok_and(|length| length > 0) && stream.write_all(b"x").is_ok() {
                let _until_it_closes = stream.read(&mut hello);
            }
        }
    });
    Ok(address)
}

/// The configuration that lets runs reach it.
pub(crate) fn granted(server: SocketAddr) -> String {
    let rule = format!("\"{HOST}:{}\"", server.port());
    format!(
        "[sandbox.network]\nallow = [{rule}]\ninternal = [{rule}]\n[sandbox.network.hosts]\n\"{HOST}\" = [\"{}\"]\n",
        server.ip()
    )
}

/// The program and its arguments, by way of the proxy or straight.
pub(crate) fn command(server: SocketAddr, way: &str) -> Vec<String> {
    let (port, count) = (server.port().to_string(), CONNECTIONS.to_string());
    ["python3", "-c", PROGRAM, HOST, &port, way, &count].map(str::to_owned).to_vec()
}

/// The median of connections that go straight to it, in microseconds.
pub(crate) fn straight(server: SocketAddr) -> Result<u64> {
    let command = command(server, "straight");
    let [program, arguments @ ..] = command.as_slice() else { anyhow::bail!("no program") };
    let output = Command::new(program).args(arguments).output().context("python3")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().parse().context("the program prints a number")
}
