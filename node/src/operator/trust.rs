//! The operator's CA: read from a file, read again when that changes. It may come later than the node, and it may be
//! replaced while the node runs.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sluice_cluster::identity::ClusterTls;

/// How often the file is looked at. Kubernetes brings a changed ConfigMap into a pod within about a minute.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A file of certificates is no longer than this.
const LONGEST: u64 = 256 << 10;

/// The file, and what of it is in use.
pub(crate) struct Trust {
    path: PathBuf,
    tls: ClusterTls,
    /// As it was last read, right or wrong.
    seen: Option<Vec<u8>>,
    /// What was last said to be wrong: said once.
    said: Option<String>,
}

impl Trust {
    /// Reads the file for the first time. One that is not there or is wrong is warned about: the node runs without it.
    pub(crate) fn new(path: PathBuf, tls: ClusterTls) -> Self {
        let mut trust = Trust { path, tls, seen: None, said: None };
        trust.look();
        trust
    }

    /// Follows the file for ever.
    pub(crate) async fn follow(mut self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.look();
        }
    }

    /// A read of some hundred bytes from memory or a local disk.
    fn look(&mut self) {
        let wrong = match read(&self.path) {
            Ok(pem) if self.seen.as_ref() == Some(&pem) => return,
            Ok(pem) => {
                let taken = self.tls.trust_operator(Some(&pem));
                self.seen = Some(pem);
                taken.err().map(|why| why.to_string())
            }
            Err(why) => Some(why.to_string()),
        };
        match wrong {
            None => {
                tracing::info!(file = %self.path.display(), "the operator's CA is in use");
                self.said = None;
            }
            Some(why) if self.said.as_ref() != Some(&why) => {
                let file = self.path.display();
                tracing::warn!(%file, %why, "the operator's CA cannot be used; who was let in before still is");
                self.said = Some(why);
            }
            Some(_) => {}
        }
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut pem = Vec::new();
    std::fs::File::open(path)?.take(LONGEST).read_to_end(&mut pem)?;
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use sluice_cluster::identity::{NodeId, OperatorAuthority};

    use super::*;

    #[test]
    fn the_file_may_come_later_and_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("operator-ca.crt");
        let tls = ClusterTls::from_key(b"a key for tests, long enough", &NodeId::new("n")).unwrap();
        let mut trust = Trust::new(path.clone(), tls);
        assert!(trust.said.is_some() && trust.seen.is_none());
        for _ in 0..2 {
            std::fs::write(&path, OperatorAuthority::generate().unwrap().certificate_pem()).unwrap();
            trust.look();
            assert_eq!(trust.said, None);
        }
        std::fs::write(&path, "nonsense").unwrap();
        trust.look();
        assert!(trust.said.as_ref().is_some_and(|why| why.contains("PEM")), "{:?}", trust.said);
    }
}
