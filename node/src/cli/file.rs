//! Changing the configuration file: what is not meant stays as it is, comments and order included, and there is
//! always either the old file or the new one.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use toml_edit::{DocumentMut, Item, Value};

use crate::exit::{Exit, Failure};

/// A configuration file larger than this is none.
const MAX_SIZE: u64 = 1 << 20;

/// What editors of another system put before a text. TOML's parsers take it away.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Who may do what with a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rights {
    /// The permission bits.
    pub(super) mode: u32,
    /// User and group, when they are to be others than those of this process.
    pub(super) owner: Option<(u32, u32)>,
}

impl Rights {
    /// Of a new file that all may read.
    pub(super) const PUBLIC: Rights = Rights { mode: 0o644, owner: None };

    fn of(metadata: &Metadata) -> Self {
        Self { mode: metadata.permissions().mode() & 0o7777, owner: Some((metadata.uid(), metadata.gid())) }
    }

    /// Of a file with a secret: for the user that runs the node, as far as `like` (its data directory, or the
    /// configuration file) tells who that is. Only root can give files away.
    pub(super) fn secret(like: &[&Path]) -> Self {
        let metadata = like.iter().find_map(|path| std::fs::metadata(path).ok());
        let is_root = rustix::process::geteuid().is_root();
        Self { mode: 0o600, owner: metadata.filter(|_| is_root).map(|m| (m.uid(), m.gid())) }
    }
}

/// A configuration file, read to be changed.
pub(super) struct ConfigFile {
    path: PathBuf,
    document: DocumentMut,
    before: String,
    rights: Rights,
}

impl ConfigFile {
    /// Reads the file; one that is missing is empty.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let failed =
            |e: &io::Error| Failure::io(&format!("read the configuration file {}", path.display()), e);
        // A link stays one: what it leads to is changed.
        let path = match std::fs::canonicalize(path) {
            Ok(path) => path,
            Err(e) if e.kind() == io::ErrorKind::NotFound && path.symlink_metadata().is_err() => {
                std::path::absolute(path).map_err(|e| failed(&e))?
            }
            Err(e) => return Err(failed(&e)),
        };
        let (before, rights) = match File::open(&path) {
            Ok(mut file) => {
                let metadata = file.metadata().map_err(|e| failed(&e))?;
                if !metadata.is_file() || metadata.len() > MAX_SIZE {
                    let text = format!("{} is no configuration file: name one with --config", path.display());
                    return Err(Failure::new(Exit::Usage, text));
                }
                let mut text = String::new();
                file.read_to_string(&mut text).map_err(|e| failed(&e))?;
                (text, Rights::of(&metadata))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => (String::new(), Rights::PUBLIC),
            Err(e) => return Err(failed(&e)),
        };
        let document = before.parse::<DocumentMut>().map_err(|e| {
            let line =
                e.span().map_or(1, |span| before.get(..span.start).unwrap_or("").lines().count().max(1));
            let message = e.message().to_owned();
            Failure::new(Exit::Usage, format!("{}:{line}: not valid TOML: {message}", path.display()))
        })?;
        Ok(Self { path, document, before, rights })
    }

    /// Where it is, links followed.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The text of a key, when it is there and a string.
    pub(super) fn text_of(&self, key: &str) -> Option<&str> {
        self.document.get(key).and_then(Item::as_str)
    }

    /// True when the key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.document.contains_key(key)
    }

    /// Sets a key. Where it is there, its place and the comment on its line stay; a new one comes last.
    pub(super) fn set(&mut self, key: &str, text: &str) {
        if let Some(old) = self.document.get_mut(key).and_then(Item::as_value_mut) {
            let decor = old.decor().clone();
            if old.as_str() != Some(text) {
                *old = Value::from(text);
                *old.decor_mut() = decor;
            }
            return;
        }
        // What stands after the last key is comments: the new key goes after them.
        let before = self.document.trailing().as_str().unwrap_or_default().to_owned();
        let is_open = !before.is_empty() && !before.ends_with('\n');
        self.document.set_trailing("");
        self.document.insert(key, Item::Value(Value::from(text)));
        if let Some(mut key) = self.document.key_mut(key) {
            key.leaf_decor_mut().set_prefix(if is_open { before + "\n" } else { before });
        }
    }

    /// Takes a key out; the comments above it stay.
    pub(super) fn remove(&mut self, key: &str) {
        let after = {
            let mut keys = self.document.iter().map(|(key, _)| key.to_owned());
            if !keys.any(|k| k == key) {
                return;
            }
            keys.next()
        };
        let prefix_of = |key: &toml_edit::Key| {
            key.leaf_decor().prefix().and_then(|p| p.as_str()).unwrap_or("").to_owned()
        };
        let prefix = self.document.key(key).map(prefix_of).unwrap_or_default();
        self.document.remove(key);
        match after.as_deref().and_then(|after| self.document.key_mut(after)) {
            Some(mut next) => {
                let joint = prefix + next.leaf_decor().prefix().and_then(|p| p.as_str()).unwrap_or("");
                next.leaf_decor_mut().set_prefix(joint);
            }
            None => {
                let joint = prefix + self.document.trailing().as_str().unwrap_or_default();
                self.document.set_trailing(joint);
            }
        }
    }

    /// True when there is something to write.
    pub(super) fn is_changed(&self) -> bool {
        self.text() != self.before
    }

    /// What it would be, with the line ends that it has had.
    fn text(&self) -> String {
        let mut text = self.document.to_string();
        if self.before.contains("\r\n") {
            text = text.replace('\n', "\r\n");
        }
        if self.before.starts_with(BYTE_ORDER_MARK) {
            text.insert(0, BYTE_ORDER_MARK);
        }
        text
    }

    /// Writes what it would be beside it; nothing has changed before that is put in place.
    pub(super) fn stage(&self) -> Result<Staged, Failure> {
        Staged::write(&self.path, self.text().as_bytes(), self.rights)
    }
}

/// A complete file that waits to take the place of another. Dropped, it goes away.
pub(super) struct Staged {
    target: PathBuf,
    temporary: PathBuf,
    is_placed: bool,
}

impl Staged {
    /// Writes it beside its place, on the disk.
    pub(super) fn write(target: &Path, text: &[u8], rights: Rights) -> Result<Self, Failure> {
        let failed = |e: io::Error| Failure::io(&format!("write {}", target.display()), &e);
        let folder = folder_of(target);
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let temporary = folder.join(format!(".{name}.{}.new", std::process::id()));
        // What an earlier process of this number left behind is nobody's any more.
        let _ = std::fs::remove_file(&temporary);
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).map_err(failed)?;
        let staged = Self { target: target.to_owned(), temporary, is_placed: false };
        file.write_all(text).map_err(failed)?;
        if let Some((uid, gid)) = rights.owner {
            let now = file.metadata().map_err(failed)?;
            if (now.uid(), now.gid()) != (uid, gid) {
                std::os::unix::fs::fchown(&file, Some(uid), Some(gid)).map_err(|e| {
                    let attempt =
                        format!("keep the owner of {} (run this as its owner, or as root)", target.display());
                    Failure::io(&attempt, &e)
                })?;
            }
        }
        // After the owner: a change of owner may take bits away.
        file.set_permissions(std::fs::Permissions::from_mode(rights.mode)).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        Ok(staged)
    }

    /// Where it waits.
    pub(super) fn path(&self) -> &Path {
        &self.temporary
    }

    /// Puts it in its place.
    pub(super) fn place(mut self) -> Result<(), Failure> {
        let failed = |e: io::Error| Failure::io(&format!("write {}", self.target.display()), &e);
        std::fs::rename(&self.temporary, &self.target).map_err(failed)?;
        self.is_placed = true;
        // The name is on the disk, too, once the folder is.
        File::open(folder_of(&self.target)).and_then(|folder| folder.sync_all()).map_err(failed)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.is_placed {
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// The folder that a file is in.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(before: &str, change: impl FnOnce(&mut ConfigFile)) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sluice.toml");
        std::fs::write(&path, before).unwrap();
        let mut file = ConfigFile::open(&path).unwrap();
        change(&mut file);
        if file.is_changed() {
            file.stage().unwrap().place().unwrap();
        }
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "nothing is left beside it");
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_value_changes_in_its_place() {
        let before = "# ours\nlog = \"info\"   # loud\n\n# port\nhttp_addr=\"0.0.0.0:1\"\n# end\n";
        let after = changed(before, |file| file.set("log", "warn"));
        assert_eq!(after, before.replace("\"info\"", "\"warn\""));
        assert_eq!(changed(before, |file| file.set("log", "info")), before);
    }

    #[test]
    fn a_new_key_comes_last() {
        assert_eq!(changed("", |file| file.set("log", "warn")), "log = \"warn\"\n");
        for before in ["# only\n# comments\n", "a = 1\n\n# a comment at the end\n", "a = 1 # x\n"] {
            let after = changed(before, |file| {
                file.set("log", "warn");
                file.set("role", "edge");
            });
            assert_eq!(after, format!("{before}log = \"warn\"\nrole = \"edge\"\n"));
        }
        assert_eq!(changed("# open", |file| file.set("log", "warn")), "# open\nlog = \"warn\"\n");
    }

    #[test]
    fn line_ends_stay() {
        let before = "\u{feff}# x\r\nlog = \"info\" # c\r\n\r\na = 1\r\n";
        assert_eq!(changed(before, |_| {}), before);
        let after = changed(before, |file| {
            file.set("log", "warn");
            file.set("b", "2");
            file.remove("a");
        });
        assert_eq!(after, "\u{feff}# x\r\nlog = \"warn\" # c\r\n\r\nb = \"2\"\r\n");
    }

    #[test]
    fn comments_outlive_their_key() {
        let before = "# one\na = 1\n# two\nb = 2 # gone\n\n# three\nc = 3\n# end\n";
        let after = changed(before, |file| file.remove("b"));
        assert_eq!(after, "# one\na = 1\n# two\n\n# three\nc = 3\n# end\n");
        let after = changed(before, |file| {
            file.remove("c");
            file.remove("b");
            file.remove("b");
        });
        assert_eq!(after, "# one\na = 1\n# two\n\n# three\n# end\n");
    }

    #[test]
    fn rights_and_links_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("real.toml"), folder.path().join("link.toml"));
        std::fs::write(&path, "log = \"info\"\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let mut file = ConfigFile::open(&link).unwrap();
        file.set("log", "warn");
        file.stage().unwrap().place().unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "log = \"warn\"\n");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o640);
    }

    #[test]
    fn what_is_not_placed_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sluice.toml");
        let mut file = ConfigFile::open(&path).unwrap();
        file.set("log", "warn");
        let staged = file.stage().unwrap();
        assert!(staged.path().exists() && !path.exists());
        drop(staged);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_cannot_be_changed_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let fails = |path: &Path| ConfigFile::open(path).err().map(|f| f.message).unwrap_or_default();
        assert!(fails(folder.path()).contains("no configuration file"), "{}", fails(folder.path()));
        let path = folder.path().join("bad.toml");
        std::fs::write(&path, "a = 1\nb = \n").unwrap();
        assert!(fails(&path).contains("bad.toml:2: not valid TOML"), "{}", fails(&path));
        let dangling = folder.path().join("dangling");
        std::os::unix::fs::symlink(folder.path().join("nowhere"), &dangling).unwrap();
        assert!(!fails(&dangling).is_empty());
    }
}
