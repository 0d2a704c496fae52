//! `sluice-node config import`: reads the other server's file, writes ours, and says what has no counterpart.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::file::{Rights, Staged, folder_of};
use super::mode::secret_file;
use crate::exit::{Exit, Failure};
use crate::import::{Imported, import, properties};

/// A `red5.properties` larger than this is none.
const MAX_SIZE: u64 = 1 << 20;

/// What `config import` is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The file to read.
    pub properties: PathBuf,
    /// The file to write; the standard output when left out.
    pub output: Option<PathBuf>,
    /// Write over files that are there.
    pub force: bool,
}

/// Reads and writes; the text is for the standard output, remarks go to the standard error.
///
/// # Errors
/// A file cannot be read or written, or is there already.
pub(super) fn run(wish: &Wish) -> Result<String, Failure> {
    let imported = read(&wish.properties)?;
    let name = wish.properties.display().to_string();
    let text = match &wish.output {
        None => imported.to_toml(&name, &BTreeMap::new()),
        Some(output) => write(&imported, &name, output, wish.force)?,
    };
    eprint!("{}", remarks(&imported, &name));
    Ok(text)
}

fn read(path: &Path) -> Result<Imported, Failure> {
    let failed = |e: std::io::Error| Failure::io(&format!("read {}", path.display()), &e);
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_SIZE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(Failure::new(
            Exit::Usage,
            format!("{} is larger than 1 MiB: no properties file", path.display()),
        ));
    }
    Ok(import(&properties::decode(&bytes)))
}

fn write(imported: &Imported, name: &str, output: &Path, force: bool) -> Result<String, Failure> {
    let failed = |e: std::io::Error| Failure::io(&format!("write {}", output.display()), &e);
    // The node may start in another folder.
    let output = std::path::absolute(output).map_err(failed)?;
    let folder = folder_of(&output);
    let mut files = BTreeMap::new();
    for key in imported.secrets.keys() {
        let path = folder.join(secret_file(key));
        let text = path.to_str().map(ToOwned::to_owned);
        files.insert(
            *key,
            text.ok_or_else(|| {
                Failure::new(
                    Exit::Usage,
                    format!("the path of {} is not UTF-8: give it another name", path.display()),
                )
            })?,
        );
    }
    let taken = std::iter::once(output.clone()).chain(files.values().map(PathBuf::from)).find(|p| p.exists());
    if let Some(taken) = taken.filter(|_| !force) {
        let text = format!("{} is there already: name another file with -o, or add --force", taken.display());
        return Err(Failure::new(Exit::Usage, text));
    }
    let mut staged = Vec::new();
    for (key, secret) in &imported.secrets {
        let text = format!("{}\n", secret.expose());
        staged.push(Staged::write(
            &folder.join(secret_file(key)),
            text.as_bytes(),
            Rights::secret(&[folder]),
        )?);
    }
    staged.push(Staged::write(&output, imported.to_toml(name, &files).as_bytes(), Rights::PUBLIC)?);
    let mut said = String::new();
    for file in staged {
        file.place()?;
    }
    for path in files.values() {
        said.push_str(&format!("{path} has a secret: only its owner may read it\n"));
    }
    said.push_str(&format!(
        "{} is written; check it with: sluice-node config check --config {0}\n",
        output.display()
    ));
    Ok(said)
}

/// What was left out, and what the node would still be refused for.
fn remarks(imported: &Imported, name: &str) -> String {
    let notes =
        imported.notes.iter().map(|note| format!("{name}:{}: {}: {}\n", note.line, note.key, note.text));
    let missing = imported.missing();
    let missing = missing.iter().map(|sentence| format!("still to do: {sentence}\n"));
    notes.chain(missing).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::{self, Secret, Sources};

    const TEXT: &str = "server.mode=origin\ndb.type=mongodb\ndb.host=10.0.0.5\ndb.user=u\ndb.password=s3cret\n\
                        cluster.enabled=true\nencoder.thread.count=4\n";

    #[test]
    fn a_file_becomes_ours() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("red5.properties"), folder.path().join("sluice.toml"));
        std::fs::write(&from, TEXT).unwrap();
        let wish = Wish { properties: from.clone(), output: Some(to.clone()), force: false };
        let said = run(&wish).unwrap();
        assert!(said.contains("config check --config") && !said.contains("s3cret"), "{said}");
        let flags = [("cluster_key".to_owned(), "0123456789abcdef".to_owned())].into();
        let loaded = config::load(&Sources { file: Some(to.clone()), flags, ..Sources::default() }).unwrap();
        assert_eq!(loaded.config.store_password.as_ref().map(Secret::expose), Some("s3cret"));
        let mode = |name: &str| folder.path().join(name).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("sluice.toml"), mode("store-password")), (0o644, 0o600));

        let before = std::fs::read(&to).unwrap();
        assert!(run(&wish).unwrap_err().message.contains("is there already"));
        std::fs::remove_file(&to).unwrap();
        assert!(run(&wish).unwrap_err().message.contains("store-password is there already"));
        run(&Wish { force: true, ..wish.clone() }).unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), before);

        let printed = run(&Wish { output: None, ..wish }).unwrap();
        assert!(printed.contains("role = \"origin\"") && !printed.contains("s3cret"), "{printed}");
        let remarks = remarks(&read(&from).unwrap(), "red5.properties");
        assert!(
            remarks.contains("red5.properties:7: encoder.thread.count: this version does not"),
            "{remarks}"
        );
        assert!(remarks.contains("still to do: ") && remarks.contains("cluster_key"), "{remarks}");
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(&folder.path().join("none")).unwrap_err().message.contains("cannot read"));
        assert!(read(folder.path()).is_err());
        let large = folder.path().join("large");
        std::fs::write(&large, vec![b'a'; (MAX_SIZE + 1) as usize]).unwrap();
        assert!(read(&large).unwrap_err().message.contains("larger than 1 MiB"));
    }
}
