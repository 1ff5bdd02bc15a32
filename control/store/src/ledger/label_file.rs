//! Labels that are not stored yet, in a file beside the in-flight table: a killed process loses no end user and no tag of what
//! it had in flight. A line of JSON each, written before any reservation that refers to it, gone once all are stored.
//!
//! Like the table it is in the page cache and never synced: a power loss may take a label, never a row.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Result, StoreError};
use crate::label::NewLabel;
use crate::seldom::Seldom;

/// This process's file; made by its first label. The default one keeps nothing.
#[derive(Debug, Default)]
pub(crate) struct LabelFile {
    path: Option<PathBuf>,
    file: Option<File>,
}

impl LabelFile {
    pub(crate) fn beside(table: &Path) -> Self {
        Self { path: Some(path_of(table)), file: None }
    }

    /// Adds a label. A disk that refuses it costs the label alone, and only if the process is killed before it is stored.
    pub(crate) fn append(&mut self, label: &NewLabel) {
        if let Err(err) = self.try_append(label) {
            static FAILED: Seldom = Seldom::new();
            if let Some(unheard) = FAILED.tell() {
                tracing::warn!(%err, unheard, "a label could not be noted; a crash now would lose it");
            }
        }
    }

    fn try_append(&mut self, label: &NewLabel) -> std::io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(OpenOptions::new().create(true).append(true).mode(0o600).open(path)?),
        };
        file.write_all(label.to_line()?.as_bytes())
    }

    /// Forgets all of them: they are stored.
    pub(crate) fn clear(&mut self) {
        if let Some(Err(err)) = self.file.as_ref().map(|file| file.set_len(0)) {
            tracing::warn!(%err, "labels that are stored could not be cleared; storing them again changes nothing");
        }
    }
}

/// The labels that the owner of a table left; a line that was cut off is none.
pub(crate) fn read(table: &Path) -> Result<Vec<NewLabel>> {
    let path = path_of(table);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(bytes.split(|byte| *byte == b'\n').filter_map(NewLabel::from_line).collect()),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(err) => Err(StoreError::DataDir { path, reason: format!("can't be read: {err}") }),
    }
}

/// Removes the file that belongs to a table which is gone.
pub(crate) fn remove(table: &Path) {
    let path = path_of(table);
    if let Err(err) = std::fs::remove_file(&path)
        && err.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%err, path = %path.display(), "labels that are stored could not be removed");
    }
}

fn path_of(table: &Path) -> PathBuf {
    table.with_extension("labels")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TenantKey;
    use crate::label::Label;

    #[test]
    fn labels_cut_at_any_byte_are_read_back_as_a_prefix() {
        let dir = tempfile::tempdir().unwrap();
        let table = dir.path().join("7");
        assert!(read(&table).unwrap().is_empty());
        let mut file = LabelFile::beside(&table);
        assert!(!path_of(&table).exists(), "nothing is made for nothing");
        let labels: Vec<NewLabel> = ["ann", "bob \"the\" \u{1f419}", "c,d"]
            .iter()
            .map(|user| {
                let mut label = Label::default();
                label.set_user(user);
                label.add_tag("a tag");
                NewLabel::new(TenantKey(1), &label)
            })
            .collect();
        labels.iter().for_each(|label| file.append(label));
        let whole = std::fs::read(path_of(&table)).unwrap();
        let ends: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] == b'\n').collect();
        for cut in 0..=whole.len() {
            std::fs::write(path_of(&table), &whole[..cut]).unwrap();
            let expected = ends.iter().filter(|end| **end <= cut).count();
            assert_eq!(read(&table).unwrap(), labels[..expected], "cut at {cut}");
        }
        file.clear();
        assert!(read(&table).unwrap().is_empty());
        file.append(&labels[1]);
        assert_eq!(read(&table).unwrap(), labels[1..2]);
        remove(&table);
        assert!(!path_of(&table).exists());
    }
}
