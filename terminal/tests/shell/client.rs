//! A client, as strict as one can be: it checks every message that it gets.

use std::sync::Arc;
use std::time::Duration;

use openclawmu_terminal::frame::{ClientFrame, ServerFrame};
use openclawmu_terminal::{Attachment, Hello, Message, Session, Size, Text, Viewer, Viewers};

/// For what never comes.
const FOR_EVER: Duration = Duration::from_secs(60);

/// Who looks at a session, and what was seen.
pub(crate) struct Client {
    pub(crate) attachment: Attachment,
    /// What was shown since the last greeting.
    pub(crate) seen: Vec<u8>,
    pub(crate) hellos: Vec<Hello>,
    pub(crate) errors: Vec<String>,
    pub(crate) exit: Option<i32>,
    pub(crate) viewers: Viewers,
    /// Whether it acknowledges.
    pub(crate) acks: bool,
    /// The next byte that it wants.
    pub(crate) next: u64,
    /// Where in what was seen the next mark may be.
    from: usize,
}

impl Client {
    pub(crate) fn new(session: &Arc<Session>, viewer: Viewer, resume: Option<u64>) -> Self {
        Self::of(session.attach(viewer, resume).expect("a place"))
    }

    pub(crate) fn of(attachment: Attachment) -> Self {
        Self {
            attachment,
            seen: Vec::new(),
            hellos: Vec::new(),
            errors: Vec::new(),
            exit: None,
            viewers: Viewers::default(),
            acks: true,
            next: 0,
            from: 0,
        }
    }

    pub(crate) async fn feed(&self, frame: ClientFrame<'_>) {
        self.attachment.feed(&frame.encode()).await.unwrap();
    }

    pub(crate) async fn types(&self, text: &str) {
        self.feed(ClientFrame::Input(text.as_bytes())).await;
    }

    pub(crate) async fn resizes(&self, cols: u16, rows: u16) {
        self.feed(ClientFrame::Resize(Size::new(cols, rows))).await;
    }

    /// Takes one message; whether there was one.
    pub(crate) async fn step(&mut self) -> bool {
        let next = tokio::time::timeout(FOR_EVER, self.attachment.next()).await;
        let message = next.unwrap_or_else(|_| panic!("nothing comes after {:?}", self.tail()));
        let Some(message) = message else { return false };
        assert!(self.exit.is_none(), "the exit is the last message");
        match message {
            Message::Text(text) => match serde_json::from_str(&text).unwrap() {
                Text::Hello(hello) => {
                    self.next = hello.seq;
                    self.seen.clear();
                    self.from = 0;
                    self.hellos.push(hello);
                }
                Text::Error { code, .. } => self.errors.push(code),
            },
            Message::Binary(frame) => {
                assert!(!self.hellos.is_empty() || !self.errors.is_empty(), "a greeting comes first");
                match ServerFrame::decode(&frame).unwrap() {
                    ServerFrame::Output { seq, bytes } => {
                        assert_eq!(seq, self.next, "nothing is missing and nothing comes twice");
                        self.seen.extend_from_slice(bytes);
                        self.next += bytes.len() as u64;
                        if self.acks {
                            self.feed(ClientFrame::Ack(self.next)).await;
                        }
                    }
                    ServerFrame::Exit(code) => self.exit = Some(code),
                    ServerFrame::Viewers(viewers) => self.viewers = viewers,
                    ServerFrame::Pong(_) => {}
                }
            }
        }
        true
    }

    /// Looks until this is shown, after what it looked for before.
    pub(crate) async fn until(&mut self, mark: &str) {
        loop {
            let unseen = &self.seen[self.from..];
            if let Some(at) = unseen.windows(mark.len()).position(|part| part == mark.as_bytes()) {
                self.from += at + mark.len();
                return;
            }
            assert!(self.step().await, "it ended without {mark:?}: {:?} {:?}", self.errors, self.tail());
        }
    }

    /// Looks to the end.
    pub(crate) async fn end(&mut self) {
        while self.step().await {}
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    pub(crate) fn tail(&self) -> String {
        String::from_utf8_lossy(&self.seen[self.seen.len().saturating_sub(2000)..]).into_owned()
    }
}
