//! Days: who comes when, and for how long, drawn from a seed.

/// Seconds before the day in which it fills.
pub(crate) const BEFORE: i64 = 2 * HOUR;
/// Where it ends.
pub(crate) const END: i64 = BEFORE + 24 * HOUR;
const HOUR: i64 = 3600;

/// What a session is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A publisher: it stays on its pod.
    Publisher,
    /// A viewer who asks again and again (HLS): moves when its pod drains.
    Moves,
    /// A viewer on a connection (RTMP): it stays on its pod.
    Stays,
}

/// A session that somebody wants.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) from: i64,
    pub(crate) until: i64,
    pub(crate) kind: Kind,
}

pub(crate) struct Day {
    pub(crate) name: &'static str,
    pub(crate) viewers: Vec<Wanted>,
    pub(crate) publishers: Vec<Wanted>,
}

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// From 0 to 1, and neither of them.
    fn share(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    pub(crate) fn seconds(&mut self, from: i64, to: i64) -> i64 {
        from + self.below((to - from + 1) as usize) as i64
    }

    fn poisson(&mut self, mean: f64) -> usize {
        let (limit, mut product, mut count) = ((-mean).exp(), self.share(), 0);
        while product > limit {
            product *= self.share();
            count += 1;
        }
        count
    }
}

/// Who they are: how long a session is on average and at most, seconds, and which share of them stays on its pod.
#[derive(Clone, Copy)]
struct People {
    mean: f64,
    most: f64,
    staying: f64,
    publish: bool,
}

const VIEWERS: People = People { mean: 1200.0, most: 10_800.0, staying: 0.15, publish: false };
const PUBLISHERS: People = People { mean: 3600.0, most: 21_600.0, staying: 1.0, publish: true };

impl People {
    fn one(self, random: &mut Random, from: i64) -> Wanted {
        let length = (-random.share().ln() * self.mean).clamp(30.0, self.most);
        let kind = match self.publish {
            true => Kind::Publisher,
            false if random.share() < self.staying => Kind::Stays,
            false => Kind::Moves,
        };
        Wanted { from, until: from + length as i64, kind }
    }

    /// As many come as keep their number at `number(second of the day)`.
    fn follow(self, random: &mut Random, number: impl Fn(f64) -> f64) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        for second in 0..END {
            let time = (second - BEFORE) as f64;
            let filling = if second == 0 { number(time) } else { 0.0 };
            let rate = number(time) / self.mean + number(time + 1.0) - number(time) + filling;
            for _ in 0..random.poisson(rate.max(0.0)) {
                wanted.push(self.one(random, second));
            }
        }
        wanted
    }

    /// A crowd that comes within `within` seconds, and of which seven of ten stay to the end of what they came for.
    fn crowd(self, random: &mut Random, number: usize, hour: f64, within: i64, length: i64) -> Vec<Wanted> {
        let start = BEFORE + (hour * 3600.0) as i64;
        let mut crowd: Vec<Wanted> = (0..number)
            .map(|_| {
                let from = start + random.seconds(0, within);
                let mut one = self.one(random, from);
                if random.share() < 0.7 {
                    one.until = start + length + random.seconds(0, 600);
                }
                one
            })
            .collect();
        crowd.sort_by_key(|one| one.from);
        crowd
    }
}

fn merged(parts: Vec<Vec<Wanted>>) -> Vec<Wanted> {
    let mut all = parts.concat();
    all.sort_by_key(|one| one.from);
    all
}

/// A quiet day; at 14:00 a crowd, at 20:00 a large one within three minutes.
fn flash_crowd(random: &mut Random) -> Day {
    let viewers = merged(vec![
        VIEWERS.follow(random, |_| 300.0),
        VIEWERS.crowd(random, 1000, 14.0, 300, 3600),
        VIEWERS.crowd(random, 2500, 20.0, 180, 6000),
    ]);
    let publishers =
        merged(vec![PUBLISHERS.follow(random, |_| 30.0), PUBLISHERS.crowd(random, 80, 20.0, 300, 6000)]);
    Day { name: "flash crowd", viewers, publishers }
}

/// Every three hours more and more come; at the end most go within five minutes.
fn sawtooth(random: &mut Random) -> Day {
    const TOOTH: i64 = 3 * HOUR;
    let tooth = |low: f64, high: f64| {
        move |time: f64| low + (high - low) * (time.rem_euclid(TOOTH as f64) / TOOTH as f64)
    };
    let ended = |random: &mut Random, mut all: Vec<Wanted>| {
        for one in &mut all {
            let end = (one.from - BEFORE).div_euclid(TOOTH) * TOOTH + TOOTH + BEFORE;
            if random.share() < 0.85 {
                one.until = one.until.min(end + random.seconds(0, 300));
            }
        }
        all
    };
    let viewers = VIEWERS.follow(random, tooth(300.0, 1800.0));
    let viewers = ended(random, viewers);
    let publishers = PUBLISHERS.follow(random, tooth(20.0, 120.0));
    let publishers = ended(random, publishers);
    Day { name: "sawtooth", viewers, publishers }
}

/// A day with its evening and its night.
fn slow_night(random: &mut Random) -> Day {
    let day = |low: f64, high: f64| {
        move |time: f64| {
            let wave = 0.5 + 0.5 * (std::f64::consts::TAU * (time / 86_400.0 - 20.0 / 24.0)).cos();
            low + (high - low) * wave.powf(1.5)
        }
    };
    let viewers = VIEWERS.follow(random, day(100.0, 2000.0));
    let publishers = PUBLISHERS.follow(random, day(10.0, 160.0));
    Day { name: "slow night", viewers, publishers }
}

pub(crate) fn days() -> Vec<Day> {
    let mut random = Random(20_261_121);
    vec![flash_crowd(&mut random), sawtooth(&mut random), slow_night(&mut random)]
}
