//! Which of several operators does the work: the one that holds a Lease.
//!
//! [`Election`] decides, and is told what was seen and when, by this machine's own monotonic clock: the times in the Lease are
//! other machines' and only compared for change. [`Leader`] reads and writes the Lease.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::{Instant, sleep, timeout};

use crate::client;
use crate::health::Beat;
use crate::metrics::Metrics;
use crate::settings::Settings;

mod election;
#[cfg(test)]
mod tests;

pub use election::{Election, Record, Step, Times};

/// This operator is no longer the one that does the work, and must end at once: another one may have begun.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Lost {
    /// The API server did not take a renewal for too long.
    #[error(
        "the lease {lease} could not be renewed for {silence:?} ({error}): another operator may take over, so this one ends"
    )]
    Silence {
        /// Namespace and name of the lease.
        lease: String,
        /// For how long.
        silence: Duration,
        /// The last error.
        error: String,
    },
    /// Somebody else has it.
    #[error("the lease {lease} is held by {holder} now, so this operator ends")]
    Taken {
        /// Namespace and name of the lease.
        lease: String,
        /// Who has it.
        holder: String,
    },
}

/// The lease is tried to be given up for so long.
const RELEASE: Duration = Duration::from_secs(5);

/// One of those who want the lease.
pub struct Leader {
    api: Api<Lease>,
    lease: String,
    name: String,
    election: Election,
    /// The Lease as it was seen last.
    seen: Option<Lease>,
    /// It is as our own write left it, as far as we know.
    ours_is_last: bool,
    error: String,
    beat: Beat,
    metrics: Metrics,
}

impl Leader {
    /// One that does not hold it yet.
    pub fn new(client: Client, settings: &Settings, beat: Beat, metrics: &Metrics) -> Leader {
        let (namespace, name) = (&settings.pod_namespace, &settings.lease);
        let times = Times {
            duration: settings.lease_duration,
            deadline: settings.renew_deadline,
            retry: settings.retry_period,
        };
        Leader {
            api: Api::namespaced(client, namespace),
            lease: format!("{namespace}/{name}"),
            name: name.clone(),
            // A pod that is made anew under the same name is another.
            election: Election::new(format!("{}_{:08x}", settings.pod_name, rand::random::<u32>()), times),
            seen: None,
            ours_is_last: false,
            error: String::new(),
            beat,
            metrics: metrics.clone(),
        }
    }

    /// Who this is in the lease.
    pub fn identity(&self) -> &str {
        self.election.identity()
    }

    /// Waits until it holds the lease.
    pub async fn acquire(&mut self) {
        tracing::info!(lease = %self.lease, identity = %self.identity(), "waiting for the lease");
        loop {
            self.round().await;
            if self.election.holds(Instant::now()) {
                break;
            }
            self.pause().await;
        }
        self.metrics.leader.set(1);
        tracing::info!(lease = %self.lease, "holding the lease");
    }

    /// Keeps the lease, and ends once it is lost.
    pub async fn keep(&mut self) -> Lost {
        loop {
            let now = Instant::now();
            // Not only after an answer: a request that hangs must not outlast the deadline.
            let left = self.election.left(now);
            if left.is_zero() {
                break;
            }
            let next = async {
                self.pause().await;
                self.round().await;
            };
            if timeout(left, next).await.is_err() {
                self.error = "no answer".into();
            }
            if !self.election.holds(Instant::now()) {
                break;
            }
        }
        self.metrics.leader.set(0);
        let lease = self.lease.clone();
        match self.election.other_holder() {
            Some(holder) => Lost::Taken { lease, holder: holder.to_owned() },
            None => {
                let silence = self.election.silence(Instant::now());
                let error = if self.error.is_empty() { "no answer".into() } else { self.error.clone() };
                Lost::Silence { lease, silence, error }
            }
        }
    }

    /// Gives the lease up, so that another operator need not wait. What the work has begun must have ended.
    pub async fn release(mut self) {
        self.metrics.leader.set(0);
        let ours = self.ours_is_last && self.election.holds(Instant::now());
        let Some(mut lease) = self.seen.take().filter(|_| ours) else { return };
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        // An upgrade may change what this operator may do in the same moment: worth a few attempts.
        let begun = Instant::now();
        loop {
            let answer = timeout(RELEASE, self.api.replace(&self.name, &PostParams::default(), &lease)).await;
            let error = match answer {
                Ok(Ok(_)) => return tracing::info!(lease = %self.lease, "gave the lease up"),
                Ok(Err(kube::Error::Api(status))) if [404, 409].contains(&status.code) => {
                    return tracing::info!(lease = %self.lease, "the lease is somebody else's already");
                }
                Ok(Err(error)) => client::sentence(&error),
                Err(_) => "no answer".into(),
            };
            if begun.elapsed() >= RELEASE {
                return tracing::warn!(lease = %self.lease, error, "could not give the lease up: others wait for it to expire");
            }
            sleep(RELEASE / 10).await;
        }
    }

    async fn pause(&self) {
        self.beat.touch();
        sleep(self.election.pause(rand::random::<f64>())).await;
    }

    /// Looks, and writes when it is time. Who holds the lease knows what stands in it, and only writes.
    async fn round(&mut self) {
        self.beat.touch();
        let limit = self.election.times().deadline.mul_f64(0.3);
        let step = if self.ours_is_last {
            Step::Write
        } else {
            match timeout(limit, self.look()).await {
                Ok(Ok(record)) => self.election.seen(record, Instant::now()),
                Ok(Err(error)) => self.failed(&client::sentence(&error)),
                Err(_) => self.failed("no answer"),
            }
        };
        if step == Step::Write {
            // Before the request: a write that was taken late may be old when its answer comes.
            let asked = Instant::now();
            let written = timeout(limit, self.write()).await;
            self.ours_is_last = false;
            match written {
                Ok(Ok(Some(lease))) => {
                    self.seen = Some(lease);
                    self.ours_is_last = true;
                    self.election.wrote(asked);
                }
                // Somebody else was faster: a look says who.
                Ok(Ok(None)) => match timeout(limit, self.look()).await {
                    Ok(Ok(record)) => drop(self.election.seen(record, Instant::now())),
                    Ok(Err(error)) => drop(self.failed(&client::sentence(&error))),
                    Err(_) => drop(self.failed("no answer")),
                },
                Ok(Err(error)) => drop(self.failed(&client::sentence(&error))),
                Err(_) => drop(self.failed("no answer")),
            }
        }
    }

    fn failed(&mut self, error: &str) -> Step {
        tracing::warn!(lease = %self.lease, error, "cannot read or write the lease");
        error.clone_into(&mut self.error);
        Step::Wait
    }

    async fn look(&mut self) -> Result<Option<Record>, kube::Error> {
        self.seen = self.api.get_opt(&self.name).await?;
        Ok(self.seen.as_ref().map(record))
    }

    /// The lease as it was taken; `None` when somebody else was faster.
    async fn write(&self) -> Result<Option<Lease>, kube::Error> {
        let now = MicroTime(Timestamp::now());
        let identity = self.identity();
        let times = self.election.times();
        let mut lease = self.seen.clone().unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(self.name.clone()), ..Default::default() },
            spec: None,
        });
        let is_new = self.seen.is_none();
        let spec: &mut LeaseSpec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(identity) {
            spec.lease_transitions =
                Some(spec.lease_transitions.unwrap_or(0).saturating_add(i32::from(!is_new)));
            spec.acquire_time = Some(now.clone());
        }
        spec.holder_identity = Some(identity.to_owned());
        spec.lease_duration_seconds = i32::try_from(times.duration.as_secs().max(1)).ok();
        spec.renew_time = Some(now);
        let params = PostParams::default();
        // With the resource version that was seen: whoever writes first wins.
        let written = match is_new {
            true => self.api.create(&params, &lease).await,
            false => self.api.replace(&self.name, &params, &lease).await,
        };
        match written {
            Ok(lease) => Ok(Some(lease)),
            // Also when it was deleted meanwhile: it is made anew after the next look.
            Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    Record {
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        duration: spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs),
    }
}
