//! What people do at a terminal.

use std::os::unix::fs::MetadataExt;

use openclawmu_terminal::frame::ClientFrame;

use crate::place::{on_a_place, processes_with, until};

#[test]
fn ctrl_c_interrupts_the_command_and_not_the_shell() {
    on_a_place(
        |_| {},
        |place| async move {
            let (_session, mut client) = place.shell().await;
            client.types("sh -c 'echo u\"\"p; exec sleep 1000'\r").await;
            client.until("up\r\n").await;
            client.types("\x03").await;
            client.until("prompt> ").await;
            client.types("echo co\"\"de $?\r").await;
            client.until("code 130").await;
        },
    );
}

#[test]
fn ctrl_z_stops_the_command_and_fg_takes_it_back() {
    on_a_place(
        |_| {},
        |place| async move {
            let (_session, mut client) = place.shell().await;
            client.types("sh -c 'echo u\"\"p; exec cat'\r").await;
            client.until("up\r\n").await;
            client.types("\x1a").await;
            client.until("Stopped").await;
            client.until("prompt> ").await;
            client.types("fg\r").await;
            client.until("exec cat'\r\n").await;
            client.types("twice\r").await;
            client.until("twice\r\ntwice\r\n").await;
            client.types("\x04").await;
            client.until("prompt> ").await;
            client.types("echo co\"\"de $?\r").await;
            client.until("code 0").await;
        },
    );
}

#[test]
fn another_size_is_seen_inside_and_told_of() {
    on_a_place(
        |_| {},
        |place| async move {
            let script = "trap 'stty size; exit 4' WINCH; stty size; echo up; while :; do sleep 0.05; done";
            let (session, mut client) = place.script(script).await;
            client.until("24 80\r\nup").await;
            client.resizes(100, 30).await;
            client.end().await;
            assert!(client.text().ends_with("30 100\r\n"), "{}", client.text());
            assert_eq!(client.exit, Some(4));
            session.gone().await;
            let (recording, _) = place.recording(session.recording());
            assert!(recording.contains(r#","r","100x30"]"#), "{recording}");
        },
    );
}

#[test]
fn a_thousand_sizes_in_a_row_come_to_the_last_one() {
    on_a_place(
        |_| {},
        |place| async move {
            let script = "until [ \"$(stty size)\" = '77 333' ]; do sleep 0.01; done; echo final";
            let (session, mut client) = place.script(script).await;
            for number in 0..1000_u16 {
                client.resizes(1 + number % 400, 9999).await;
            }
            client.resizes(333, 77).await;
            client.until("final").await;
            client.end().await;
            session.gone().await;
            let (recording, _) = place.recording(session.recording());
            let sizes = recording.matches(r#","r",""#).count();
            assert!((1..200).contains(&sizes), "{sizes} sizes were set and recorded of a thousand");
        },
    );
}

/// T-06.
#[test]
fn a_shell_is_the_tenants_own_user_in_the_tenants_own_files() {
    on_a_place(
        |_| {},
        |place| async move {
            std::fs::write(place.path("files/mine"), "x").unwrap();
            let (_session, mut client) = place.shell().await;
            client.types("tty; id -u; ls; echo $TERM; sleep 98765.4321 & echo o\"\"n\r").await;
            client.until("1000\r\nmine\r\nxterm-256color\r\n").await;
            client.until("on\r\n").await;
            until("the program in the background", || !processes_with("98765.4321").is_empty()).await;
            for pid in processes_with("98765.4321") {
                assert_eq!(std::fs::metadata(format!("/proc/{pid}")).unwrap().uid(), place.owner.get());
            }
        },
    );
}

/// T-05: it can't type into the terminal of whoever watches.
#[test]
fn a_program_does_not_type_into_its_own_terminal() {
    on_a_place(
        |_| {},
        |place| async move {
            let ask = |call: &str| {
                format!(
                    "perl -e '$x = \"xxxxxxxx\"; print ioctl(STDIN, {call}, $x) ? \"done\" : \"refused \" . ($!+0), \"\\n\"'"
                )
            };
            let script = format!("{}; {}; {}", ask("0x5413"), ask("0x5412"), ask("0x541c"));
            let (_session, mut client) = place.script(&script).await;
            client.end().await;
            // To ask for the size is fine; TIOCSTI and TIOCLINUX are EPERM.
            assert!(client.text().ends_with("done\r\nrefused 1\r\nrefused 1\r\n"), "{}", client.text());
        },
    );
}

#[test]
fn a_ping_comes_back() {
    on_a_place(
        |_| {},
        |place| async move {
            use openclawmu_terminal::Message;
            use openclawmu_terminal::frame::ServerFrame;
            let (_session, client) = place.shell().await;
            client.feed(ClientFrame::Ping(77)).await;
            let pong = Message::Binary(ServerFrame::Pong(77).encode());
            while client.attachment.next().await.expect("it goes on") != pong {}
        },
    );
}
