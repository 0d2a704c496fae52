//! The connection to Kubernetes: which cluster and namespace are meant, and requests with a time limit.

use std::path::Path;
use std::time::Duration;

use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::de::DeserializeOwned;

use crate::args::Global;
use crate::failure::{Asked, Failure, of_request};

/// How many objects one list request may bring; the next page is asked for.
const PAGE: u32 = 500;

/// How many objects of a kind are read at most.
const MOST: usize = 50_000;

/// A connection, and what is meant by default.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) client: Client,
    /// Where the API is, for sentences.
    pub(crate) url: String,
    /// The namespace that is meant; all when it is missing.
    pub(crate) namespace: Option<String>,
    /// The namespace of objects that are named.
    pub(crate) own_namespace: String,
    /// Where the operator runs.
    pub(crate) operator_namespace: String,
    /// What one request may take.
    pub(crate) limit: Duration,
}

impl Session {
    /// Reads the kubeconfig as kubectl does; in a pod without one, its service account.
    pub(crate) async fn open(global: &Global) -> Result<Session, Failure> {
        let mut config = config(global.kubeconfig.as_deref(), global.context.clone()).await?;
        // Retries of the library wait as long as a server says, minutes and more.
        config.default_retry = false;
        config.connect_timeout = Some(global.request_timeout.min(Duration::from_secs(10)));
        if let Some(user) = &global.act_as {
            config.auth_info.impersonate = Some(user.clone());
        }
        let url = config.cluster_url.to_string();
        let own_namespace = global.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| Failure::Kubeconfig(error.to_string()))?;
        Ok(Session {
            client,
            url: url.trim_end_matches('/').into(),
            namespace: (!global.all_namespaces).then(|| own_namespace.clone()),
            own_namespace,
            operator_namespace: global.operator_namespace.clone(),
            limit: global.request_timeout,
        })
    }

    /// Makes a request within the time limit.
    pub(crate) async fn ask<T>(
        &self,
        asked: Asked,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.limit, request).await {
            Ok(answer) => answer.map_err(|error| of_request(&asked, &self.url, &error)),
            Err(_) => Err(Failure::Late {
                what: format!("the request to {asked}"),
                limit: format!("{:?}", self.limit),
                hint: "see --request-timeout",
            }),
        }
    }

    /// All objects of a resource that `selector` selects, page by page.
    pub(crate) async fn list<K>(
        &self,
        api: &Api<K>,
        resource: &str,
        namespace: Option<&str>,
        selector: &str,
    ) -> Result<Vec<K>, Failure>
    where
        K: Clone + DeserializeOwned + std::fmt::Debug,
    {
        let mut found = Vec::new();
        let mut page = ListParams::default().limit(PAGE).labels(selector);
        loop {
            let asked = Asked::all("list", resource, namespace);
            let list = self.ask(asked, api.list(&page)).await?;
            found.extend(list.items);
            match list.metadata.continue_ {
                Some(token) if !token.is_empty() && found.len() < MOST => page = page.continue_token(&token),
                _ => return Ok(found),
            }
        }
    }

    /// Objects of a kind in a namespace, or in all.
    pub(crate) fn api<K>(&self, namespace: Option<&str>) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        match namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }
}

async fn config(file: Option<&Path>, context: Option<String>) -> Result<Config, Failure> {
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    if let Some(file) = file {
        let kubeconfig =
            Kubeconfig::read_from(file).map_err(|error| Failure::Kubeconfig(error.to_string()))?;
        return Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .map_err(|error| Failure::Kubeconfig(error.to_string()));
    }
    match Config::from_kubeconfig(&options).await {
        Ok(config) => Ok(config),
        Err(error) if options.context.is_none() && std::env::var_os("KUBECONFIG").is_none() => {
            Config::incluster()
                .map_err(|_| Failure::Kubeconfig(format!("{error}; name one with --kubeconfig")))
        }
        Err(error) => Err(Failure::Kubeconfig(error.to_string())),
    }
}
