//! Which pods use what is claimed, by the API server's own word.

use crate::{
    api::v1alpha1::ClaimHolder,
    identity::account_name,
    index::{Claim, Subject},
    policy::facts::PodFacts,
};
use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, ListParams},
    core::ApiResource,
};
use std::time::Duration;

/// Pods looked at in one page: each may be as large as the API takes.
const PAGE: u32 = 20;

/// Names that are told; more are counted.
const NAMED: usize = 5;

const LIVE: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// Live pods that hold a credential.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::controller) struct Users {
    named: Vec<String>,
    count: usize,
}

impl Users {
    pub(in crate::controller) fn is_nobody(&self) -> bool {
        self.count == 0
    }

    fn add(&mut self, pod: &DynamicObject) {
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push(pod.name_any());
        }
    }
}

impl std::fmt::Display for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.named.join(", "))?;
        match self.count - self.named.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Pods, other than `but`'s own, that can use the subject, whoever's they are: one of nobody may have been there before any
/// agent declared the Secret. An ended pod cannot; one on its way out still can.
///
/// # Errors
/// What the API server says.
pub(super) async fn of(
    client: &Client,
    subject: &Subject,
    claim: Option<&Claim>,
    but: Option<&ClaimHolder>,
    quiet: Duration,
) -> Result<Users, kube::Error> {
    match (subject, claim) {
        (Subject::Secret { namespace, name }, _) => {
            let own = but.map(|holder| account_name(&holder.name));
            let parameters = ListParams::default().fields(LIVE);
            let uses = |pod: &DynamicObject| own != account(pod) && names(pod, name);
            list(client, namespace, parameters, uses).await
        }
        // What a pod got with its account's annotation it keeps; a pod made later than a quiet period after the annotation
        // went has not got it.
        (Subject::CloudRole { .. }, Some(Claim { holder, released: Some(released), .. })) => {
            let account = account_name(&holder.name);
            let parameters =
                ListParams::default().fields(&format!("{LIVE},spec.serviceAccountName={account}"));
            let Ok(last) = released.checked_add(quiet) else { return Ok(Users::default()) };
            let may_have = |pod: &DynamicObject| made(pod).is_none_or(|made| made <= last);
            list(client, &holder.namespace, parameters, may_have).await
        }
        (Subject::CloudRole { .. }, _) => Ok(Users::default()),
    }
}

/// The pods of an agent that use one of its own Secrets.
///
/// # Errors
/// What the API server says.
pub(in crate::controller) async fn of_agent(
    client: &Client,
    namespace: &str,
    agent: &str,
    secret: &str,
) -> Result<Users, kube::Error> {
    let fields = format!("{LIVE},spec.serviceAccountName={}", account_name(agent));
    list(client, namespace, ListParams::default().fields(&fields), |pod| names(pod, secret)).await
}

/// Lists with no resourceVersion, and so what is there now: a watch may be behind.
async fn list(
    client: &Client,
    namespace: &str,
    mut parameters: ListParams,
    uses: impl Fn(&DynamicObject) -> bool,
) -> Result<Users, kube::Error> {
    let pods: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<Pod>(&()));
    parameters = parameters.limit(PAGE);
    let mut users = Users::default();
    loop {
        let page = pods.list(&parameters).await?;
        for pod in page.items.iter().filter(|pod| uses(pod)) {
            users.add(pod);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(users),
        }
    }
}

fn account(pod: &DynamicObject) -> Option<String> {
    pod.data["spec"]["serviceAccountName"].as_str().map(str::to_owned)
}

fn made(pod: &DynamicObject) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

/// Whether a pod names a Secret anywhere. One that cannot be read may.
fn names(pod: &DynamicObject, secret: &str) -> bool {
    PodFacts::read(&pod.data).map_or(true, |facts| facts.secrets().iter().any(|(_, name)| *name == secret))
}
