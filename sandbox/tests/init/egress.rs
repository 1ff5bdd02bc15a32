//! The way to the allow-list: there before the command is, every byte both ways, and no other way out.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread;

use tempfile::TempDir;

use crate::run::{Ran, Run};

/// Reads all of a connection, then answers with it.
fn echo(mut connection: UnixStream) {
    thread::spawn(move || {
        let mut all = Vec::new();
        connection.read_to_end(&mut all).unwrap();
        connection.write_all(&all).unwrap();
        connection.shutdown(Shutdown::Write).unwrap();
    });
}

fn echo_server() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("egress.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    thread::spawn(move || listener.incoming().for_each(|connection| echo(connection.unwrap())));
    (dir, socket)
}

fn python(program: &str, socket: Option<&PathBuf>) -> Ran {
    let command = vec!["python3".into(), "-c".into(), program.into()];
    let mut run = Run { bwrap: vec!["--unshare-net".into()], command, ..Run::default() };
    if let Some(socket) = socket {
        run.options = vec!["--egress".into(), socket.to_str().unwrap().into()];
    }
    run.run()
}

#[test]
fn bytes_pass_both_ways_and_so_does_the_end() {
    let (_dir, socket) = echo_server();
    let program = "
import os, socket
sent = os.urandom(3_000_001)
link = socket.create_connection(('127.0.0.1', 3128))
link.sendall(sent)
link.shutdown(socket.SHUT_WR)
got = b''.join(iter(lambda: link.recv(65536), b''))
print(got == sent)
";
    let ran = python(program, Some(&socket));
    assert_eq!(ran.output, "True\n", "{ran:?}");
    // The twin: without the option nothing listens there.
    let ran = python(program, None);
    assert!(ran.output.contains("ConnectionRefusedError"), "{ran:?}");
}

/// More than are forwarded at once: the rest wait, and none is lost.
#[test]
fn two_hundred_connections_at_once_are_all_served() {
    let (_dir, socket) = echo_server();
    let program = "
import socket
links = [socket.create_connection(('127.0.0.1', 3128)) for _ in range(200)]
for number, link in enumerate(links):
    link.sendall(b'%d' % number)
    link.shutdown(socket.SHUT_WR)
print(all(link.makefile('rb').read() == b'%d' % number for number, link in enumerate(links)))
";
    assert_eq!(python(program, Some(&socket)).output, "True\n");
}

#[test]
fn where_the_allow_list_is_gone_connections_are_closed_and_the_command_runs() {
    let program = "
import socket
link = socket.create_connection(('127.0.0.1', 3128))
print(link.recv(1))
";
    let ran = python(program, Some(&PathBuf::from("/nowhere/egress.sock")));
    assert_eq!((ran.output.as_str(), ran.code), ("b''\n", 0), "{ran:?}");
}
