//! Scopes (RFC 6749, section 3.3).

use super::Reason;
use std::{fmt, str::FromStr};

/// Most scopes of a set.
const SCOPES: usize = 32;
/// Most bytes of a set.
const BYTES: usize = 1024;

/// One scope: printable ASCII without space, `"` and `\`, and without `*`, which stands for everything in RBAC.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(String);

impl Scope {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Scope {
    type Err = Reason;

    /// # Errors
    /// [`Reason::ScopeMalformed`].
    fn from_str(text: &str) -> Result<Self, Reason> {
        let allowed = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'*');
        if text.is_empty() || text.len() > BYTES || !text.bytes().all(allowed) {
            return Err(Reason::ScopeMalformed);
        }
        Ok(Self(text.to_owned()))
    }
}

/// Some scopes, each once, in the order they were named; at least one, at most 32, at most 1 KiB together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeSet(Vec<Scope>);

impl ScopeSet {
    /// The scopes.
    pub fn as_slice(&self) -> &[Scope] {
        &self.0
    }

    /// Those of them that `keep` says stay; none if that is not one.
    pub fn narrow(&self, keep: impl Fn(&Scope) -> bool) -> Option<Self> {
        let kept: Vec<_> = self.0.iter().filter(|scope| keep(scope)).cloned().collect();
        (!kept.is_empty()).then_some(Self(kept))
    }
}

impl FromStr for ScopeSet {
    type Err = Reason;

    /// Scopes between single spaces.
    ///
    /// # Errors
    /// [`Reason::ScopeMalformed`].
    fn from_str(text: &str) -> Result<Self, Reason> {
        if text.len() > BYTES || text.split(' ').count() > SCOPES {
            return Err(Reason::ScopeMalformed);
        }
        let mut scopes = vec![];
        for scope in text.split(' ') {
            let scope = scope.parse()?;
            if !scopes.contains(&scope) {
                scopes.push(scope);
            }
        }
        Ok(Self(scopes))
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, scope) in self.0.iter().enumerate() {
            let space = if number == 0 { "" } else { " " };
            write!(f, "{space}{}", scope.0)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_set_names_each_scope_once_and_in_order() {
        let set: ScopeSet = "search read search files:read".parse().unwrap();
        assert_eq!(set.to_string(), "search read files:read");
        assert_eq!(set.narrow(|scope| scope.as_str() == "read").unwrap().to_string(), "read");
        assert_eq!(set.narrow(|_| false), None);
    }

    #[test]
    fn corpus_13_scope_bytes() {
        let many = |count: usize| vec!["s"; count].join(" ");
        for text in [
            "",
            " ",
            "read  search",
            " read",
            "read ",
            "read\r\nSet-Cookie:x",
            "re\"ad",
            "re\\ad",
            "read\u{200b}",
            "read\t",
            "*",
            "read *",
            "files:*",
            "r\u{e9}ad",
            "\u{7f}",
            "\0",
            &many(33),
            &"s".repeat(1025),
        ] {
            assert_eq!(text.parse::<ScopeSet>(), Err(Reason::ScopeMalformed), "{text:?}");
        }
        for text in ["!#[]^~", &"s".repeat(1024)] {
            assert_eq!(text.parse::<ScopeSet>().unwrap().to_string(), text);
        }
        assert!(many(32).parse::<ScopeSet>().is_ok());
    }

    proptest! {
        #[test]
        fn any_text_can_be_asked_for(text in ".{0,60}") {
            if let Ok(set) = text.parse::<ScopeSet>() {
                prop_assert_eq!(set.to_string().parse(), Ok(set));
            }
        }

        #[test]
        fn a_set_reads_back(text in "[!#-)+-\\[\\]-~]{1,5}( [!#-)+-\\[\\]-~]{1,5}){0,9}") {
            let set: ScopeSet = text.parse().unwrap();
            prop_assert_eq!(set.to_string().parse(), Ok(set));
        }
    }
}
