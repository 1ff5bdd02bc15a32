//! What was seen, and what comes after it.

use openclawmu_terminal::Start;

use crate::client::Client;
use crate::place::{driver, on_a_place, until};

/// Every byte, from wherever a client was cut off: each of the first offsets, and some everywhere.
#[test]
fn whoever_comes_back_continues_at_the_very_byte() {
    on_a_place(
        |_| {},
        |place| async move {
            let (session, mut client) = place.script("seq 1 20000; echo; echo en''d; read end; exit 3").await;
            client.until("\nend\r\n").await;
            let all = client.seen.clone();
            assert_eq!(client.hellos[0].start, Start::Beginning);
            drop(client);
            let mut random = 1_u64;
            let anywhere = std::iter::repeat_with(move || {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                random >> 33
            });
            let length = all.len() as u64;
            for seq in (0..64).chain(anywhere.take(200)).map(|seq| seq % (length + 1)).chain([length]) {
                let mut client = Client::new(&session, driver("ann"), Some(seq));
                while client.next < length || client.hellos.is_empty() {
                    client.step().await;
                }
                assert_eq!((client.hellos[0].start, client.hellos[0].seq), (Start::Exact, seq));
                assert!(client.seen == all[usize::try_from(seq).unwrap()..], "not what follows byte {seq}");
            }
            let mut client = Client::new(&session, driver("ann"), Some(length));
            client.types("\r").await;
            client.end().await;
            assert_eq!((client.seen.as_slice(), client.exit), (&b"\r\n"[..], Some(3)));
        },
    );
}

/// Cut off in the middle of it, while it goes on, as often as it takes.
#[test]
fn a_client_that_is_cut_off_again_and_again_sees_every_byte_once() {
    on_a_place(
        |_| {},
        |place| async move {
            let (session, mut client) = place.script("seq 1 60000; exit 5").await;
            let mut all = Vec::new();
            for messages in (1_usize..).map(|number| 1 + number * 7 % 11) {
                for _ in 0..messages {
                    if !client.step().await {
                        break;
                    }
                }
                all.append(&mut client.seen);
                if client.exit.is_some() {
                    break;
                }
                let next = client.next;
                drop(client);
                // Where it ended while nobody looked, the rest is in the recording.
                let Ok(attachment) = session.attach(driver("ann"), Some(next)) else { break };
                client = Client::of(attachment);
                client.next = next;
            }
            session.gone().await;
            let shown = String::from_utf8(all).unwrap();
            let wanted: String = (1..=60_000).map(|number| format!("{number}\r\n")).collect();
            let wanted = format!("\r\n{wanted}");
            assert!(wanted.starts_with(&shown), "something is missing or comes twice");
            let (recording, _) = place.recording(session.recording());
            assert_eq!(crate::recording::shown(&recording), wanted);
        },
    );
}

#[test]
fn what_is_no_longer_there_begins_anew_after_the_end_of_a_line() {
    on_a_place(
        |settings| settings.ring_bytes = 16 << 10,
        |place| async move {
            let (session, mut client) = place.script("seq 1 20000; echo en''d; read end").await;
            client.until("end\r\n").await;
            let all = client.seen.clone();
            drop(client);
            for resume in [Some(0), Some(u64::MAX), None] {
                let mut client = Client::new(&session, driver("ann"), resume);
                client.until("end\r\n").await;
                let hello = &client.hellos[0];
                assert_eq!(hello.start, Start::Repaint, "{resume:?}");
                let seq = usize::try_from(hello.seq).unwrap();
                assert!(client.seen == all[seq..] && all[seq - 1] == b'\n', "{resume:?}: {seq}");
                assert!(client.seen.len() > 15 << 10, "as much as is there");
            }
        },
    );
}

/// What a program draws on the whole screen can't be had from its last bytes alone.
#[test]
fn whoever_missed_something_has_it_drawn_anew_and_nobody_else_does() {
    on_a_place(
        |settings| settings.ring_bytes = 16 << 10,
        |place| async move {
            let script = "trap 'echo drawn; stty size' WINCH; echo up; while :; do sleep 0.02; done";
            let (session, mut client) = place.script(script).await;
            client.until("up\r\n").await;
            let mut client = Client::new(&session, driver("ann"), Some(client.next));
            client.resizes(90, 30).await;
            // The size is told of once: the one before it was none.
            client.until("drawn\r\n30 90\r\n").await;
            assert_eq!(client.text(), "drawn\r\n30 90\r\n");
            let mut client = Client::new(&session, driver("ann"), Some(u64::MAX));
            client.until("up\r\n").await;
            client.until("30 90\r\n").await;
            client.until("drawn\r\n30 90\r\n").await;
        },
    );
}

#[test]
fn a_session_goes_on_while_nobody_looks() {
    on_a_place(
        |_| {},
        |place| async move {
            let (session, client) = place.script("seq 1 100000; touch done; read end").await;
            drop(client);
            until("the file", || place.path("files/done").exists()).await;
            assert!(session.summary().output_bytes > 500_000 && session.summary().viewers.is_empty());
        },
    );
}
