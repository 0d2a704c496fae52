//! Builds the web pages (`dashboard/`) and writes the table of files that `pages.rs` embeds.
//!
//! The pages are built with npm and Vite in `OUT_DIR`; npm's packages are kept outside the source tree, under
//! `~/.cache/sluice/dashboard/`, one folder for each content of `package-lock.json`, so that only the first build
//! loads them. Vite needs a newer Node.js than Debian 12 has; where the installed one is too old, npm loads another
//! beside the packages. `SLUICE_DASHBOARD_DIST` names a folder with pages that are built already (`npm run build` makes
//! `dashboard/dist`): nothing else is needed then, neither npm nor a network.

use std::{
    collections::hash_map::DefaultHasher,
    env,
    ffi::OsString,
    fmt::Write as _,
    fs,
    hash::{Hash, Hasher},
    io, iter,
    path::{Path, PathBuf},
    process::{Command, exit},
};

/// What the pages are made of; anything else in the folder (tests' packages, editors' files) does not count.
const SOURCES: [&str; 9] = [
    "index.html",
    "play.html",
    "publish.html",
    "package.json",
    "package-lock.json",
    "vite.config.js",
    "tsconfig.json",
    "public",
    "src",
];

/// The oldest Node.js that Vite runs on, and the one that is loaded where the installed one is older.
const NODE_NEEDED: (u32, u32) = (20, 19);
const NODE_LOADED: &str = "22.23.3";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SLUICE_DASHBOARD_DIST");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let built = match env::var_os("SLUICE_DASHBOARD_DIST").filter(|dir| !dir.is_empty()) {
        Some(dir) => {
            let dir = PathBuf::from(dir);
            println!("cargo::rerun-if-changed={}", dir.display());
            Ok(dir)
        }
        None => {
            let manifest = env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
            let sources = Path::new(&manifest).join("dashboard");
            for name in SOURCES {
                println!("cargo::rerun-if-changed={}", sources.join(name).display());
            }
            build(&sources, &out.join("dashboard"))
        }
    };
    if let Err(problem) = built.and_then(|dist| write_table(&dist, &out.join("pages_table.rs"))) {
        println!("cargo::error={}", problem.replace('\n', "\ncargo::error="));
        exit(1);
    }
}

/// Builds the pages of `sources` in `work`; answers the folder that holds them.
fn build(sources: &Path, work: &Path) -> Result<PathBuf, String> {
    let tools = Tools::find()?;
    let packages = packages(sources, &tools)?;
    if work.exists() {
        fs::remove_dir_all(work).map_err(|e| failed("empty", work, &e))?;
    }
    for name in SOURCES {
        copy(&sources.join(name), &work.join(name))?;
    }
    link(&packages.join("node_modules"), &work.join("node_modules"))?;
    let dist = work.join("dist");
    run(
        tools
            .command("node")
            .arg("node_modules/vite/bin/vite.js")
            .args(["build", "--configLoader", "native", "--logLevel", "warn"])
            .env("SLUICE_DASHBOARD_OUT", &dist)
            .env("NODE_ENV", "production")
            .current_dir(work),
        "build the web pages",
    )?;
    Ok(dist)
}

/// Node.js and npm: the installed ones, or with a Node.js that npm loads when the installed one is too old.
struct Tools {
    path: OsString,
}

impl Tools {
    fn find() -> Result<Self, String> {
        let installed = Self { path: env::var_os("PATH").unwrap_or_default() };
        let way_out = format!(
            "install Node.js {}.{} or newer with npm (https://nodejs.org/), or set SLUICE_DASHBOARD_DIST to a \
             folder with the pages built elsewhere (npm ci && npm run build in node/api/dashboard makes dist/)",
            NODE_NEEDED.0, NODE_NEEDED.1
        );
        let missing = |name: &str| format!("the web pages need {name}, which is not here: {way_out}");
        let version = installed.version("node").ok_or_else(|| missing("Node.js"))?;
        installed.version("npm").ok_or_else(|| missing("npm"))?;
        let mut numbers = version.split('.').map(|n| n.parse::<u32>().unwrap_or(0));
        if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= NODE_NEEDED {
            return Ok(installed);
        }
        let arch = match env::consts::ARCH {
            "x86_64" => "x64",
            "aarch64" => "arm64",
            _ => return Err(format!("the web pages need a newer Node.js than {version}: {way_out}")),
        };
        let package = format!("node-{}-{arch}", env::consts::OS.replace("macos", "darwin"));
        let folder = once(&format!("node-{NODE_LOADED}-{arch}"), "node_modules", |folder| {
            fs::create_dir_all(folder).map_err(|e| failed("make", folder, &e))?;
            run(
                installed.npm("install").arg("--prefix").arg(folder).arg(format!("{package}@{NODE_LOADED}")),
                &format!("load Node.js {NODE_LOADED} in place of {version} ({way_out})"),
            )
        })?;
        // npm runs on it too: it leaves out packages that the Node.js under it is too old for.
        let bin = folder.join("node_modules").join(package).join("bin");
        let path = env::join_paths(iter::once(bin).chain(env::split_paths(&installed.path)))
            .map_err(|e| format!("cannot put Node.js {NODE_LOADED} into PATH: {e}"))?;
        Ok(Self { path })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("PATH", &self.path);
        command
    }

    fn npm(&self, verb: &str) -> Command {
        let mut npm = self.command("npm");
        npm.args([verb, "--no-audit", "--no-fund", "--loglevel=error"]);
        npm
    }

    fn version(&self, program: &str) -> Option<String> {
        let answer = self.command(program).arg("--version").output().ok()?;
        Some(String::from_utf8_lossy(&answer.stdout).trim().trim_start_matches('v').to_owned())
    }
}

/// The folder whose `node_modules` fits `package-lock.json`; loaded when it is not there yet.
fn packages(sources: &Path, tools: &Tools) -> Result<PathBuf, String> {
    let lock_path = sources.join("package-lock.json");
    let lock = fs::read(&lock_path).map_err(|e| failed("read", &lock_path, &e))?;
    let key = format!("{:016x}", hash(&(&lock, env::consts::ARCH)));
    once(&key, "node_modules/vite/bin/vite.js", |folder| {
        for name in ["package.json", "package-lock.json"] {
            copy(&sources.join(name), &folder.join(name))?;
        }
        run(
            tools.npm("ci").arg("--omit=dev").current_dir(folder),
            "load the packages that the web pages need (npm ci; it needs the npm registry once)",
        )
    })
}

/// The folder `key` of the cache; `load` fills it when it does not hold `proof` yet.
///
/// Builds for other profiles may run at the same time: one loads, the others wait for it.
fn once(key: &str, proof: &str, load: impl FnOnce(&Path) -> Result<(), String>) -> Result<PathBuf, String> {
    let cache = cache_dir()?.join("sluice/dashboard");
    let ready = cache.join(key);
    fs::create_dir_all(&cache).map_err(|e| failed("make", &cache, &e))?;
    let guard_path = cache.join(format!("{key}.lock"));
    let guard = fs::File::create(&guard_path).map_err(|e| failed("make", &guard_path, &e))?;
    guard.lock().map_err(|e| failed("lock", &guard_path, &e))?;
    if ready.join(proof).exists() {
        return Ok(ready);
    }
    let loading = cache.join(format!("{key}.loading"));
    for stale in [&loading, &ready] {
        if stale.exists() {
            fs::remove_dir_all(stale).map_err(|e| failed("remove", stale, &e))?;
        }
    }
    load(&loading)?;
    fs::rename(&loading, &ready).map_err(|e| failed("rename", &loading, &e))?;
    Ok(ready)
}

fn cache_dir() -> Result<PathBuf, String> {
    let set = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache"))).ok_or_else(|| {
        "the web pages need a place for npm's packages: set HOME or XDG_CACHE_HOME, or give built pages in \
         SLUICE_DASHBOARD_DIST"
            .to_owned()
    })
}

/// Runs a command; a failure carries what it printed.
fn run(command: &mut Command, purpose: &str) -> Result<(), String> {
    let answer = command.output().map_err(|e| format!("cannot {purpose}: {command:?}: {e}"))?;
    if answer.status.success() {
        return Ok(());
    }
    Err(format!(
        "cannot {purpose}: {command:?} ended with {}\n{}{}",
        answer.status,
        String::from_utf8_lossy(&answer.stdout),
        String::from_utf8_lossy(&answer.stderr)
    ))
}

/// Copies a file, or a folder with all that is in it.
fn copy(from: &Path, to: &Path) -> Result<(), String> {
    if from.is_dir() {
        for entry in sorted_entries(from)? {
            if let Some(name) = entry.file_name() {
                copy(&entry, &to.join(name))?;
            }
        }
        return Ok(());
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(|e| failed("make", parent, &e))?;
    }
    fs::copy(from, to).map(drop).map_err(|e| failed("copy", from, &e))
}

#[cfg(unix)]
fn link(target: &Path, at: &Path) -> Result<(), String> {
    std::os::unix::fs::symlink(target, at).map_err(|e| failed("link", at, &e))
}

#[cfg(not(unix))]
fn link(target: &Path, at: &Path) -> Result<(), String> {
    copy(target, at)
}

/// Writes the Rust expression of the table that `pages.rs` includes: one `Asset` for each file.
fn write_table(dist: &Path, table: &Path) -> Result<(), String> {
    let dist = fs::canonicalize(dist).map_err(|e| failed("read", dist, &e))?;
    for page in ["index.html", "play.html", "publish.html"] {
        if !dist.join(page).is_file() {
            return Err(format!(
                "{} holds no {page}: it should be the folder that `npm run build` in node/api/dashboard makes",
                dist.display()
            ));
        }
    }
    let mut files = Vec::new();
    collect(&dist, &mut files)?;
    let mut code = String::from("&[\n");
    for file in &files {
        let bytes = fs::read(file).map_err(|e| failed("read", file, &e))?;
        let relative = file.strip_prefix(&dist).map_err(|e| format!("{}: {e}", file.display()))?;
        let path = format!("/{}", relative.to_string_lossy().replace('\\', "/"));
        let Some(content_type) = content_type(&path) else { continue };
        writeln!(
            code,
            "    Asset {{ path: {path:?}, content_type: {content_type:?}, bytes: include_bytes!({file:?}), \
             etag: \"\\\"{:016x}\\\"\", immutable: {} }},",
            hash(&bytes),
            path.starts_with("/assets/")
        )
        .map_err(|e| e.to_string())?;
    }
    code.push_str("]\n");
    fs::write(table, code).map_err(|e| failed("write", table, &e))
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    for entry in sorted_entries(dir)? {
        if entry.is_dir() {
            collect(&entry, files)?;
        } else {
            files.push(entry);
        }
    }
    Ok(())
}

fn sorted_entries(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(dir).map_err(|e| failed("read", dir, &e))?;
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(|e| failed("read", dir, &e))?.path());
    }
    paths.sort();
    Ok(paths)
}

/// The type to serve a file with; files of no known type (source maps, notes) are left out.
fn content_type(path: &str) -> Option<&'static str> {
    Some(match path.rsplit_once('.')?.1 {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "webmanifest" => "application/manifest+json",
        "woff2" => "font/woff2",
        _ => return None,
    })
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn failed(verb: &str, path: &Path, error: &io::Error) -> String {
    format!("cannot {verb} {}: {error}", path.display())
}
