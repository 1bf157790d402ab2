//! What a resource is called: the resource indicator of RFC 8707, in the one form in which two of them can be compared.

use std::{fmt, str::FromStr};

/// The longest identifier, in bytes.
const LONGEST: usize = 512;

/// An absolute https URI without user, query, fragment, percent-encoding, dot segments, a default port or a path that is
/// "/" alone; scheme and host are in lower case. Equal strings are equal resources, and different ones are not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceIdentifier(String);

/// What keeps a text from being an identifier.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidIdentifier {
    /// Longer than 512 bytes.
    #[error("is longer than 512 bytes")]
    TooLong,
    /// Not `https://`.
    #[error("is not an absolute https URI")]
    Scheme,
    /// No host, a user, or a host that is no DNS name.
    #[error("has no DNS name as its host, or a user before it")]
    Host,
    /// A port that is no number, or the one that https has anyhow.
    #[error("has a port that is none, or the default one")]
    Port,
    /// A query, a fragment, percent-encoding, a dot or empty segment, or nothing but "/".
    #[error(
        "has a query, a fragment, percent-encoding, a dot or empty segment, or a path that is \"/\" alone"
    )]
    Path,
}

impl ResourceIdentifier {
    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ResourceIdentifier {
    type Err = InvalidIdentifier;

    /// Reads an identifier as a client may write it: with scheme and host in upper case, which nobody else may tell apart
    /// (RFC 3986, section 6.2.2.1). Nothing else is normalised.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > LONGEST {
            return Err(InvalidIdentifier::TooLong);
        }
        let (scheme, rest) = text.split_once("://").ok_or(InvalidIdentifier::Scheme)?;
        if !scheme.eq_ignore_ascii_case("https") {
            return Err(InvalidIdentifier::Scheme);
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let authority = authority.to_ascii_lowercase();
        let (host, port) =
            authority.split_once(':').map_or((&*authority, None), |(host, port)| (host, Some(port)));
        if !host.split('.').all(is_label) {
            return Err(InvalidIdentifier::Host);
        }
        if !port.is_none_or(is_port) {
            return Err(InvalidIdentifier::Port);
        }
        if !is_path(path) {
            return Err(InvalidIdentifier::Path);
        }
        Ok(Self(format!("https://{authority}{path}")))
    }
}

fn is_label(label: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
}

fn is_port(port: &str) -> bool {
    port.bytes().all(|b| b.is_ascii_digit())
        && !port.starts_with('0')
        && port.parse::<u16>().is_ok_and(|port| port != 443)
}

/// Whether `path` is empty, or segments of which none but the last is empty and none is made of dots.
fn is_path(path: &str) -> bool {
    let Some(segments) = path.strip_prefix('/') else { return path.is_empty() };
    let segments = segments.strip_suffix('/').unwrap_or(segments);
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._~!$&'()*+,;=:@-".contains(&b);
    segments.split('/').all(|segment| !matches!(segment, "" | "." | "..") && segment.bytes().all(allowed))
}

impl fmt::Display for ResourceIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_resource_is_written_in_one_way() {
        for text in
            ["https://papers.example.com", "https://a-b.c:8443/mcp", "https://a/b/", "https://a/b.c/(d)"]
        {
            assert_eq!(
                text.parse().map(|parsed: ResourceIdentifier| parsed.to_string()),
                Ok(text.to_owned())
            );
        }
        let parsed: ResourceIdentifier = "HTTPS://Papers.Example.com/MCP".parse().unwrap();
        assert_eq!(parsed.as_str(), "https://papers.example.com/MCP");
    }

    #[test]
    fn other_ways_are_refused() {
        use InvalidIdentifier::{Host, Path, Port, Scheme, TooLong};
        for (text, error) in [
            ("", Scheme),
            ("papers", Scheme),
            ("//papers", Scheme),
            ("http://a", Scheme),
            ("https:/a", Scheme),
            ("https://", Host),
            ("https://u@a", Host),
            ("https://a..b", Host),
            ("https://a.", Host),
            ("https://-a", Host),
            ("https://[::1]", Host),
            ("https://a_b", Host),
            ("https://a\u{200b}", Host),
            ("https://a%2eb", Host),
            ("https://a:443", Port),
            ("https://a:0443/b", Port),
            ("https://a:", Port),
            ("https://a:+80", Port),
            ("https://a:65536", Port),
            ("https://a/", Path),
            ("https://a//", Path),
            ("https://a//b", Path),
            ("https://a/b//", Path),
            ("https://a/./b", Path),
            ("https://a/b/..", Path),
            ("https://a/%2e%2e", Path),
            ("https://a?b", Path),
            ("https://a/b#", Path),
            ("https://a/b c", Path),
            ("https://a/\u{e4}", Path),
        ] {
            assert_eq!(text.parse::<ResourceIdentifier>(), Err(error), "{text:?}");
        }
        assert_eq!(format!("https://a/{}", "b".repeat(503)).parse::<ResourceIdentifier>(), Err(TooLong));
    }
}
