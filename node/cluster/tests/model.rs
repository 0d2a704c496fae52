//! A simulated world around the real directory and the real claims: origins, edges, a store, publishers, and everything
//! that goes wrong between them, in virtual time. Each run is a function of its seed.
//!
//! `SLUICE_TEST_MODEL_RUNS=100000` for more runs; `SLUICE_TEST_MODEL_SEED=…` for one of them again, with a trace on
//! standard error.

mod model {
    pub(crate) mod check;
    pub(crate) mod node;
    pub(crate) mod publish;
    pub(crate) mod store;
    pub(crate) mod world;
}

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use model::world::{Tally, World};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().unwrap_or_else(|_| panic!("{name}={v} is not a number")))
}

fn run(seed: u64, traced: bool) -> Tally {
    let result = catch_unwind(AssertUnwindSafe(|| World::new(seed, traced).run()));
    result.unwrap_or_else(|_| {
        panic!("seed {seed} failed; again: SLUICE_TEST_MODEL_SEED={seed} cargo test -p sluice-cluster --test model")
    })
}

#[test]
fn whatever_breaks_each_stream_has_one_owner_in_the_end() {
    if let Some(seed) = number("SLUICE_TEST_MODEL_SEED") {
        println!("{:?}", run(seed, true));
        return;
    }
    let runs = number("SLUICE_TEST_MODEL_RUNS").unwrap_or(3000);
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let tallies = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut tally = Tally::default();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= runs {
                            return tally;
                        }
                        tally.add(&run(seed, false));
                    }
                })
            })
            .collect();
        workers.into_iter().map(|w| w.join()).collect::<Vec<_>>()
    });
    let mut all = Tally::default();
    for tally in tallies {
        all.add(&tally.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
    }
    println!("{runs} runs: {all:?}");
    // The world was as rough as it is meant to be; otherwise nothing was tested.
    assert_eq!(all.runs, runs);
    let each = |n: u64| n * 10 >= runs;
    assert!(each(all.crashes) && each(all.cuts) && each(all.outages) && each(all.displaced), "{all:?}");
    assert!(each(all.claims) && each(all.yields) && each(all.local_leases) && each(all.orphans), "{all:?}");
    assert!(all.fenced > 0 && all.behind > 0 && all.kept > 0 && all.emptied > 0, "{all:?}");
}

#[test]
fn a_run_is_a_function_of_its_seed() {
    for seed in [1, 2, 3] {
        assert_eq!(run(seed, false), run(seed, false));
    }
}
