//! Who reads slowly, or not at all.

use openclawmu_terminal::frame::ClientFrame;
use openclawmu_terminal::{Role, Start};

use crate::client::Client;
use crate::place::{on_a_place, processes_with, until, viewer};

const WINDOW: usize = 64 << 10;

/// T-04.
#[test]
fn a_client_that_never_acknowledges_stops_yes_and_ctrl_c_still_ends_it() {
    on_a_place(
        |settings| settings.window_bytes = WINDOW,
        |place| async move {
            let (session, mut client) = place.shell().await;
            client.acks = false;
            let before = client.next;
            client.types("yes never-acknowledged-2718\r").await;
            while client.next < before + WINDOW as u64 {
                client.step().await;
            }
            until("the terminal is read no further", || session.summary().output_bytes > before + WINDOW as u64).await;
            client.types("\x03").await;
            until("it is gone", || processes_with("never-acknowledged-2718").is_empty()).await;
            let shown = session.summary().output_bytes;
            assert!(shown <= before + WINDOW as u64 + (8 << 10), "{shown} were read of it");
            assert_eq!(client.next, before + WINDOW as u64, "no more is sent than the window holds");
            client.acks = true;
            client.feed(ClientFrame::Ack(client.next)).await;
            client.until("prompt> ").await;
            client.types("echo al\"\"ive\r").await;
            client.until("alive\r\n").await;
        },
    );
}

/// T-04: and who acknowledges reads on.
#[test]
fn a_client_that_acknowledges_reads_far_more_than_the_window() {
    on_a_place(
        |settings| settings.window_bytes = WINDOW,
        |place| async move {
            let (_session, mut client) = place.script("seq 1 100000; echo en''d").await;
            client.until("\nend\r\n").await;
            assert!(client.seen.len() > 8 * WINDOW);
        },
    );
}

#[test]
fn a_slow_observer_is_shown_the_last_of_it_and_never_stalls_the_driver() {
    let small = |settings: &mut openclawmu_terminal::Settings| {
        (settings.window_bytes, settings.ring_bytes) = (WINDOW, 2 * WINDOW);
    };
    on_a_place(small, |place| async move {
        let (session, mut client) = place.script("read more; seq 1 100000; echo en''d; read end").await;
        let mut slow = Client::new(&session, viewer("sue", Role::Observer), None);
        slow.acks = false;
        while slow.hellos.is_empty() {
            slow.step().await;
        }
        assert_eq!(slow.hellos[0].start, Start::Beginning);
        client.types("\r").await;
        // Takes what it is sent, up to the window, and acknowledges nothing; then nothing for a long time.
        while slow.next < WINDOW as u64 {
            tokio::select! {
                _ = slow.step() => {}
                _ = client.step() => {}
            }
        }
        client.until("\nend\r\n").await;
        assert!(client.seen.len() > 8 * WINDOW, "the driver saw it all");
        slow.acks = true;
        slow.until("\nend\r\n").await;
        assert_eq!(slow.hellos.last().unwrap().start, Start::Repaint);
        assert!(client.seen.ends_with(&slow.seen) && slow.seen.len() <= 2 * WINDOW);
    });
}

/// What is typed and what is acknowledged come one after the other: neither may wait for the other.
#[test]
fn a_large_paste_that_is_echoed_and_acknowledged_afterwards_goes_through() {
    on_a_place(
        |settings| settings.window_bytes = WINDOW,
        |place| async move {
            let (_session, mut client) = place.shell().await;
            client.types("echo u\"\"p; head -c 1000000 | wc -c\r").await;
            client.until("up\r\n").await;
            client.acks = false;
            let line = [b"0123456789".repeat(7).as_slice(), b"012345678\n"].concat();
            let pasted = line.repeat(1_000_000 / line.len());
            let pieces = pasted.chunks(32 << 10).map(|piece| ClientFrame::Input(piece).encode());
            let pieces: Vec<Vec<u8>> = pieces.collect();
            {
                let attachment = &client.attachment;
                let typing = async {
                    for piece in &pieces {
                        attachment.feed(piece).await.unwrap();
                    }
                };
                let looking = async { while attachment.next().await.is_some() {} };
                tokio::select! {
                    () = typing => {}
                    () = looking => panic!("it ended"),
                }
                attachment.feed(&ClientFrame::Ack(u64::MAX).encode()).await.unwrap();
                // From here on it begins anew: what was seen in between was not kept.
            }
            let (session, attachment) = (std::sync::Arc::clone(client.attachment.session()), client.attachment);
            drop(attachment);
            let mut client = Client::new(&session, crate::place::driver("ann"), None);
            client.until("1000000\r\n").await;
        },
    );
}
