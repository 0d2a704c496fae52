//! The controller of HorizontalPodAutoscalers as in Kubernetes 1.35 (`pkg/controller/podautoscaler`): one metric, asked every 15 s.

/// How often it looks, seconds.
pub(crate) const SYNC: i64 = 15;
/// For how long after its start a pod's CPU is told from that of its start (`--horizontal-pod-autoscaler-cpu-initialization-period`).
const CPU_INITIALIZATION: i64 = 300;

/// How far usage may be from the target.
#[derive(Clone, Copy)]
pub(crate) struct Tolerances {
    pub(crate) down: f64,
    pub(crate) up: f64,
}

impl Tolerances {
    fn within(self, ratio: f64) -> bool {
        1.0 - self.down <= ratio && ratio <= 1.0 + self.up
    }
}

/// So many in a period of seconds.
#[derive(Clone, Copy)]
pub(crate) enum Policy {
    Pods(i64, i64),
    Percent(i64, i64),
}

impl Policy {
    fn period(self) -> i64 {
        let (Policy::Pods(_, period) | Policy::Percent(_, period)) = self;
        period
    }
}

/// How fast, in one direction.
#[derive(Clone)]
pub(crate) struct Rules {
    pub(crate) window: i64,
    pub(crate) policies: Vec<Policy>,
    /// Of several policies the one that changes least (`selectPolicy: Min`).
    pub(crate) least: bool,
}

/// `spec.behavior`.
#[derive(Clone)]
pub(crate) struct Behavior {
    pub(crate) up: Rules,
    pub(crate) down: Rules,
}

pub(crate) struct Hpa {
    pub(crate) min: i64,
    pub(crate) max: i64,
    pub(crate) tolerances: Tolerances,
    /// `None`: the controller's defaults.
    pub(crate) behavior: Option<Behavior>,
    recommendations: Vec<(i64, i64)>,
    added: Vec<(i64, i64)>,
    removed: Vec<(i64, i64)>,
}

impl Hpa {
    pub(crate) fn new(min: i64, max: i64, tolerances: Tolerances, behavior: Option<Behavior>) -> Hpa {
        Hpa {
            min,
            max,
            tolerances,
            behavior,
            recommendations: Vec::new(),
            added: Vec::new(),
            removed: Vec::new(),
        }
    }

    /// What it writes to `spec.replicas`, which is `current`, when it works out `metric`; `None` when there is no metric.
    pub(crate) fn sync(&mut self, now: i64, current: i64, metric: Option<i64>) -> i64 {
        if self.recommendations.is_empty() {
            self.recommendations.push((now, current));
        }
        let written = if current == 0 {
            0
        } else if current > self.max {
            self.max
        } else if current < self.min {
            self.min
        } else {
            let Some(wanted) = metric else { return current };
            match self.behavior.clone() {
                Some(behavior) => self.with_behavior(now, current, wanted, &behavior),
                None => self.without_behavior(now, current, wanted),
            }
        };
        match written.cmp(&current) {
            std::cmp::Ordering::Greater => self.added.push((now, written - current)),
            std::cmp::Ordering::Less => self.removed.push((now, current - written)),
            std::cmp::Ordering::Equal => {}
        }
        let recent = |(at, _): &(i64, i64)| now - at <= 3600;
        self.recommendations.retain(recent);
        self.added.retain(recent);
        self.removed.retain(recent);
        written
    }

    fn without_behavior(&mut self, now: i64, current: i64, wanted: i64) -> i64 {
        let recent = self.recommendations.iter().filter(|(at, _)| *at >= now - 300);
        let stable = recent.map(|(_, pods)| *pods).fold(wanted, i64::max);
        self.recommendations.push((now, wanted));
        let most = self.max.min((2 * current).max(4));
        if stable < self.min { self.min } else { stable.min(most) }
    }

    fn with_behavior(&mut self, now: i64, current: i64, wanted: i64, behavior: &Behavior) -> i64 {
        let since = |window: i64| self.recommendations.iter().filter(move |(at, _)| *at > now - window);
        let up = since(behavior.up.window).map(|(_, pods)| *pods).fold(wanted, i64::min);
        let down = since(behavior.down.window).map(|(_, pods)| *pods).fold(wanted, i64::max);
        let stable = current.max(up).min(down);
        self.recommendations.push((now, wanted));
        if stable > current {
            let limit = self.limit(now, current, &behavior.up, 1).max(current);
            stable.min(self.max.min(limit))
        } else if stable < current {
            let limit = self.limit(now, current, &behavior.down, -1).min(current);
            stable.max(self.min.max(limit))
        } else {
            stable
        }
    }

    fn limit(&self, now: i64, current: i64, rules: &Rules, sign: i64) -> i64 {
        let changed = |events: &[(i64, i64)], period: i64| {
            events.iter().filter(|(at, _)| *at > now - period).map(|(_, pods)| pods).sum::<i64>()
        };
        let limits = rules.policies.iter().map(|policy| {
            let period = policy.period();
            let start = current - changed(&self.added, period) + changed(&self.removed, period);
            match policy {
                Policy::Pods(pods, _) => start + sign * pods,
                Policy::Percent(percent, _) => {
                    let limit = start as f64 * (1.0 + (sign * percent) as f64 / 100.0);
                    if sign > 0 { limit.ceil() as i64 } else { limit as i64 }
                }
            }
        });
        let most = (sign > 0) != rules.least;
        if most { limits.max() } else { limits.min() }.expect("there are policies")
    }
}

/// An Object metric with an AverageValue (`GetObjectPerPodMetricReplicas`).
pub(crate) fn object_average(usage: i64, target: i64, status_replicas: i64, tolerances: Tolerances) -> i64 {
    let ratio = usage as f64 / (target as f64 * status_replicas as f64);
    if tolerances.within(ratio) { status_replicas } else { (usage as f64 / target as f64).ceil() as i64 }
}

/// A pod's CPU as the metrics server has it.
pub(crate) struct Sample {
    /// When it was taken; it covers `window` seconds before.
    pub(crate) at: i64,
    pub(crate) window: i64,
    pub(crate) milli: i64,
}

/// A pod that is not being deleted.
pub(crate) struct CpuPod {
    pub(crate) started: i64,
    /// Since when it is ready.
    pub(crate) ready: Option<i64>,
    pub(crate) sample: Option<Sample>,
}

/// CPU as percent of what is requested (`GetResourceReplicas`).
pub(crate) fn cpu(
    pods: &[CpuPod],
    request: i64,
    target: i64,
    current: i64,
    now: i64,
    tolerances: Tolerances,
) -> Option<i64> {
    let (mut ready, mut unready, mut missing, mut milli) = (0, 0, 0, Vec::new());
    for pod in pods {
        // Before it is ready it has run nothing: its image is fetched.
        let Some(since) = pod.ready else {
            unready += 1;
            continue;
        };
        let Some(sample) = &pod.sample else {
            missing += 1;
            continue;
        };
        // Whoever was ready once stays so here.
        let young = pod.started + CPU_INITIALIZATION > now && sample.at < since + sample.window;
        if young {
            unready += 1;
        } else {
            ready += 1;
            milli.push(sample.milli);
        }
    }
    if milli.is_empty() {
        return None;
    }
    let ratio = |milli: &[i64]| {
        let used = milli.iter().sum::<i64>() * 100 / (request * milli.len() as i64);
        used as f64 / target as f64
    };
    let usage = ratio(&milli);
    let up_with_unready = unready > 0 && usage > 1.0;
    if !up_with_unready && missing == 0 {
        return Some(if tolerances.within(usage) {
            current
        } else {
            (usage * f64::from(ready)).ceil() as i64
        });
    }
    if usage < 1.0 {
        milli.extend((0..missing).map(|_| request * target.max(100) / 100));
    } else if usage > 1.0 {
        milli.extend((0..missing).map(|_| 0));
    }
    if up_with_unready {
        milli.extend((0..unready).map(|_| 0));
    }
    let new = ratio(&milli);
    if tolerances.within(new) || (usage < 1.0 && new > 1.0) || (usage > 1.0 && new < 1.0) {
        return Some(current);
    }
    let wanted = (new * milli.len() as f64).ceil() as i64;
    let turned = (new < 1.0 && wanted > current) || (new > 1.0 && wanted < current);
    Some(if turned { current } else { wanted })
}
