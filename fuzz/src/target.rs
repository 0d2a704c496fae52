use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::meter;

/// A parser of network input and what is promised of it.
#[derive(Debug)]
pub struct Target {
    /// Its name, which is also that of its folder in `corpus/`.
    pub name: &'static str,
    /// Takes any bytes; panics when a promise is broken.
    pub run: fn(&[u8]),
    /// The memory that it may hold for an input.
    pub memory: Budget,
    /// Folders of other targets whose inputs are of the same form.
    pub also: &'static [&'static str],
    /// What is worth trying in mutated inputs.
    pub words: &'static [&'static [u8]],
}

/// Memory as a function of the length of an input.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Bytes for any input.
    pub fixed: usize,
    /// Bytes for each byte of input.
    pub per_byte: usize,
}

impl Budget {
    fn of(self, length: usize) -> usize {
        self.fixed + self.per_byte * length
    }
}

/// Why an input failed.
#[derive(Clone, Debug)]
pub struct Failure(pub String);

/// An input that takes less wall time than this is not looked at closer.
const QUICK: Duration = Duration::from_millis(100);
/// The processor time that an input may take: far more than any honest one of this size needs.
const SLOW: Duration = Duration::from_millis(500);
/// What may be left behind: lazily made statics, and what the runtime keeps for a thread.
const LEFT: usize = 64 << 10;

impl Target {
    /// Runs the target on `data`, and checks the memory and time that it took.
    ///
    /// # Errors
    /// When it panics, holds more than its budget, keeps memory, or takes too long.
    pub fn check(&self, data: &[u8]) -> Result<(), Failure> {
        let began = Instant::now();
        let (outcome, used) = meter::memory(|| catch_unwind(AssertUnwindSafe(|| (self.run)(data))));
        let took = began.elapsed();
        if outcome.is_err() {
            return Err(Failure(PANIC.take()));
        }
        if used.peak > self.memory.of(data.len()) {
            return Err(Failure(format!(
                "held {} bytes at once for an input of {}, allowed are {}",
                used.peak,
                data.len(),
                self.memory.of(data.len())
            )));
        }
        if used.left > LEFT {
            let ((), again) = meter::memory(|| (self.run)(data));
            if again.left > LEFT {
                return Err(Failure(format!("{} bytes are left behind each time", again.left)));
            }
        }
        if took > QUICK {
            // Other processes may have been in the way: the best of three counts, in processor time.
            let best = (0..3).map(|_| self.time(data)).min().unwrap_or_default();
            if best > SLOW {
                return Err(Failure(format!("takes {best:?} of processor time for {} bytes", data.len())));
            }
        }
        Ok(())
    }

    /// The processor time for one run.
    fn time(&self, data: &[u8]) -> Duration {
        let before = meter::cpu();
        (self.run)(data);
        meter::cpu().saturating_sub(before)
    }
}

thread_local! {
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps panics of targets off the screen: [`Target::check`] tells about them.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| {
        PANIC.set(info.to_string());
    }));
}

/// The target of a name.
pub fn find(name: &str) -> Option<&'static Target> {
    crate::TARGETS.iter().find(|t| t.name == name)
}

/// Runs a target for libFuzzer, which wants failures to be panics.
///
/// # Panics
/// When there is no such target, or the input fails.
pub fn libfuzzer(name: &str, data: &[u8]) {
    let Some(target) = find(name) else { panic!("there is no target {name}") };
    let ((), used) = meter::memory(|| (target.run)(data));
    let allowed = target.memory.of(data.len());
    assert!(
        used.peak <= allowed,
        "held {} bytes at once for an input of {}, allowed are {allowed}",
        used.peak,
        data.len()
    );
}
