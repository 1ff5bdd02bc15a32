//! What goes over the connection as JSON text: the greeting, and why something is refused. And [`Message`], either of both.

use serde::{Deserialize, Serialize};

use crate::Role;

/// What is to be sent, as one message of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A [`ServerFrame`](crate::frame::ServerFrame).
    Binary(Vec<u8>),
    /// A [`Text`].
    Text(String),
}

/// A text message of the server's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Text {
    /// The first message of a connection, and again where the client must begin anew.
    Hello(Hello),
    /// Why the connection is about to end.
    Error {
        /// One word for it.
        code: String,
        /// For a person.
        message: String,
    },
}

/// The greeting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The session's id, to come back with.
    pub session: String,
    /// What this client may do.
    pub role: Role,
    /// How what follows fits what the client has.
    pub start: Start,
    /// The sequence number of the first byte that follows.
    pub seq: u64,
    /// Columns of the terminal.
    pub cols: u16,
    /// Rows of it.
    pub rows: u16,
    /// How many bytes are sent beyond what was acknowledged.
    pub window_bytes: u64,
    /// Who opened the session.
    pub opened_by: String,
    /// That all of it is being recorded.
    pub recorded: bool,
}

/// How what follows a greeting fits what the client has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// It is all there was, from the session's first byte.
    Beginning,
    /// It follows exactly what the client has.
    Exact,
    /// Something is missing before it: the client must first reset its terminal (`ESC c`), and count on from `seq`.
    Repaint,
}

impl Text {
    /// An error.
    #[must_use]
    pub fn error(code: &str, message: impl Into<String>) -> Self {
        Self::Error { code: code.to_owned(), message: message.into() }
    }

    /// As it is sent.
    #[must_use]
    pub fn message(&self) -> Message {
        // It holds nothing that could not be written as JSON.
        Message::Text(serde_json::to_string(self).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wire.
    #[test]
    fn texts_are_this_json() {
        let hello = Text::Hello(Hello {
            session: "s1".into(),
            role: Role::Driver,
            start: Start::Repaint,
            seq: 7,
            cols: 80,
            rows: 24,
            window_bytes: 524_288,
            opened_by: "a".into(),
            recorded: true,
        });
        let wanted = r#"{"type":"hello","session":"s1","role":"driver","start":"repaint","seq":7,"cols":80,"rows":24,"window_bytes":524288,"opened_by":"a","recorded":true}"#;
        assert_eq!(hello.message(), Message::Text(wanted.to_owned()));
        assert_eq!(serde_json::from_str::<Text>(wanted).unwrap(), hello);
        let error = Text::error("idle", "no");
        assert_eq!(error.message(), Message::Text(r#"{"type":"error","code":"idle","message":"no"}"#.to_owned()));
    }
}
