//! The archive: a gzipped tar of small files, of which only the owner may read.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::redact::Clean;

/// Writes the archive. Contents are [`Clean`], so that nothing goes in past the redaction.
pub(super) struct Archive<W: Write> {
    tar: tar::Builder<GzEncoder<W>>,
    folder: String,
    time: u64,
    files: usize,
}

impl<W: Write> Archive<W> {
    /// With all files below `folder`; `time` is theirs, in seconds since the epoch.
    pub(super) fn new(to: W, folder: &str, time: u64) -> Archive<W> {
        let tar = tar::Builder::new(GzEncoder::new(to, Compression::default()));
        Archive { tar, folder: safe(folder), time, files: 0 }
    }

    /// Adds a file; `path` is a list of folders and a name.
    pub(super) fn add(&mut self, path: &[&str], content: &Clean) -> io::Result<()> {
        let bytes = content.as_str().as_bytes();
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::try_from(bytes.len()).map_err(io::Error::other)?);
        header.set_mode(0o600);
        header.set_mtime(self.time);
        header.set_entry_type(tar::EntryType::Regular);
        let path = std::iter::once(self.folder.clone())
            .chain(path.iter().map(|part| safe(part)))
            .collect::<Vec<_>>()
            .join("/");
        self.files += 1;
        self.tar.append_data(&mut header, path, bytes)
    }

    /// How many files it has.
    pub(super) fn files(&self) -> usize {
        self.files
    }

    /// Writes the end.
    pub(super) fn finish(self) -> io::Result<W> {
        self.tar.into_inner()?.finish()
    }
}

/// A name that no file system takes for something else.
fn safe(part: &str) -> String {
    let name: String = part
        .chars()
        .take(200)
        .map(|one| if one.is_ascii_alphanumeric() || matches!(one, '-' | '_' | '.') { one } else { '_' })
        .collect();
    if name.chars().all(|one| one == '.') { format!("_{name}") } else { name }
}

/// Makes the file, for its owner only.
pub(super) fn create(path: &Path, force: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        for (part, expected) in
            [("demo-edge-0", "demo-edge-0"), ("../x", ".._x"), ("..", "_.."), ("", "_"), ("a:b", "a_b")]
        {
            assert_eq!(safe(part), expected);
        }
    }
}
