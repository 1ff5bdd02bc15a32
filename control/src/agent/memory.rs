//! What an agent remembers: `MEMORY.md`, which is in every prompt, and `memory/*.md`, which it reads when it needs them.

use openclawmu_sandbox::{PathError, RelPath};

use super::error::AgentError;
use super::files::{AgentFiles, Of, files, plain, read_bytes};

/// The file that is in every prompt.
const MEMORY: &str = "MEMORY.md";
/// Where the others are.
const DIR: &str = "memory";
/// The longest of them, in bytes.
const MAX_BYTES: usize = 64 << 10;
/// How many others there may be.
const MAX_FILES: usize = 200;

/// A file of an agent's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryFile {
    /// Its path, percent-encoded.
    pub path: String,
    /// Its size.
    pub size_bytes: u64,
    /// When it was written last.
    pub modified_at_ms: i64,
}

impl AgentFiles {
    /// What an agent remembers, by path.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn memory(&self, of: Of<'_>) -> Result<Vec<MemoryFile>, AgentError> {
        let Some(root) = self.root(of)? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        match root.metadata(&plain(MEMORY)?) {
            Ok(file) => found.push(MemoryFile {
                path: MEMORY.to_owned(),
                size_bytes: file.size_bytes,
                modified_at_ms: file.modified_at_ms,
            }),
            Err(PathError::NotFound | PathError::Refused) => {}
            Err(err) => return Err(err.into()),
        }
        let (others, _) = files(&root, DIR, (None, 1_000))?;
        let others = others.into_iter().filter_map(|entry| {
            let path = plain(DIR).and_then(|dir| dir.join(&entry.name)).ok()?;
            check(&path).ok()?;
            let (size_bytes, modified_at_ms) = (entry.metadata.size_bytes, entry.metadata.modified_at_ms);
            Some(MemoryFile { path: path.to_string(), size_bytes, modified_at_ms })
        });
        found.extend(others);
        Ok(found)
    }

    /// A file of it, as text.
    ///
    /// # Errors
    /// [`AgentError::Invalid`] for another path; [`AgentError::NotFound`]; what the disk refuses.
    pub fn remembered(&self, of: Of<'_>, path: &RelPath) -> Result<String, AgentError> {
        check(path)?;
        let missing = AgentError::NotFound("file");
        let Some(root) = self.root(of)? else { return Err(missing) };
        let bytes = read_bytes(&root, path)?.ok_or(missing)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What is in every prompt; empty where there is nothing.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn always_remembered(&self, of: Of<'_>) -> Result<String, AgentError> {
        match self.remembered(of, &plain(MEMORY)?) {
            Err(AgentError::NotFound(_)) => Ok(String::new()),
            read => read,
        }
    }

    /// Writes a file of it whole.
    ///
    /// # Errors
    /// [`AgentError::Invalid`] for another path or a longer text; [`AgentError::Full`]; what the disk refuses.
    pub fn remember(&self, of: Of<'_>, path: &RelPath, text: &str) -> Result<(), AgentError> {
        check(path)?;
        if text.len() > MAX_BYTES {
            return Err(AgentError::invalid("content", format!("must have at most {MAX_BYTES} bytes")));
        }
        self.write(of, |root| {
            if path.parent().is_some() {
                root.create_dir_all(&plain(DIR)?)?;
                let is_new = matches!(root.metadata(path), Err(PathError::NotFound));
                if is_new && files(root, DIR, (None, MAX_FILES))?.0.len() >= MAX_FILES {
                    return Err(AgentError::Full("An agent's memory has at most 200 files: remove one first."));
                }
            }
            Ok(root.replace(path, text.as_bytes())?)
        })
    }

    /// Removes a file of it.
    ///
    /// # Errors
    /// [`AgentError::Invalid`] for another path; [`AgentError::NotFound`]; what the disk refuses.
    pub fn forget(&self, of: Of<'_>, path: &RelPath) -> Result<(), AgentError> {
        check(path)?;
        let Some(root) = self.root(of)? else { return Err(AgentError::NotFound("file")) };
        match root.remove_file(path) {
            Err(PathError::NotFound) => Err(AgentError::NotFound("file")),
            removed => Ok(removed?),
        }
    }
}

/// Whether a path is one of these files.
fn check(path: &RelPath) -> Result<(), AgentError> {
    let names: Vec<&str> = path.components().map(|name| name.to_str().unwrap_or_default()).collect();
    match names.as_slice() {
        [name] if *name == MEMORY => Ok(()),
        [dir, name] if *dir == DIR && name.strip_suffix(".md").is_some_and(|stem| !stem.is_empty()) => Ok(()),
        _ => Err(AgentError::invalid("path", "must be `MEMORY.md`, or `memory/` and a name that ends in `.md`")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::files::tests::{named, open};
    use super::*;

    /// P-01, P-02
    #[test]
    fn nothing_else_of_an_agent_is_memory() {
        let dir = tempfile::tempdir().unwrap();
        let files = open(dir.path());
        let (acme, helper) = named("acme", "helper");
        let of = Of(&acme, &helper);
        for path in [
            "AGENTS.md",
            "agent.json",
            "memory",
            "memory/x",
            "memory/.md",
            "memory/a/b.md",
            "sessions/a.md",
            "memory.md",
        ] {
            let path = RelPath::parse(path.as_bytes()).unwrap();
            assert!(matches!(files.remember(of, &path, "x"), Err(AgentError::Invalid { field: "path", .. })), "{path}");
            assert!(files.remembered(of, &path).is_err() && files.forget(of, &path).is_err(), "{path}");
        }
        let good = RelPath::parse(b"memory/a b.md").unwrap();
        files.remember(of, &good, "kept").unwrap();
        assert_eq!(files.remembered(of, &good).unwrap(), "kept");
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("tenants/acme/agents/helper/memory/l.md")).unwrap();
        let link = RelPath::parse(b"memory/l.md").unwrap();
        assert!(matches!(files.remembered(of, &link), Err(AgentError::NotFound(_))));
        assert!(files.remember(of, &link, "x").is_err());
        assert_eq!(files.memory(of).unwrap().iter().map(|file| &*file.path).collect::<Vec<_>>(), ["memory/a%20b.md"]);
    }

    #[test]
    fn a_file_is_bounded_and_so_is_their_number() {
        let dir = tempfile::tempdir().unwrap();
        let files = open(dir.path());
        let (acme, helper) = named("acme", "helper");
        let of = Of(&acme, &helper);
        let path = |name: String| RelPath::parse(format!("memory/{name}.md").as_bytes()).unwrap();
        let long = files.remember(of, &path("a".into()), &"x".repeat(MAX_BYTES + 1));
        assert!(matches!(long, Err(AgentError::Invalid { field: "content", .. })));
        for count in 0..MAX_FILES {
            files.remember(of, &path(count.to_string()), "").unwrap();
        }
        assert!(matches!(files.remember(of, &path("more".into()), ""), Err(AgentError::Full(_))));
        files.remember(of, &path("7".into()), "written anew").unwrap();
        assert_eq!(files.always_remembered(of).unwrap(), "");
    }
}
