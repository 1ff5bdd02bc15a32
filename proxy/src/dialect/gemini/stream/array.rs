//! The framing of a stream without `alt=sse`: a JSON array that grows by one element a chunk.

/// Frames chunks, be they written here or passed on from a provider.
#[derive(Debug, Default)]
pub(crate) struct Array {
    begun: bool,
}

impl Array {
    /// Adds a chunk.
    pub(crate) fn chunk(&mut self, json: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(if self.begun { b",\r\n" } else { b"[" });
        self.begun = true;
        out.extend_from_slice(json);
    }

    /// Ends the array. Whether the answer is complete is what its last chunk says.
    pub(crate) fn end(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.begun { b"\r\n]" } else { b"[]" });
    }
}
