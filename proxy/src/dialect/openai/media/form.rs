//! `multipart/form-data` (RFC 7578), taken apart without a copy.
//!
//! Stricter than most readers: what two of them could read in two ways is refused, so that the fields which decide over money
//! are the same to the gateway and to whoever reads the body after it.

use std::ops::Range;

use memchr::memmem::Finder;

use crate::refusal::Refusal;

/// The most parts of a form.
const MAX_PARTS: usize = 128;
/// The longest head of a part, in bytes.
const MAX_HEAD_BYTES: usize = 8 << 10;
/// The longest boundary, in bytes (RFC 2046, section 5.1.1).
const MAX_BOUNDARY_BYTES: usize = 70;

/// One part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its name.
    pub(crate) name: String,
    /// Whether it is a file.
    pub(crate) file: bool,
    /// Where its content stands in the body.
    pub(crate) content: Range<usize>,
}

/// The boundary that a content type names; `None` where it is no form's.
///
/// # Errors
/// 400 where it is a form's without a boundary that can be used.
pub(crate) fn boundary(content_type: &str) -> Result<Option<String>, Refusal> {
    let (kind, rest) = content_type.split_once(';').unwrap_or((content_type, ""));
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return Ok(None);
    }
    let mut found = None;
    for (name, value, _) in parameters(rest).ok_or_else(|| malformed("its content type is malformed"))? {
        if name.eq_ignore_ascii_case("boundary") && found.replace(value).is_some() {
            return Err(malformed("its content type names two boundaries"));
        }
    }
    let boundary = found.ok_or_else(|| malformed("its content type names no boundary"))?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
    let fine =
        (1..=MAX_BOUNDARY_BYTES).contains(&boundary.len()) && boundary.bytes().all(allowed) && !boundary.ends_with(' ');
    if fine { Ok(Some(boundary)) } else { Err(malformed("its boundary is not one that RFC 2046 allows")) }
}

/// Takes a body apart.
///
/// # Errors
/// 400 where it is malformed.
pub(crate) fn parts(body: &[u8], boundary: &str) -> Result<Vec<Part>, Refusal> {
    let delimiter = format!("\r\n--{boundary}");
    let finder = Finder::new(delimiter.as_bytes());
    let first = delimiter.as_bytes().get(2..).unwrap_or_default();
    if !body.starts_with(first) {
        return Err(malformed("it does not begin with its boundary"));
    }
    let mut at = first.len();
    let mut parts = Vec::new();
    loop {
        let rest = body.get(at..).unwrap_or_default();
        if let Some(end) = rest.strip_prefix(b"--") {
            let closed = end.is_empty() || end == b"\r\n";
            return if closed { Ok(parts) } else { Err(malformed("something follows its end")) };
        }
        if !rest.starts_with(b"\r\n") {
            return Err(malformed("a boundary is not followed by a line's end"));
        }
        if parts.len() == MAX_PARTS {
            return Err(malformed("it has too many parts"));
        }
        // The line's end may be the first of the two that close an empty head.
        let head_at = at + 2;
        let near = body.get(at..body.len().min(head_at + MAX_HEAD_BYTES)).unwrap_or_default();
        let length =
            memchr::memmem::find(near, b"\r\n\r\n").ok_or_else(|| malformed("a part has no end of its head"))?;
        let head = near.get(2..length.max(2)).unwrap_or_default();
        let start = at + length + 4;
        // The delimiter's line end may be the one that closes the head: then the content is empty.
        let from = start - 2;
        let found = finder.find(body.get(from..).unwrap_or_default());
        let end = from + found.ok_or_else(|| malformed("a part has no end"))?;
        let (name, file) = disposition(head)?;
        parts.push(Part { name, file, content: start..end.max(start) });
        at = end + delimiter.len();
    }
}

/// The name of a part, and whether it is a file.
fn disposition(head: &[u8]) -> Result<(String, bool), Refusal> {
    let head = std::str::from_utf8(head).map_err(|_| malformed("a part's head is not UTF-8"))?;
    let mut found = Vec::new();
    for line in head.split("\r\n") {
        if line.contains(['\r', '\n', '\0']) || line.starts_with([' ', '\t']) {
            return Err(malformed("a line of a part's head is malformed"));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| malformed("a line of a part's head has no colon"))?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-disposition" => found.push(named(value)?),
            // Long out of use (RFC 7578, section 4.7), and not known to every reader.
            "content-transfer-encoding"
                if !["binary", "8bit", "7bit"].iter().any(|kind| value.eq_ignore_ascii_case(kind)) =>
            {
                return Err(malformed("a part is encoded"));
            }
            _ => {}
        }
    }
    match (found.pop(), found.pop()) {
        (Some(found), None) => Ok(found),
        (None, _) => Err(malformed("a part has no content disposition")),
        (Some(_), Some(_)) => Err(malformed("a part has two content dispositions")),
    }
}

fn named(value: &str) -> Result<(String, bool), Refusal> {
    let (kind, rest) = value.split_once(';').unwrap_or((value, ""));
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return Err(malformed("a part is not form data"));
    }
    let (mut names, mut file) = (Vec::new(), false);
    for (key, value, escaped) in parameters(rest).ok_or_else(|| malformed("a content disposition is malformed"))? {
        match key.to_ascii_lowercase().as_str() {
            "name" if escaped => return Err(malformed("a part's name has a backslash in it")),
            "name" => names.push(value),
            "name*" => return Err(malformed("a part's name is encoded")),
            "filename" | "filename*" => file = true,
            _ => {}
        }
    }
    match (names.pop(), names.pop()) {
        (Some(name), None) => Ok((name, file)),
        (None, _) => Err(malformed("a part has no name")),
        (Some(_), Some(_)) => Err(malformed("a part has two names")),
    }
}

/// `; key=value; key="value"`: each key with its value, and whether a backslash stood in it. `None` where they are malformed.
fn parameters(text: &str) -> Option<Vec<(&str, String, bool)>> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        let key = key.trim();
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if key.is_empty() || !key.bytes().all(token) {
            return None;
        }
        let (value, escaped, after) = match after.strip_prefix('"') {
            Some(quoted) => unquoted(quoted)?,
            None => {
                let (value, after) = after.split_once(';').map_or((after, None), |(value, after)| (value, Some(after)));
                let value = value.trim();
                if value.is_empty() || value.contains(['"', ' ', '\t']) {
                    return None;
                }
                (value.to_owned(), false, after.unwrap_or_default())
            }
        };
        found.push((key, value, escaped));
        rest = after.trim();
    }
    Some(found)
}

/// A quoted value, and what follows its quote and its semicolon.
fn unquoted(text: &str) -> Option<(String, bool, &str)> {
    let (mut value, mut escaped) = (String::new(), false);
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => {
                let after = text.get(at + 1..)?.trim_start();
                let after = if after.is_empty() { after } else { after.strip_prefix(';')? };
                return Some((value, escaped, after));
            }
            '\\' => {
                escaped = true;
                value.push(letters.next()?.1);
            }
            other => value.push(other),
        }
    }
    None
}

fn malformed(why: &str) -> Refusal {
    Refusal::Bad {
        status: 400,
        param: None,
        code: Some("invalid_multipart"),
        message: format!("We could not parse the multipart form of your request: {why}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(body: &str) -> Result<Vec<(String, bool, String)>, String> {
        let found = parts(body.as_bytes(), "b").map_err(|refusal| refusal.to_string())?;
        Ok(found.into_iter().map(|part| (part.name, part.file, body[part.content].to_owned())).collect())
    }

    #[test]
    fn a_form_is_taken_apart_whatever_stands_in_its_files() {
        let body = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--b\r\n\
                    content-disposition:form-data;name=file; filename=\"a\\\";b.wav\"\r\nContent-Type: audio/wav\r\n\r\n\r\n--a\r\n-b\n--b\r\n\
                    --b\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\n\r\n--b--\r\n";
        let expected = [
            ("model".to_owned(), false, "whisper-1".to_owned()),
            ("file".to_owned(), true, "\r\n--a\r\n-b\n--b".to_owned()),
            ("prompt".to_owned(), false, String::new()),
        ];
        assert_eq!(read(body), Ok(expected.to_vec()));
        assert_eq!(read("--b--"), Ok(Vec::new()));
    }

    #[test]
    fn what_two_readers_could_read_in_two_ways_is_refused() {
        let with = |head: &str| format!("--b\r\n{head}\r\n\r\nx\r\n--b--");
        assert!(read(&with("Content-Disposition: form-data; name=\"n\"")).is_ok());
        for head in [
            "Content-Disposition: form-data",
            "Content-Disposition: attachment; name=\"n\"",
            "Content-Disposition: form-data; name=\"n\"; name=\"model\"",
            "Content-Disposition: form-data; name=\"a\"\r\nContent-Disposition: form-data; name=\"n\"",
            "Content-Disposition: form-data; name*=UTF-8''n",
            "Content-Disposition: form-data; name=\"mo\\del\"",
            "Content-Disposition: form-data; name=\"n\" x",
            "Content-Disposition: form-data; name=\"n",
            "Content-Disposition: form-data;\r\n name=\"n\"",
            "Content-Disposition: form-data; name=\"n\"\nX: y",
            "Content-Disposition: form-data; name=\"n\"\r\nContent-Transfer-Encoding: base64",
            "Content-Type: text/plain",
            "no colon",
            "",
        ] {
            assert!(read(&with(head)).is_err(), "{head}");
        }
        let good = "--b\r\nContent-Disposition: form-data; name=\"n\"\r\n\r\n1\r\n--b--";
        for bad in [
            "",
            "--b",
            "--b\r\n",
            "\r\n--b--",
            "x--b--",
            "--bb--",
            "--b--x",
            &good.replace("\r\n--b--", ""),
            &good.replace("--b--", "--b"),
            &good.replace("--b--", "--b \r\n--b--"),
            &good.replace("\r\n", "\n"),
            &format!("preamble\r\n{good}"),
            &format!("{good}\r\n--b--"),
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        let many =
            format!("{}--b--", "--b\r\nContent-Disposition: form-data; name=\"n\"\r\n\r\n1\r\n".repeat(MAX_PARTS + 1));
        assert!(read(&many).is_err());
        let long = with(&format!("Content-Disposition: form-data; name=\"{}\"", "n".repeat(MAX_HEAD_BYTES)));
        assert!(read(&long).is_err());
    }

    #[test]
    fn a_boundary_is_read_as_every_other_reader_does() {
        let named = |text: &str| boundary(text).map_err(|_| ());
        assert_eq!(named("multipart/form-data; boundary=abc"), Ok(Some("abc".to_owned())));
        assert_eq!(named("Multipart/Form-Data;charset=utf-8; Boundary=\"a b:c\""), Ok(Some("a b:c".to_owned())));
        assert_eq!(named("application/json; boundary=abc"), Ok(None));
        for bad in [
            "multipart/form-data",
            "multipart/form-data; boundary",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=\"\"",
            "multipart/form-data; boundary=a; boundary=b",
            "multipart/form-data; boundary=\"a\"b",
            "multipart/form-data; boundary=\"a ",
            "multipart/form-data; boundary=\"a \"",
            "multipart/form-data; boundary=é",
            &format!("multipart/form-data; boundary={}", "a".repeat(71)),
        ] {
            assert_eq!(named(bad), Err(()), "{bad}");
        }
    }

    fn written(parts: &[(String, bool, Vec<u8>)], boundary: &str) -> Vec<u8> {
        let mut body = Vec::new();
        for (name, file, content) in parts {
            let file = if *file { "; filename=\"f\"" } else { "" };
            let head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n");
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(content);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        body
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_back(
            all in proptest::collection::vec(("[a-z\\[\\] é]{0,8}", any::<bool>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..6)
        ) {
            let body = written(&all, "Xq9ZboundaryZ");
            let found: Vec<(String, bool, Vec<u8>)> = parts(&body, "Xq9ZboundaryZ").unwrap().into_iter()
                .map(|part| (part.name, part.file, body[part.content].to_vec())).collect();
            prop_assert_eq!(found, all);
        }

        #[test]
        fn any_bytes_neither_panic_nor_lead_outside(body in proptest::collection::vec(any::<u8>(), 0..200), boundary in "[ab-]{1,3}") {
            for part in parts(&body, &boundary).unwrap_or_default() {
                prop_assert!(part.content.end <= body.len());
            }
        }

        #[test]
        fn any_pieces_of_a_form_neither_panic_nor_lead_outside(
            pieces in proptest::collection::vec(prop_oneof![
                Just("--b"), Just("\r\n"), Just("--"), Just("Content-Disposition: form-data; name=\"n\""), Just("\""), Just(";"), Just("x"), Just("\r\n\r\n")
            ], 0..14)
        ) {
            let body = pieces.concat();
            for part in parts(body.as_bytes(), "b").unwrap_or_default() {
                prop_assert!(part.content.end <= body.len());
            }
            let _ = boundary(&body);
        }
    }
}
