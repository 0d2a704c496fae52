//! Runs the targets on a stable toolchain: each over its corpus, then over mutations of it.
//!
//! ```text
//! drive [SECONDS] [--seed N] [--execs N] [--jobs N] [--target NAME]... [--file PATH]...
//! ```
//!
//! SECONDS (2 unless given) are for the mutations of each target. The same seed makes the same inputs in the same
//! order (1 unless given; 0 takes one from the clock); how many are reached depends on the machine, or on `--execs`. `--file` runs inputs and nothing else.
//! An input that fails is made smaller and written to `artifacts/`; the exit status is 1 then.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use sluice_fuzz::mutate::Mutator;
use sluice_fuzz::{Failure, Random, TARGETS, Target, find, quiet_panics};

/// A run that takes longer than this is taken for one without end.
const ENDLESS: Duration = Duration::from_secs(30);
/// How long a failing input is made smaller.
const SHRINKING: Duration = Duration::from_secs(5);

struct Options {
    seconds: f64,
    seed: u64,
    execs: u64,
    jobs: usize,
    targets: Vec<&'static Target>,
    files: Vec<PathBuf>,
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    quiet_panics();
    let failures = if options.files.is_empty() { drive(&options) } else { replay(&options) };
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    let mut o = Options { seconds: 2.0, seed: 1, execs: u64::MAX, jobs, targets: vec![], files: vec![] };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        let number = |v: String| v.parse().map_err(|_| format!("{arg} takes a number, not {v:?}"));
        match arg.as_str() {
            "--seed" => {
                let clock = || UNIX_EPOCH.elapsed().map_or(1, |now| now.as_micros() as u64);
                o.seed = match number(value()?)? {
                    0 => clock(),
                    seed => seed,
                };
            }
            "--execs" => o.execs = number(value()?)?,
            "--jobs" => o.jobs = number(value()?)?.max(1) as usize,
            "--target" => {
                let name = value()?;
                o.targets.push(find(&name).ok_or(format!("there is no target {name:?}: {}", names()))?);
            }
            "--file" => o.files.push(value()?.into()),
            _ => {
                o.seconds = arg.parse().map_err(|_| {
                    format!("{arg:?} is neither seconds nor --seed, --execs, --jobs, --target or --file")
                })?;
            }
        }
    }
    if o.targets.is_empty() {
        o.targets = TARGETS.iter().collect();
    }
    if !o.files.is_empty() && o.targets.len() != 1 {
        return Err("--file needs one --target".to_owned());
    }
    Ok(o)
}

fn names() -> String {
    TARGETS.iter().map(|t| t.name).collect::<Vec<_>>().join(", ")
}

fn replay(o: &Options) -> usize {
    let mut failures = 0;
    for path in &o.files {
        let outcome = fs::read(path).map_err(|e| Failure(e.to_string())).and_then(|d| o.targets[0].check(&d));
        match outcome {
            Ok(()) => println!("{}: ok", path.display()),
            Err(failure) => {
                failures += 1;
                println!("{}: {}", path.display(), failure.0);
            }
        }
    }
    failures
}

/// What a thread is running now, for the one that watches.
type Running = Mutex<Option<(Instant, &'static str, Vec<u8>)>>;

fn drive(o: &Options) -> usize {
    println!("fuzzing {} targets for {} s each, seed {}", o.targets.len(), o.seconds, o.seed);
    let running: Vec<Running> = (0..o.jobs).map(|_| Mutex::new(None)).collect();
    let (next, failures, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for slot in &running {
            scope.spawn(|| {
                while let Some(target) = o.targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                    failures.fetch_add(run(target, o, slot), Ordering::Relaxed);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while done.load(Ordering::Relaxed) < o.targets.len() {
            thread::sleep(Duration::from_millis(20));
            for slot in &running {
                let now = slot.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if let Some((_, name, data)) = now.filter(|(since, ..)| since.elapsed() > ENDLESS) {
                    report(name, &data, &format!("has not come back for {ENDLESS:?}"), o.seed);
                    std::process::exit(1);
                }
            }
        }
    });
    failures.into_inner()
}

/// Runs one target; the number of failures, at most one for each corpus input and one for the mutations.
fn run(target: &'static Target, o: &Options, slot: &Running) -> usize {
    let check = |data: &[u8]| {
        *slot.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Instant::now(), target.name, data.to_vec()));
        let outcome = target.check(data);
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = None;
        outcome
    };
    let corpus = corpus(target);
    let mut failures = 0;
    for data in &corpus {
        if let Err(failure) = check(data) {
            failures += 1;
            report(target.name, data, &failure.0, o.seed);
        }
    }
    let inputs = corpus.len();
    let began = Instant::now();
    let mut mutator = Mutator::new(o.seed ^ Random::of(target.name.as_bytes()).bits(), corpus, target.words);
    let mut execs = 0u64;
    while execs < o.execs && began.elapsed().as_secs_f64() < o.seconds && failures == 0 {
        let data = mutator.input();
        execs += 1;
        if let Err(failure) = check(&data) {
            failures += 1;
            let (data, failure) = shrink(data, failure, check);
            report(target.name, &data, &failure.0, o.seed);
        }
    }
    let verdict = if failures == 0 { "ok" } else { "FAILED" };
    println!(
        "{:16} {inputs:4} inputs, {execs:8} mutations in {:.1} s: {verdict}",
        target.name,
        began.elapsed().as_secs_f64()
    );
    failures
}

/// The inputs of a target's folders, in the order of their names. An empty one is always among them.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut corpus = vec![Vec::new()];
    for folder in [target.name].iter().chain(target.also) {
        let entries = fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|e| e.path()).filter(|p| p.is_file()).collect();
        paths.sort();
        corpus.extend(paths.iter().filter_map(|p| fs::read(p).ok()));
    }
    corpus
}

/// Takes pieces out of a failing input for as long as it goes on failing.
fn shrink(
    mut data: Vec<u8>,
    mut failure: Failure,
    check: impl Fn(&[u8]) -> Result<(), Failure>,
) -> (Vec<u8>, Failure) {
    let until = Instant::now() + SHRINKING;
    let mut length = data.len().next_power_of_two();
    while length > 0 && Instant::now() < until {
        let mut at = 0;
        while at < data.len() && Instant::now() < until {
            let mut less = data.clone();
            less.drain(at..(at + length).min(data.len()));
            match check(&less) {
                Err(f) => (data, failure) = (less, f),
                Ok(()) => at += length,
            }
        }
        length /= 2;
    }
    (data, failure)
}

fn report(name: &str, data: &[u8], failure: &str, seed: u64) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts").join(name);
    let path = folder.join(format!("{:016x}", Random::of(data).bits()));
    let written = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, data));
    let place = match written {
        Ok(()) => format!("run it again with: drive --target {name} --file {}", path.display()),
        Err(error) => format!("it could not be written to {}: {error}; seed {seed}", path.display()),
    };
    eprintln!("{name}: an input of {} bytes: {failure}\n  {place} (seed {seed})", data.len());
}
