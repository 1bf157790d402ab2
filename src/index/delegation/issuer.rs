//! The one conversion of a `TrustedIssuer`, and which of those that claim the same counts.

use super::{
    Rejected, Rejection,
    invalid::{InvalidDelegation, Origin, distinct, keyed, seconds},
};
use crate::api::v1alpha1::{
    IssuerSource, PrefixedClaim, ScopeCeiling, TokenHeaderType, TrustedIssuer, UserTokenType,
};
use k8s_openapi::jiff::Timestamp;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

/// What Kubernetes' own names begin with.
const SYSTEM: &str = "system:";

/// A validated issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// The object.
    pub origin: Origin,
    /// The claim `iss` of its tokens.
    pub url: String,
    /// Audiences, of which a token must have one.
    pub audiences: BTreeSet<String>,
    /// Where its keys are.
    pub keys: IssuerKeys,
    /// Which of its tokens count.
    pub tokens: BTreeMap<UserTokenType, AcceptedTokens>,
    /// What a user is called.
    pub username: Mapping,
    /// What a user's groups are called; without it there are none.
    pub groups: Option<Mapping>,
    /// Claims that a token must have, and their values.
    pub required_claims: BTreeMap<String, String>,
    /// The greatest age of a token.
    pub max_token_age: Duration,
}

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IssuerKeys {
    /// Found from its URL.
    Discovered {
        /// The certificates, as PEM, that its own is checked against; the system's if there are none.
        certificate_authority: Option<String>,
    },
    /// These: a JSON Web Key Set with at least one key, none of which is a secret.
    Inline(String),
}

/// Tokens of one type that count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedTokens {
    /// What their header `typ` may be.
    pub header_types: BTreeSet<TokenHeaderType>,
    /// Whether their own claim `scope` bounds what may be lent.
    pub scope_ceiling: ScopeCeiling,
}

/// A claim, and what is put before its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The claim.
    pub claim: String,
    /// What is put before its value. No name it leads to is Kubernetes' own.
    pub prefix: String,
}

impl TryFrom<&TrustedIssuer> for Issuer {
    type Error = InvalidDelegation;

    /// Validates `object`. Everything the CRD's schema states is checked again: it may have been stored under an older one.
    fn try_from(object: &TrustedIssuer) -> Result<Self, Self::Error> {
        let origin = Origin::of(&object.metadata)?;
        let spec = &object.spec;
        let url = &spec.issuer.url;
        if !url.starts_with("https://") || url.contains(['@', '#', '?']) || url.contains(char::is_whitespace)
        {
            let why = "is not an https URL without user, query and fragment".to_owned();
            return Err(InvalidDelegation::Value { at: "spec.issuer.url", value: url.clone(), why });
        }
        let groups = spec.claim_mappings.groups.as_ref();
        let rules = spec.claim_validation_rules.iter();
        Ok(Self {
            origin,
            url: url.clone(),
            audiences: distinct("spec.issuer.audiences", &spec.issuer.audiences)?,
            keys: keys(&spec.issuer)?,
            tokens: tokens(object)?,
            username: mapping("spec.claimMappings.username", &spec.claim_mappings.username)?,
            groups: groups.map(|groups| mapping("spec.claimMappings.groups", groups)).transpose()?,
            required_claims: keyed(
                "spec.claimValidationRules",
                rules.map(|rule| Ok((rule.claim.clone(), rule.required_value.clone()))),
            )?,
            max_token_age: seconds("spec.maxTokenAgeSeconds", spec.max_token_age_seconds, 86400)?,
        })
    }
}

fn keys(source: &IssuerSource) -> Result<IssuerKeys, InvalidDelegation> {
    match (&source.jwks, &source.certificate_authority) {
        (Some(_), Some(_)) => Err(InvalidDelegation::Combination(
            "spec.issuer: jwks and certificateAuthority are both set; set one of them",
        )),
        (Some(jwks), None) => {
            let document = |why| InvalidDelegation::Document { at: "spec.issuer.jwks", why };
            let set: serde_json::Value =
                serde_json::from_str(jwks).map_err(|_| document("is not a JSON Web Key Set"))?;
            let keys = set.get("keys").and_then(serde_json::Value::as_array).filter(|keys| !keys.is_empty());
            let keys = keys.ok_or_else(|| document("is not a JSON Web Key Set with a key"))?;
            // RFC 7518, section 6: what only its holder may know of a key.
            let is_secret = |key: &serde_json::Value| key.get("d").is_some() || key.get("k").is_some();
            if keys.iter().any(is_secret) {
                return Err(document("holds a private or symmetric key; list public keys alone"));
            }
            Ok(IssuerKeys::Inline(jwks.clone()))
        }
        (None, certificates) => {
            if certificates.as_deref().is_some_and(|pem| !are_certificates(pem)) {
                let why = "is not one or more certificates as PEM";
                return Err(InvalidDelegation::Document { at: "spec.issuer.certificateAuthority", why });
            }
            Ok(IssuerKeys::Discovered { certificate_authority: certificates.clone() })
        }
    }
}

fn are_certificates(pem: &str) -> bool {
    let mut store = RootCertStore::empty();
    let all_taken = CertificateDer::pem_slice_iter(pem.as_bytes())
        .all(|certificate| certificate.is_ok_and(|certificate| store.add(certificate).is_ok()));
    all_taken && !store.is_empty()
}

fn tokens(object: &TrustedIssuer) -> Result<BTreeMap<UserTokenType, AcceptedTokens>, InvalidDelegation> {
    let mut tokens = BTreeMap::new();
    for token in &object.spec.tokens {
        let header_types: BTreeSet<_> = token.header_types.iter().copied().collect();
        if header_types.is_empty() {
            return Err(InvalidDelegation::Missing("spec.tokens[].headerTypes"));
        }
        let is_marked = header_types.contains(&TokenHeaderType::AtJwt);
        if token.type_ == UserTokenType::IDToken && (is_marked || token.scope_ceiling == ScopeCeiling::Mapped)
        {
            return Err(InvalidDelegation::Combination(
                "spec.tokens: an ID token has no scopes and is never of header type at+jwt; set scopeCeiling: None and list JWT or Absent",
            ));
        }
        let accepted = AcceptedTokens { header_types, scope_ceiling: token.scope_ceiling };
        if tokens.insert(token.type_, accepted).is_some() {
            let value = format!("{:?}", token.type_);
            return Err(InvalidDelegation::Repeated { at: "spec.tokens", value });
        }
    }
    if tokens.is_empty() { Err(InvalidDelegation::Missing("spec.tokens")) } else { Ok(tokens) }
}

fn mapping(
    at: &'static str,
    PrefixedClaim { claim, prefix }: &PrefixedClaim,
) -> Result<Mapping, InvalidDelegation> {
    if claim.is_empty() || prefix.is_empty() {
        return Err(InvalidDelegation::Missing(at));
    }
    if overlap(prefix, SYSTEM) {
        let why = "leads to names that begin with \"system:\", which are Kubernetes' own".to_owned();
        return Err(InvalidDelegation::Value { at, value: prefix.clone(), why });
    }
    Ok(Mapping { claim: claim.clone(), prefix: prefix.clone() })
}

/// Whether a name may begin with both.
fn overlap(one: &str, other: &str) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// What an issuer has for itself alone.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Claimed {
    url: String,
    users: String,
    groups: Option<String>,
}

impl Claimed {
    /// What of it `older` has already.
    fn conflict(&self, older: &Self) -> Option<(Rejection, &'static str)> {
        let groups = self.groups.as_ref().zip(older.groups.as_ref());
        if self.url == older.url {
            Some((Rejection::UrlTaken, "spec.issuer.url"))
        } else if overlap(&self.users, &older.users) {
            Some((Rejection::PrefixTaken, "spec.claimMappings.username.prefix"))
        } else if groups.is_some_and(|(own, others)| overlap(own, others)) {
            Some((Rejection::PrefixTaken, "spec.claimMappings.groups.prefix"))
        } else {
            None
        }
    }
}

/// An issuer as it is known.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Known {
    created: Option<Timestamp>,
    /// Nothing of one that cannot be read.
    claimed: Option<Claimed>,
    /// The issuer, or why it is none.
    issuer: Result<Arc<Issuer>, String>,
}

impl Known {
    /// What an object says, or why it cannot be read.
    pub(super) fn read(object: Result<&TrustedIssuer, String>) -> Self {
        match object {
            Err(why) => Self { created: None, claimed: None, issuer: Err(why) },
            Ok(object) => Self {
                created: object.metadata.creation_timestamp.as_ref().map(|time| time.0),
                claimed: Some(Claimed {
                    url: object.spec.issuer.url.clone(),
                    users: object.spec.claim_mappings.username.prefix.clone(),
                    groups: object.spec.claim_mappings.groups.as_ref().map(|groups| groups.prefix.clone()),
                }),
                issuer: Issuer::try_from(object).map(Arc::new).map_err(|invalid| invalid.to_string()),
            },
        }
    }
}

/// All issuers.
#[derive(Clone, Debug, Default)]
pub(super) struct Issuers {
    all: BTreeMap<String, Arc<Known>>,
    /// Those that count, by URL.
    by_url: HashMap<String, Arc<Issuer>>,
    /// The same, by uid.
    by_uid: HashMap<String, Arc<Issuer>>,
    /// Those that lost to an older one.
    lost: BTreeMap<String, Rejected>,
}

impl Issuers {
    pub(super) fn by_url(&self, url: &str) -> Option<&Arc<Issuer>> {
        self.by_url.get(url)
    }

    pub(super) fn by_uid(&self, uid: &str) -> Option<&Arc<Issuer>> {
        self.by_uid.get(uid)
    }

    /// Those that count.
    pub(super) fn counting(&self) -> impl Iterator<Item = &Issuer> {
        self.by_url.values().map(AsRef::as_ref)
    }

    pub(super) fn standing(&self, name: &str) -> Option<Result<&Arc<Issuer>, Rejected>> {
        Some(match (&self.all.get(name)?.issuer, self.lost.get(name)) {
            (Err(why), _) => Err(Rejected { reason: Rejection::Invalid, why: why.clone() }),
            (Ok(_), Some(rejected)) => Err(rejected.clone()),
            (Ok(issuer), None) => Ok(issuer),
        })
    }

    /// Whether this is what is known of it already.
    pub(super) fn has(&self, name: &str, known: &Known) -> bool {
        self.all.get(name).is_some_and(|old| **old == *known)
    }

    pub(super) fn put(&mut self, name: String, known: Known) {
        self.all.insert(name, Arc::new(known));
    }

    pub(super) fn remove(&mut self, name: &str) -> bool {
        self.all.remove(name).is_some()
    }

    /// Says anew which count. An invalid one still has what it claims: to be repaired is not to be replaced by another.
    pub(super) fn arrange(&mut self) {
        let mut by_age: Vec<_> = self.all.iter().collect();
        by_age.sort_by_key(|(name, known)| (known.created, *name));
        let (mut winners, mut lost): (Vec<(&String, &Claimed)>, _) = (vec![], BTreeMap::new());
        for (name, known) in &by_age {
            let Some(claimed) = &known.claimed else { continue };
            let conflict = winners.iter().find_map(|(older, of)| Some((older, claimed.conflict(of)?)));
            if let Some((older, (reason, at))) = conflict {
                let why = format!("{at}: TrustedIssuer {older:?} is older and has it already");
                lost.insert((*name).clone(), Rejected { reason, why });
            } else {
                winners.push((name, claimed));
            }
        }
        let counts = by_age.iter().filter(|(name, _)| !lost.contains_key(*name));
        let issuers = counts.filter_map(|(_, known)| known.issuer.as_ref().ok());
        self.by_url = issuers.map(|issuer| (issuer.url.clone(), Arc::clone(issuer))).collect();
        let named = self.by_url.values().map(|issuer| (issuer.origin.uid.clone(), Arc::clone(issuer)));
        self.by_uid = named.collect();
        self.lost = lost;
    }
}
