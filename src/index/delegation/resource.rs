//! The one conversion of a `ProtectedResource`, and which of those with one identifier counts.

use super::{
    Rejected, Rejection,
    invalid::{InvalidDelegation, Origin, distinct, keyed, scopes, seconds},
};
use crate::{
    api::v1alpha1::{
        AllowedAgents, CallerRight, DelegationMode, ProtectedResource, ResourceCaller, ScopeName,
        UserAuthorizationType,
    },
    identity::ResourceIdentifier,
};
use k8s_openapi::jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

/// A validated resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The object.
    pub origin: Origin,
    /// What it is called in requests and tokens.
    pub identifier: ResourceIdentifier,
    /// Who answers for it.
    pub owner: String,
    /// The scopes there are.
    pub scopes: BTreeSet<String>,
    /// Its tools, each with the scopes that calling it takes.
    pub tools: BTreeMap<String, BTreeSet<String>>,
    /// The longest a token for it lives.
    pub max_token_lifetime: Duration,
    /// Where the user's own rights are asked for.
    pub user_rights: UserRights,
    consents: Vec<Consent>,
    callers: Vec<Caller>,
}

/// Where the user's own rights are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserRights {
    /// In a claim of the user's token.
    Claims {
        /// The claim.
        scope_claim: String,
    },
    /// By SubjectAccessReview.
    Kubernetes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Consent {
    namespaces: BTreeSet<String>,
    modes: BTreeSet<DelegationMode>,
    scopes: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Caller {
    namespace: String,
    account: String,
    may: BTreeSet<CallerRight>,
}

impl Resource {
    /// Whether its owner lets agents of `namespace` in at all, acting in `mode`.
    pub fn admits(&self, namespace: &str, mode: DelegationMode) -> bool {
        self.consents(namespace, mode).next().is_some()
    }

    /// Whether its owner lets agents of `namespace`, acting in `mode`, have `scope`.
    pub fn allows(&self, namespace: &str, mode: DelegationMode, scope: &str) -> bool {
        self.consents(namespace, mode).any(|consent| consent.scopes.contains(scope))
    }

    /// Whether the account may ask for `right` about this resource.
    pub fn is_called_by(&self, namespace: &str, account: &str, right: CallerRight) -> bool {
        let is_meant =
            |c: &Caller| c.namespace == namespace && c.account == account && c.may.contains(&right);
        self.callers.iter().any(is_meant)
    }

    fn consents(&self, namespace: &str, mode: DelegationMode) -> impl Iterator<Item = &Consent> {
        let is_meant = move |c: &&Consent| c.namespaces.contains(namespace) && c.modes.contains(&mode);
        self.consents.iter().filter(is_meant)
    }
}

impl TryFrom<&ProtectedResource> for Resource {
    type Error = InvalidDelegation;

    /// Validates `object`. Everything the CRD's schema states is checked again: it may have been stored under an older one.
    fn try_from(object: &ProtectedResource) -> Result<Self, Self::Error> {
        let origin = Origin::of(&object.metadata)?;
        let spec = &object.spec;
        if spec.owner.trim().is_empty() {
            return Err(InvalidDelegation::Missing("spec.owner"));
        }
        let names: Vec<_> = spec.scopes.iter().map(|scope| scope.name.clone()).collect();
        let offered = scopes("spec.scopes", &names)?;
        let listed = |at, names: &[ScopeName]| {
            let names = scopes(at, names)?;
            match names.difference(&offered).next() {
                None => Ok(names),
                Some(odd) => {
                    let why = "is not one of spec.scopes".to_owned();
                    Err(InvalidDelegation::Value { at, value: odd.clone(), why })
                }
            }
        };
        let tools = spec.tools.iter();
        Ok(Self {
            origin,
            identifier: identifier(&spec.identifier)?,
            owner: spec.owner.clone(),
            tools: keyed(
                "spec.tools",
                tools.map(|tool| Ok((tool.name.0.clone(), listed("spec.tools[].scopes", &tool.scopes)?))),
            )?,
            max_token_lifetime: seconds(
                "spec.maxTokenLifetimeSeconds",
                spec.max_token_lifetime_seconds,
                3600,
            )?,
            user_rights: user_rights(object)?,
            consents: spec
                .allowed_agents
                .iter()
                .map(|allowed| consent(allowed, listed("spec.allowedAgents[].scopes", &allowed.scopes)?))
                .collect::<Result<_, _>>()?,
            callers: spec.callers.iter().map(caller).collect::<Result<_, _>>()?,
            scopes: offered,
        })
    }
}

fn identifier(text: &str) -> Result<ResourceIdentifier, InvalidDelegation> {
    let invalid =
        |why: String| InvalidDelegation::Value { at: "spec.identifier", value: text.to_owned(), why };
    let identifier: ResourceIdentifier = text.parse().map_err(|why| invalid(format!("{why}")))?;
    if identifier.as_str() == text {
        Ok(identifier)
    } else {
        Err(invalid(format!("is written {:?}", identifier.as_str())))
    }
}

fn user_rights(object: &ProtectedResource) -> Result<UserRights, InvalidDelegation> {
    let authorization = &object.spec.user_authorization;
    match (authorization.type_, &authorization.claims) {
        (UserAuthorizationType::Kubernetes, None) => Ok(UserRights::Kubernetes),
        (UserAuthorizationType::Claims, Some(claims)) if !claims.scope_claim.is_empty() => {
            Ok(UserRights::Claims { scope_claim: claims.scope_claim.clone() })
        }
        (UserAuthorizationType::Claims, _) => {
            Err(InvalidDelegation::Missing("spec.userAuthorization.claims.scopeClaim"))
        }
        (UserAuthorizationType::Kubernetes, Some(_)) => Err(InvalidDelegation::Combination(
            "spec.userAuthorization.claims: set it with type Claims, and only then",
        )),
    }
}

fn consent(allowed: &AllowedAgents, scopes: BTreeSet<String>) -> Result<Consent, InvalidDelegation> {
    let names = allowed.namespaces.names.iter().map(|name| &name.0);
    let modes: BTreeSet<_> = allowed.modes.iter().copied().collect();
    if modes.is_empty() {
        return Err(InvalidDelegation::Missing("spec.allowedAgents[].modes"));
    }
    Ok(Consent { namespaces: distinct("spec.allowedAgents[].namespaces.names", names)?, modes, scopes })
}

fn caller(declared: &ResourceCaller) -> Result<Caller, InvalidDelegation> {
    let ResourceCaller { service_account: account, may } = declared;
    if account.namespace.0.is_empty() || account.name.is_empty() || may.is_empty() {
        return Err(InvalidDelegation::Missing("spec.callers[]"));
    }
    let (namespace, account) = (account.namespace.0.clone(), account.name.clone());
    Ok(Caller { namespace, account, may: may.iter().copied().collect() })
}

/// A resource as it is known.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Known {
    created: Option<Timestamp>,
    /// What it claims to be called; nothing of one that cannot be read.
    identifier: Option<String>,
    /// The resource, or why it is none.
    resource: Result<Arc<Resource>, String>,
}

impl Known {
    /// What an object says, or why it cannot be read.
    pub(super) fn read(object: Result<&ProtectedResource, String>) -> Self {
        match object {
            Err(why) => Self { created: None, identifier: None, resource: Err(why) },
            Ok(object) => Self {
                created: object.metadata.creation_timestamp.as_ref().map(|time| time.0),
                identifier: Some(object.spec.identifier.clone()),
                resource: Resource::try_from(object).map(Arc::new).map_err(|invalid| invalid.to_string()),
            },
        }
    }
}

/// All resources.
#[derive(Clone, Debug, Default)]
pub(super) struct Resources {
    all: BTreeMap<String, Arc<Known>>,
    /// Names of those that claim an identifier, the one that counts first. An invalid one still has its own: to be repaired
    /// is not to be replaced by another.
    claims: HashMap<String, BTreeSet<(Option<Timestamp>, String)>>,
}

impl Resources {
    pub(super) fn by_identifier(&self, identifier: &str) -> Option<&Arc<Resource>> {
        let (_, name) = self.claims.get(identifier)?.first()?;
        self.all.get(name)?.resource.as_ref().ok()
    }

    pub(super) fn standing(&self, name: &str) -> Option<Result<&Arc<Resource>, Rejected>> {
        let resource = match &self.all.get(name)?.resource {
            Ok(resource) => resource,
            Err(why) => return Some(Err(Rejected { reason: Rejection::Invalid, why: why.clone() })),
        };
        let claims = self.claims.get(resource.identifier.as_str())?;
        Some(match claims.first() {
            Some((_, first)) if first != name => {
                let why = format!("spec.identifier: ProtectedResource {first:?} is older and has it already");
                Err(Rejected { reason: Rejection::IdentifierTaken, why })
            }
            _ => Ok(resource),
        })
    }

    /// Whether this is what is known of it already.
    pub(super) fn has(&self, name: &str, known: &Known) -> bool {
        self.all.get(name).is_some_and(|old| **old == *known)
    }

    pub(super) fn put(&mut self, name: String, known: Known) {
        self.remove(&name);
        if let Some(identifier) = &known.identifier {
            self.claims.entry(identifier.clone()).or_default().insert((known.created, name.clone()));
        }
        self.all.insert(name, Arc::new(known));
    }

    pub(super) fn remove(&mut self, name: &str) -> bool {
        let Some(known) = self.all.remove(name) else { return false };
        if let Some(identifier) = &known.identifier
            && let Some(claims) = self.claims.get_mut(identifier)
        {
            claims.remove(&(known.created, name.to_owned()));
            if claims.is_empty() {
                self.claims.remove(identifier);
            }
        }
        true
    }
}
