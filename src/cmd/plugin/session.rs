//! Requests to one API server, each bounded in time and each failure in a person's words.

use crate::{
    api::{
        lean::Lean,
        v1alpha1::{
            AgentIdentity, AgentSuspension, CredentialClaim, DelegationPolicy, ProtectedResource,
            TrustedIssuer,
        },
    },
    plugin::{Right, Switch, explain},
};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        authentication::v1::SelfSubjectReview, authorization::v1::SubjectAccessReview,
        core::v1::ServiceAccount,
    },
};
use kube::{
    Api, Client, Error, Resource,
    api::{DeleteParams, ListParams, PostParams, Preconditions},
    core::DeserializeGuard,
};
use serde::de::DeserializeOwned;
use std::{fmt, fmt::Debug, time::Duration};

/// Objects of a page: each may be as large as the API takes, and a page is held as a whole.
const PAGE: u32 = 20;

/// How often a list begins anew that the API server has forgotten half-way.
const LISTS: usize = 3;

/// An API server, asked as somebody.
#[derive(Clone)]
pub struct Session {
    /// The connection.
    pub client: Client,
    /// Where agents are looked for, unless everywhere.
    pub namespace: String,
    /// What to call the API server.
    pub server: String,
    /// How long one answer may take.
    pub timeout: Option<Duration>,
}

/// A request that failed.
pub(super) struct Failure {
    /// The API server's reason, if it gave one.
    reason: String,
    text: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Failure {
    pub(super) fn is(&self, reason: &str) -> bool {
        self.reason == reason
    }
}

impl Session {
    pub(super) async fn ask<T>(
        &self,
        right: Right,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Failure> {
        let answer = match self.timeout {
            None => request.await,
            Some(limit) => match tokio::time::timeout(limit, request).await {
                Ok(answer) => answer,
                Err(_) => {
                    let text = format!(
                        "no answer of {} within {limit:?}; check network and VPN, or give a longer --request-timeout",
                        self.server
                    );
                    return Err(Failure { reason: String::new(), text });
                }
            },
        };
        answer.map_err(|error| {
            let reason = match &error {
                Error::Api(status) => status.reason.clone(),
                _ => String::new(),
            };
            Failure { reason, text: explain(&error, &self.server, right) }
        })
    }

    fn api<K>(&self, namespace: Option<&str>) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    /// Everything of a kind, or what of it came before a failure.
    pub(super) async fn list<K>(&self, api: Api<K>) -> (Vec<K>, Option<Failure>)
    where
        K: Clone + DeserializeOwned + Debug,
    {
        let (mut items, mut next, mut begun) = (vec![], String::new(), 1);
        loop {
            let mut params = ListParams::default().limit(PAGE);
            if !next.is_empty() {
                params = params.continue_token(&next);
            }
            match self.ask(Right::See, api.list(&params)).await {
                Ok(page) => {
                    items.extend(page.items);
                    next = page.metadata.continue_.unwrap_or_default();
                    if next.is_empty() {
                        return (items, None);
                    }
                }
                Err(failure) if failure.is("Expired") && begun < LISTS => {
                    items.clear();
                    next.clear();
                    begun += 1;
                }
                Err(failure) => return (items, Some(failure)),
            }
        }
    }

    /// Identities, of the namespace or everywhere.
    pub(super) async fn identities(
        &self,
        across: bool,
    ) -> (Vec<DeserializeGuard<AgentIdentity>>, Option<Failure>) {
        self.list(self.api((!across).then_some(&self.namespace))).await
    }

    /// Suspensions, of the namespace or everywhere.
    pub(super) async fn switches(&self, across: bool) -> (Vec<Switch>, Option<Failure>) {
        let api: Api<DeserializeGuard<AgentSuspension>> = self.api((!across).then_some(&self.namespace));
        let (suspensions, failure) = self.list(api).await;
        (suspensions.into_iter().map(Switch::from).collect(), failure)
    }

    /// Who holds what, in the whole cluster.
    pub(super) async fn claims(&self) -> (Vec<DeserializeGuard<CredentialClaim>>, Option<Failure>) {
        self.list(Api::all(self.client.clone())).await
    }

    /// Suspensions of the namespace, as they are watched.
    pub(super) async fn suspensions(&self) -> (Vec<DeserializeGuard<AgentSuspension>>, Option<Failure>) {
        self.list(self.api(Some(&self.namespace))).await
    }

    /// Policies of the namespace.
    pub(super) async fn policies(&self) -> (Vec<DeserializeGuard<DelegationPolicy>>, Option<Failure>) {
        self.list(self.api(Some(&self.namespace))).await
    }

    /// Every issuer: which of them counts is said by all of them together.
    pub(super) async fn issuers(&self) -> (Vec<DeserializeGuard<TrustedIssuer>>, Option<Failure>) {
        self.list(Api::all(self.client.clone())).await
    }

    /// Every resource: which of them counts is said by all of them together.
    pub(super) async fn resources(&self) -> (Vec<DeserializeGuard<ProtectedResource>>, Option<Failure>) {
        self.list(Api::all(self.client.clone())).await
    }

    /// An account of the namespace.
    pub(super) async fn account(&self, name: &str) -> Result<Option<Lean<ServiceAccount>>, Failure> {
        let api: Api<Lean<ServiceAccount>> = self.api(Some(&self.namespace));
        match self.ask(Right::SeeAccounts, api.get(name)).await {
            Ok(account) => Ok(Some(account)),
            Err(failure) if failure.is("NotFound") => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Has the API server say what somebody may do.
    pub(super) async fn review(&self, review: &SubjectAccessReview) -> Result<SubjectAccessReview, Failure> {
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        self.ask(Right::Review, api.create(&PostParams::default(), review)).await
    }

    /// An identity of the namespace.
    pub(super) async fn identity(
        &self,
        name: &str,
    ) -> Result<Option<DeserializeGuard<AgentIdentity>>, Failure> {
        let api: Api<DeserializeGuard<AgentIdentity>> = self.api(Some(&self.namespace));
        match self.ask(Right::See, api.get(name)).await {
            Ok(identity) => Ok(Some(identity)),
            Err(failure) if failure.is("NotFound") => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Whether the namespace has any identity.
    pub(super) async fn has_identities(&self) -> Result<bool, Failure> {
        let api: Api<DeserializeGuard<AgentIdentity>> = self.api(Some(&self.namespace));
        let page = self.ask(Right::See, api.list(&ListParams::default().limit(1))).await?;
        Ok(!page.items.is_empty())
    }

    /// A suspension.
    pub(super) async fn switch(&self, namespace: &str, name: &str) -> Result<Switch, Failure> {
        let api: Api<DeserializeGuard<AgentSuspension>> = self.api(Some(namespace));
        self.ask(Right::See, api.get(name)).await.map(Switch::from)
    }

    /// Writes a suspension; returns its name.
    pub(super) async fn create(
        &self,
        namespace: &str,
        suspension: &AgentSuspension,
    ) -> Result<String, Failure> {
        let api: Api<AgentSuspension> = self.api(Some(namespace));
        let written = self.ask(Right::Suspend, api.create(&PostParams::default(), suspension)).await?;
        Ok(written.metadata.name.unwrap_or_default())
    }

    /// Deletes a suspension: this one, and no other of its name.
    pub(super) async fn delete(&self, switch: &Switch) -> Result<(), Failure> {
        let api: Api<AgentSuspension> = self.api(Some(&switch.namespace));
        let preconditions = Preconditions { uid: switch.uid.clone(), ..Preconditions::default() };
        let params = DeleteParams::default().preconditions(preconditions);
        match self.ask(Right::Suspend, api.delete(&switch.suspension.name, &params)).await {
            Err(failure) if !failure.is("NotFound") => Err(failure),
            _ => Ok(()),
        }
    }

    /// The name the API server knows the asker by.
    pub(super) async fn user(&self) -> Result<String, Failure> {
        let api: Api<SelfSubjectReview> = Api::all(self.client.clone());
        let review =
            self.ask(Right::See, api.create(&PostParams::default(), &SelfSubjectReview::default())).await?;
        let user = review.status.and_then(|status| status.user_info).and_then(|info| info.username);
        user.filter(|user| !user.is_empty()).ok_or_else(|| Failure {
            reason: String::new(),
            text: "the API server gives you no name".to_owned(),
        })
    }
}
