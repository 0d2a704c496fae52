//! What the samples become, compared with files. `SLUICE_GOLDEN=write` writes them anew, for a person to read the difference.

use serde::Serialize;
use serde_json::Value;
use sluice_crds::{EdgePool, MediaCluster, OriginPool};

use super::{pinned, repository, served, site};
use crate::{Cluster, Pool, apps, claim, cluster_objects, live_settings, pod, pool_objects};
use crate::{ClusterObjects, PoolObjects, Served, TEMPLATE};

/// The resources of a sample, stored by the API server.
struct Sample {
    cluster: Cluster,
    pools: Vec<Pool>,
}

fn sample(name: &str) -> Sample {
    let mut documents: Vec<Value> = Vec::new();
    let folder = repository("config/samples").join(name);
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).expect("the sample").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("text");
        documents.extend(serde_saphyr::from_multiple::<Value>(&text).expect("YAML"));
    }
    let of_kind = |kind: &str| -> Vec<Value> {
        let mut found: Vec<Value> = documents.iter().filter(|one| one["kind"] == kind).cloned().collect();
        for one in &mut found {
            one["metadata"]["uid"] =
                format!("uid-of-{}", one["metadata"]["name"].as_str().expect("a name")).into();
        }
        found
    };
    let read = |value: Value| serde_json::from_value::<MediaCluster>(value).expect("a MediaCluster");
    let cluster = of_kind("MediaCluster").into_iter().map(read).next().expect("one");
    let cluster = Cluster::new(&cluster, &pinned()).expect("a sample is right");
    let mut pools: Vec<Pool> = Vec::new();
    for value in of_kind("OriginPool") {
        let pool: OriginPool = serde_json::from_value(value).expect("an OriginPool");
        pools.push(Pool::new(&pool, &cluster).expect("a sample is right"));
    }
    for value in of_kind("EdgePool") {
        let pool: EdgePool = serde_json::from_value(value).expect("an EdgePool");
        pools.push(Pool::new(&pool, &cluster).expect("a sample is right"));
    }
    Sample { cluster, pools }
}

#[derive(Default)]
struct Document(String);

impl Document {
    fn add(&mut self, object: &impl Serialize) {
        // By way of a value: the order of fields is then the same whatever type it was.
        let value = serde_json::to_value(object).expect("JSON");
        self.0.push_str("---\n");
        self.0.push_str(&serde_saphyr::to_string(&value).expect("YAML"));
    }

    fn all(&mut self, objects: &[impl Serialize]) {
        for object in objects {
            self.add(object);
        }
    }

    fn cluster(&mut self, objects: ClusterObjects) {
        let ClusterObjects {
            watch,
            publish,
            publish_media,
            service_account,
            trust,
            policies,
            ingress,
            routes,
            certificate,
            service_monitor,
            prometheus_rule,
            missing,
        } = objects;
        self.add(&watch);
        self.add(&publish);
        self.all(publish_media.as_slice());
        self.add(&service_account);
        self.add(&trust);
        self.all(&policies);
        self.all(ingress.as_slice());
        self.all(&routes);
        self.all(certificate.as_slice());
        self.all(service_monitor.as_slice());
        self.all(prometheus_rule.as_slice());
        assert_eq!(missing, Vec::<String>::new());
    }

    fn pool(&mut self, objects: PoolObjects) {
        let PoolObjects { new_sessions, headless, media, exposures, config, budget, autoscaler } = objects;
        self.add(&new_sessions);
        self.add(&headless);
        self.add(&media);
        self.all(&exposures);
        self.add(&config);
        self.add(&budget);
        self.all(autoscaler.as_slice());
    }

    fn check(self, name: &str) {
        let path = repository("operator/objects/src/tests/golden").join(format!("{name}.yaml"));
        if std::env::var("SLUICE_GOLDEN").as_deref() == Ok("write") {
            std::fs::write(&path, &self.0).expect("written");
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        for (number, (is, was)) in self.0.lines().zip(golden.lines()).enumerate() {
            assert_eq!(is, was, "line {} of {}", number + 1, path.display());
        }
        assert_eq!(self.0.lines().count(), golden.lines().count(), "{}", path.display());
    }
}

fn named<'a>(sample: &'a Sample, name: &str) -> &'a Pool {
    sample.pools.iter().find(|pool| pool.name() == name).expect("in the sample")
}

#[test]
fn laptop() {
    let sample = sample("laptop");
    let mut document = Document::default();
    let nothing_extra = Served::default();
    document.cluster(cluster_objects(&sample.cluster, &site(), &nothing_extra, true));
    document.add(&apps(&sample.cluster, &["old".into()]));
    let origin = named(&sample, "demo-origin");
    document.pool(pool_objects(origin, &["demo-origin-0".into()], true));
    document.add(&pod(origin, 0, TEMPLATE));
    document.add(&live_settings(origin, TEMPLATE, None, ""));
    document.check("laptop");
}

#[test]
fn production() {
    let sample = sample("production");
    let mut document = Document::default();
    let ClusterObjects { watch, ingress, certificate, service_monitor, missing, .. } =
        cluster_objects(&sample.cluster, &site(), &served(), true);
    document.add(&watch);
    document.add(&ingress.expect("wanted"));
    document.add(&certificate.expect("wanted"));
    document.add(&service_monitor.expect("wanted"));
    assert!(missing.is_empty());
    document.add(&apps(&sample.cluster, &[]));
    let origin = named(&sample, "live-origin");
    let PoolObjects { exposures, config, .. } = pool_objects(origin, &[], true);
    document.all(&exposures);
    document.add(&config);
    document.add(&claim(origin, 1).expect("it has storage"));
    document.add(&pod(origin, 1, TEMPLATE));
    for name in ["live-origin", "live-edge"] {
        let PoolObjects { autoscaler, .. } = pool_objects(named(&sample, name), &[], true);
        document.add(&autoscaler.expect("wanted"));
    }
    document.check("production");
}

#[test]
fn gpu() {
    let sample = sample("gpu");
    let mut document = Document::default();
    for name in ["transcode-gpu", "transcode-shared"] {
        document.add(&pod(named(&sample, name), 0, TEMPLATE));
    }
    document.check("gpu");
}
