//! What a token is for: a resource by its identifier (RFC 8707, section 2).

use super::Reason;
use std::{fmt, str::FromStr};

/// Most bytes of an identifier.
const BYTES: usize = 512;
const SCHEME: &str = "https://";

/// The identifier of a resource: an absolute `https` URI (RFC 3986) without user information and fragment. Scheme and
/// host are in lower case, since clients may write them as they like (MCP authorization, canonical server URI); nothing
/// else is made the same, so that `:443`, a trailing `/` or `%2e` make another resource, one that nobody owns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ResourceId(String);

impl ResourceId {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ResourceId {
    type Err = Reason;

    /// # Errors
    /// [`Reason::ResourceMalformed`].
    fn from_str(text: &str) -> Result<Self, Reason> {
        parse(text).ok_or(Reason::ResourceMalformed)
    }
}

fn parse(text: &str) -> Option<ResourceId> {
    if text.len() > BYTES {
        return None;
    }
    let (scheme, rest) = text.split_at_checked(SCHEME.len())?;
    let (authority, path) = rest.split_at_checked(rest.find(['/', '?']).unwrap_or(rest.len()))?;
    let is_whole = scheme.eq_ignore_ascii_case(SCHEME) && is_authority(authority) && is_path(path);
    is_whole.then(|| ResourceId(format!("{SCHEME}{}{path}", authority.to_ascii_lowercase())))
}

/// A host, and a port if one is named.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')),
    };
    !host.is_empty() && is_host && port.is_none_or(is_port)
}

/// A path and a query: the characters that RFC 3986 allows there, and escapes that are whole.
fn is_path(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte);
    let is_escape = |escape: &str| escape.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    text.bytes().all(allowed) && text.split('%').skip(1).all(is_escape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn scheme_and_host_are_in_lower_case_and_nothing_else_is_changed() {
        for (text, expected) in [
            ("https://papers.example.com", "https://papers.example.com"),
            ("HTTPS://Papers.Example.COM/MCP?Q=A", "https://papers.example.com/MCP?Q=A"),
            ("https://papers.example.com/", "https://papers.example.com/"),
            ("https://papers.example.com:443/mcp", "https://papers.example.com:443/mcp"),
            ("https://papers.example.com/a/%2e%2e/B%2F", "https://papers.example.com/a/%2e%2e/B%2F"),
            ("https://a?b", "https://a?b"),
            ("https://[2001:DB8::1]:8443/x", "https://[2001:db8::1]:8443/x"),
        ] {
            assert_eq!(text.parse::<ResourceId>().map(|id| id.to_string()), Ok(expected.to_owned()));
        }
    }

    #[test]
    fn corpus_12_resource_forms() {
        let long = format!("https://a/{}", "b".repeat(503));
        for text in [
            "",
            "papers",
            "/mcp",
            "//a/b",
            "https:",
            "https://",
            "https:///mcp",
            "https:/a",
            "http://a",
            "urn:a:b",
            "https://a#b",
            "https://a/b#",
            "https://u@a",
            "https://u:p@a/",
            "https://:443",
            "https://a:",
            "https://a:+1",
            "https://a:65536",
            "https://a b",
            "https://a/b c",
            "https://a/%",
            "https://a/%2",
            "https://a/%2g",
            "https://a%2eb",
            "https://a/\u{e9}",
            "https://a/\r\n",
            "https://a\\b",
            "https://a/<b>",
            "https://[::1",
            "https://[x]",
            "https://a:1:2",
            " https://a",
            "https://\u{130}/",
            &long,
        ] {
            assert_eq!(text.parse::<ResourceId>(), Err(Reason::ResourceMalformed), "{text:?}");
        }
        assert!(long[..512].parse::<ResourceId>().is_ok());
    }

    proptest! {
        #[test]
        fn any_text_can_be_named(text in "(https://)?.{0,40}") {
            if let Ok(id) = text.parse::<ResourceId>() {
                prop_assert!(text.eq_ignore_ascii_case(id.as_str()));
                prop_assert_eq!(id.as_str().parse(), Ok(id));
            }
        }
    }
}
