//! The SPIFFE ID of an agent (SPIFFE-ID specification, sections 2.1 and 2.2), in the form the mesh projects use for
//! Kubernetes accounts: `spiffe://<trust domain>/ns/<namespace>/sa/<account>`.

use std::{fmt, str::FromStr};

/// A SPIFFE trust domain: lower-case letters, digits, dots, dashes and underscores; at most 255 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustDomain(String);

/// What is wrong with a trust domain.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidTrustDomain {
    /// Nothing there.
    #[error("a trust domain may not be empty")]
    Empty,
    /// Longer than 255 bytes.
    #[error("a trust domain has at most 255 bytes, this one has {0}")]
    TooLong(usize),
    /// A character outside the specification's set.
    #[error("a trust domain has only lower-case letters, digits, '.', '-' and '_'; found {0:?}")]
    Character(char),
}

impl FromStr for TrustDomain {
    type Err = InvalidTrustDomain;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(InvalidTrustDomain::Empty);
        }
        if text.len() > 255 {
            return Err(InvalidTrustDomain::TooLong(text.len()));
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
        match text.chars().find(|c| !allowed(*c)) {
            Some(c) => Err(InvalidTrustDomain::Character(c)),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl TrustDomain {
    /// The SPIFFE ID of a ServiceAccount in this trust domain.
    pub fn principal(&self, namespace: &str, account: &str) -> String {
        format!("spiffe://{}/ns/{namespace}/sa/{account}", self.0)
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principal_is_a_spiffe_id() {
        let domain: TrustDomain = "cluster.local".parse().unwrap();
        assert_eq!(
            domain.principal("research", "agent.researcher"),
            "spiffe://cluster.local/ns/research/sa/agent.researcher"
        );
    }

    #[test]
    fn trust_domains_out_of_the_specification_are_refused() {
        for (text, error) in [
            ("", InvalidTrustDomain::Empty),
            ("Cluster.local", InvalidTrustDomain::Character('C')),
            ("a/b", InvalidTrustDomain::Character('/')),
            ("a:1", InvalidTrustDomain::Character(':')),
        ] {
            assert_eq!(text.parse::<TrustDomain>(), Err(error), "{text:?}");
        }
        assert_eq!("a".repeat(256).parse::<TrustDomain>(), Err(InvalidTrustDomain::TooLong(256)));
    }
}
