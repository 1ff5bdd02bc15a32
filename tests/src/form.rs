//! A form as clients send it: `multipart/form-data`, written by hand so that its bytes are known.

/// The boundary of every form.
pub const BOUNDARY: &str = "----scripted7MA4YWxkTrZu0gW";

/// A form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Form {
    parts: Vec<u8>,
}

impl Form {
    /// Without parts.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a text.
    #[must_use]
    pub fn text(self, name: &str, value: &str) -> Self {
        self.part(&format!("Content-Disposition: form-data; name=\"{name}\""), value.as_bytes())
    }

    /// Adds a file.
    #[must_use]
    pub fn file(self, name: &str, filename: &str, content: &[u8]) -> Self {
        let head = format!(
            "Content-Disposition: form-data; name=\"{name}\"; filename=\"{filename}\"\r\nContent-Type: application/octet-stream"
        );
        self.part(&head, content)
    }

    /// Adds a part with this head.
    #[must_use]
    pub fn part(mut self, head: &str, content: &[u8]) -> Self {
        self.parts.extend(format!("--{BOUNDARY}\r\n{head}\r\n\r\n").into_bytes());
        self.parts.extend_from_slice(content);
        self.parts.extend_from_slice(b"\r\n");
        self
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        [self.parts.as_slice(), format!("--{BOUNDARY}--\r\n").as_bytes()].concat()
    }

    /// The content type.
    #[must_use]
    pub fn content_type() -> String {
        format!("multipart/form-data; boundary={BOUNDARY}")
    }
}
