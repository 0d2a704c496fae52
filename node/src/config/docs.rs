//! docs/configuration.md, written from the table of settings.

use std::fmt::Write;

use super::rules::Shape;
use super::settings::{SETTINGS, Setting};

const INTRODUCTION: &str = "# Configuration

<!-- Written by `make docs` from node/src/config/settings.rs: change it there. -->

Every setting has a key in the TOML file, an environment variable and a flag. A flag goes before the environment,
the environment before the file, the file before the default.

```sh
sluice-node run --config /etc/sluice/sluice.toml --http-addr 127.0.0.1:8080
SLUICE_LOG=debug sluice-node run
sluice-node config check --config FILE   # says what is wrong, and starts nothing
sluice-node config print                 # every setting, its value and where that came from
sluice-node config import red5.properties -o FILE   # from Ant Media Server's, naming what has no counterpart
sluice-node mode                         # alone or in a cluster? `mode cluster URI` and `mode standalone` change it
```

- No file is read unless `--config FILE` or `SLUICE_CONFIG` names one.
- A key that does not exist, or a value that is not right, in the file or on the command line, is refused, with its
  place and what was expected; so is a wrong value in the environment. A `SLUICE_` variable that does not exist is
  warned about, and one that is empty counts as not set.
- Secrets have a second form whose name ends in `_file` (`SLUICE_ADMIN_TOKEN_FILE`, `admin_token_file`,
  `--admin-token-file`): the path of a file with the secret, white space around it not counted. Prefer it: flags can be
  seen by every user of the machine.
- Time spans have a unit (`200ms`, `2s`, `5m`, `1h`); a bare number is seconds. Sizes are `32KiB`, `64MiB`, or bytes.
- Lists are TOML lists or text with commas. Addresses are IPv4 or IPv6: `0.0.0.0:5080` listens on `[::]:5080` too where
  the host has IPv6, `[::]:5080` alone is dual stack, `localhost:5080` is both loopback addresses, a list takes any of
  them.
- Relative paths start at the working directory.
- A change takes effect at the next start, except the contents of certificate files and of `admin_token_file`, which are
  read again when they change. Settings marked *live* can be changed while the node runs by the operator of a Kubernetes cluster.
- `sluice-node mode` changes what a node needs to be in a cluster, and keeps the rest of the file; see
  [From Ant Media Server](migrate.md).
- HLS settings here are defaults: an app or a stream may have its own, set over REST.
";

/// The page, complete.
#[must_use]
pub fn markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    let mut group = "";
    for setting in SETTINGS {
        if setting.group != group {
            group = setting.group;
            let _ = write!(
                page,
                "\n## {group}\n\n| Key | Environment and flag | Default | Meaning |\n|---|---|---|---|\n"
            );
        }
        row(setting, &mut page);
    }
    page.push_str("\n## Example\n\n```toml\n");
    for key in ["data_dir", "http_addr", "trusted_proxies", "stream_linger", "hls_list_size", "log_format"] {
        for setting in SETTINGS.iter().filter(|setting| setting.key == key) {
            let value = match (key, (setting.shape)()) {
                ("trusted_proxies", _) => r#"["10.0.0.0/8"]"#.to_owned(),
                ("hls_list_size", _) => setting.default.to_owned(),
                (_, Shape::List) => format!("[{:?}]", setting.default),
                _ => format!("{:?}", setting.default),
            };
            let _ = writeln!(page, "{key} = {value}");
        }
    }
    page.push_str("admin_token_file = \"/etc/sluice/admin-token\"\n```\n");
    page
}

fn row(setting: &Setting, page: &mut String) {
    let default = match setting.default {
        "" => "–".to_owned(),
        default => format!("`{default}`"),
    };
    let file_form = if setting.secret { " Secret, has a `_file` form." } else { "" };
    let live = if setting.live { " *Live.*" } else { "" };
    let summary = setting.summary();
    let expected = (setting.expected)().replace('|', "\\|");
    let _ = writeln!(
        page,
        "| `{}` | `{}` `--{}` | {default} | {summary}{file_form}{live} *Expected:* {expected}. |",
        setting.key,
        setting.env(),
        setting.flag(),
    );
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// With `SLUICE_WRITE_DOCS=1` (`make docs`) it writes the page.
    #[test]
    fn the_page_is_up_to_date() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
        if std::env::var_os("SLUICE_WRITE_DOCS").is_some() {
            std::fs::write(&path, markdown()).expect("docs/ can be written");
        }
        let page = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(page == markdown(), "docs/configuration.md is not what the settings say: run `make docs`");
    }
}
