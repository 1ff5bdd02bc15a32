//! [`RelPath`]: an untrusted path, checked byte by byte before any system call sees it.
//!
//! Must never touch the file system, never decode twice, and never "repair" a path: what is not
//! plainly fine is refused. The kernel checks again while it opens ([`Root`](crate::Root)); neither
//! check leans on the other.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use crate::PathError;

/// The longest name that Linux file systems hold, in bytes.
const MAX_COMPONENT_BYTES: usize = 255;
/// How many components a path may have.
const MAX_DEPTH: usize = 32;
/// `PATH_MAX` of Linux without its closing NUL.
const MAX_PATH_BYTES: usize = 4095;

/// A relative path without tricks: one to 32 names joined by `/`, none of them `.`, `..` or empty.
///
/// Names are bytes, not text: what a program in a sandbox wrote need not be UTF-8. `Display` shows
/// them percent-encoded, and [`RelPath::from_encoded`] reads exactly that back.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(Vec<u8>);

impl RelPath {
    /// Checks a path given as bytes; `%` is an ordinary character here.
    ///
    /// # Errors
    /// [`PathError::Empty`], [`PathError::Escape`], [`PathError::Forbidden`], [`PathError::TooLong`]: all 400.
    pub fn parse(bytes: &[u8]) -> Result<Self, PathError> {
        if bytes.is_empty() {
            return Err(PathError::Empty);
        }
        if bytes.len() > MAX_PATH_BYTES {
            return Err(PathError::TooLong);
        }
        for (depth, component) in bytes.split(|byte| *byte == b'/').enumerate() {
            if depth >= MAX_DEPTH {
                return Err(PathError::TooLong);
            }
            check_component(component)?;
        }
        Ok(Self(bytes.to_vec()))
    }

    /// Decodes a percent-encoded path exactly once, then checks it. `%252e` becomes the name `%2e`,
    /// three characters without meaning; `%2f` is a separator like `/`; `+` stays `+` (RFC 3986, 2.1).
    ///
    /// # Errors
    /// [`PathError::BadEncoding`], and those of [`RelPath::parse`]: all 400.
    pub fn from_encoded(encoded: &str) -> Result<Self, PathError> {
        if encoded.len() > MAX_PATH_BYTES * 3 {
            return Err(PathError::TooLong);
        }
        let mut decoded = Vec::with_capacity(encoded.len());
        let mut bytes = encoded.bytes();
        while let Some(byte) = bytes.next() {
            decoded.push(match byte {
                b'%' => hex_pair(bytes.next(), bytes.next()).ok_or(PathError::BadEncoding)?,
                plain => plain,
            });
        }
        Self::parse(&decoded)
    }

    /// This path with one more name below it, such as one from a listing.
    ///
    /// # Errors
    /// Those of [`RelPath::parse`]: a sandbox may have made a name that no path may hold.
    pub fn join(&self, name: &OsStr) -> Result<Self, PathError> {
        let mut bytes = self.0.clone();
        bytes.push(b'/');
        bytes.extend_from_slice(name.as_bytes());
        Self::parse(&bytes)
    }

    /// The directory part, if there is one.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.split().0.map(|parent| Self(parent.as_bytes().to_vec()))
    }

    /// The last component.
    #[must_use]
    pub fn name(&self) -> &OsStr {
        self.split().1
    }

    /// The path as the system takes it.
    #[must_use]
    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }

    /// The components, outermost first; there is always one.
    pub fn components(&self) -> impl Iterator<Item = &OsStr> {
        self.0.split(|byte| *byte == b'/').map(OsStr::from_bytes)
    }

    /// The directory part, if there is one, and the last component.
    pub(crate) fn split(&self) -> (Option<&OsStr>, &OsStr) {
        let mut halves = self.0.rsplitn(2, |byte| *byte == b'/');
        let name = halves.next().unwrap_or_default();
        (halves.next().map(OsStr::from_bytes), OsStr::from_bytes(name))
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_encoded(f, &self.0)
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelPath({self})")
    }
}

/// Percent-encodes all but RFC 3986's unreserved characters and `/`.
pub(crate) fn write_encoded(f: &mut impl fmt::Write, bytes: &[u8]) -> fmt::Result {
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                f.write_char(char::from(*byte))?
            }
            other => write!(f, "%{other:02X}")?,
        }
    }
    Ok(())
}

fn hex_pair(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let high = char::from(high?).to_digit(16)?;
    let low = char::from(low?).to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

fn check_component(component: &[u8]) -> Result<(), PathError> {
    if matches!(component, b"" | b"." | b"..") {
        return Err(PathError::Escape);
    }
    if component.len() > MAX_COMPONENT_BYTES {
        return Err(PathError::TooLong);
    }
    let forbidden = component.contains(&b'\\')
        || has_control(component)
        || has_overlong(component)
        || component.ends_with(b".")
        || is_device_name(component);
    if forbidden { Err(PathError::Forbidden) } else { Ok(()) }
}

/// C0 controls with NUL, DEL, and the C1 controls as UTF-8 spells them: they drive terminals.
fn has_control(component: &[u8]) -> bool {
    component.utf8_chunks().any(|chunk| chunk.valid().chars().any(char::is_control))
}

/// Overlong forms (`C0 AE` for `.`) are no names, they are disguises for a decoder further on.
/// Valid UTF-8 never holds such a pair (RFC 3629, 3), other encodings hardly ever.
fn has_overlong(component: &[u8]) -> bool {
    component
        .windows(2)
        .any(|pair| matches!(pair, [0xC0 | 0xC1, 0x80..=0xBF] | [0xE0, 0x80..=0x9F] | [0xF0, 0x80..=0x8F]))
}

/// Names that another system takes for a device, so that a download or a backup unpacks anywhere.
/// Bare names only: `aux.c` is a source file that people have.
fn is_device_name(component: &[u8]) -> bool {
    matches!(
        component.to_ascii_uppercase().as_slice(),
        b"CON" | b"PRN" | b"AUX" | b"NUL" | [b'C', b'O', b'M', b'0'..=b'9'] | [b'L', b'P', b'T', b'0'..=b'9']
    )
}

#[cfg(test)]
mod tests;
