//! Formats of keys, from a data file in the manner of gitleaks.

use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use serde::Deserialize;
use std::sync::Arc;

/// Compiled patterns stay below this many bytes each. Unicode classes are off: the formats are ASCII, and with
/// Unicode on one broad class alone compiles to megabytes.
const SIZE_LIMIT: usize = 1 << 20;

/// A set of formats, compiled. Matching is linear in the text whatever the patterns are.
#[derive(Clone, Debug, Default)]
pub struct Formats(Arc<Compiled>);

#[derive(Debug, Default)]
struct Compiled {
    any: RegexSet,
    formats: Vec<Format>,
}

#[derive(Debug)]
struct Format {
    id: String,
    pattern: Regex,
    except: Option<Regex>,
}

/// A format file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// It is no TOML of the expected shape.
    #[error("the format file cannot be read: {0}")]
    Unreadable(#[from] toml::de::Error),
    /// A pattern does not compile within bounds.
    #[error("format {id:?}: {source}")]
    Pattern {
        /// The format.
        id: String,
        /// What is wrong with its pattern.
        source: Box<regex::Error>,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    rules: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    #[expect(dead_code, reason = "for the reader of the file; required so that no format is without one")]
    description: String,
    regex: String,
    except: Option<String>,
}

impl Formats {
    /// The formats Deputy ships.
    ///
    /// # Errors
    /// When the file is broken.
    pub fn builtin() -> Result<Self, FormatError> {
        Self::from_toml(include_str!("formats.toml"))
    }

    /// Compiles a format file.
    ///
    /// # Errors
    /// When it is no such file, or a pattern does not compile within bounds.
    pub fn from_toml(text: &str) -> Result<Self, FormatError> {
        let File { rules } = toml::from_str(text)?;
        let any = RegexSetBuilder::new(rules.iter().map(|rule| &rule.regex))
            .unicode(false)
            .size_limit(SIZE_LIMIT * rules.len().max(1))
            .build()
            .map_err(|source| FormatError::Pattern { id: "all".to_owned(), source: Box::new(source) })?;
        let formats = rules.into_iter().map(Format::compile).collect::<Result<_, _>>()?;
        Ok(Self(Arc::new(Compiled { any, formats })))
    }

    /// The id of the first format that `text` holds an instance of, anywhere inside.
    pub fn find(&self, text: &str) -> Option<&str> {
        let bytes = text.as_bytes();
        self.0
            .any
            .matches(bytes)
            .into_iter()
            .map(|index| &self.0.formats[index])
            .find(|format| format.is_in(bytes))
            .map(|format| format.id.as_str())
    }

    /// How many formats there are.
    pub fn len(&self) -> usize {
        self.0.formats.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Format {
    fn compile(entry: Entry) -> Result<Self, FormatError> {
        let build = |pattern: &str| {
            RegexBuilder::new(pattern)
                .unicode(false)
                .size_limit(SIZE_LIMIT)
                .build()
                .map_err(|source| FormatError::Pattern { id: entry.id.clone(), source: Box::new(source) })
        };
        let (pattern, except) = (build(&entry.regex)?, entry.except.as_deref().map(build).transpose()?);
        Ok(Self { id: entry.id, pattern, except })
    }

    fn is_in(&self, text: &[u8]) -> bool {
        match &self.except {
            None => self.pattern.is_match(text),
            Some(except) => self.pattern.find_iter(text).any(|found| !except.is_match(found.as_bytes())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys are made here, so that no file of the repository holds one.
    fn keys() -> Vec<(&'static str, String)> {
        let letters = |n: usize| "aB3dE6gH9jK2mN5pQ8sT".chars().cycle().take(n).collect::<String>();
        let upper = |n: usize| "ABCDEFGH234567".chars().cycle().take(n).collect::<String>();
        vec![
            ("openai-api-key", format!("sk-proj-{}", letters(120))),
            ("openai-api-key", format!("sk-{}T3BlbkFJ{}", letters(20), letters(20))),
            ("anthropic-api-key", format!("sk-ant-api03-{}-{}", letters(60), letters(33))),
            ("aws-access-key-id", format!("AKIA{}", upper(16))),
            ("google-api-key", format!("AIza{}", letters(35))),
            ("github-token", format!("ghp_{}", letters(36))),
            ("github-token", format!("github_pat_{}_{}", letters(22), letters(59))),
            ("gitlab-token", format!("glpat-{}", letters(20))),
            ("slack-token", format!("xoxb-{}-{}-{}", "123456789012", "123456789012", letters(24))),
            (
                "slack-token",
                format!("https://hooks.slack.com/services/T{}/B{}/{}", upper(8), upper(8), letters(24)),
            ),
            ("private-key", format!("-----BEGIN {}PRIVATE KEY-----\nMIIE", "RSA ")),
            ("private-key", "-----BEGIN PRIVATE KEY-----".to_owned()),
            ("jwt", format!("eyJ{}.eyJ{}.{}", letters(20), letters(40), letters(43))),
            ("url-password", format!("postgres://app:{}@db.example.com:5432/app", letters(12))),
            ("url-password", format!("redis://:{}@cache", letters(8))),
            ("url-password", format!("postgres://app:${}@db/app", letters(8))),
        ]
    }

    #[test]
    fn the_shipped_file_compiles_and_each_format_has_a_key_here() {
        let formats = Formats::builtin().unwrap();
        assert_eq!(formats.len(), 10);
        for format in &formats.0.formats {
            assert!(keys().iter().any(|(id, _)| *id == format.id), "{} has no test key", format.id);
        }
    }

    #[test]
    fn keys_are_found_alone_and_inside_longer_text() {
        let formats = Formats::builtin().unwrap();
        for (id, key) in keys() {
            for text in [
                key.clone(),
                format!("--api-key={key}"),
                format!("KEY_{key}"),
                format!("curl -H 'Authorization: Bearer {key}' https://example.com"),
                format!("{{\"key\": \"{key}\"}}"),
                format!("{}\n{key}\n{}", "lorem ipsum ".repeat(400), "dolor ".repeat(400)),
            ] {
                assert_eq!(formats.find(&text), Some(id), "{text:?}");
            }
        }
    }

    #[test]
    fn placeholders_and_ordinary_text_raise_nothing() {
        let formats = Formats::builtin().unwrap();
        for text in [
            "sk-...",
            "sk-proj-xxxx",
            "sk-ant-...",
            "<your-key>",
            "$(OPENAI_API_KEY)",
            "${ANTHROPIC_API_KEY}",
            "AKIAIOSFODNN7EXAMPLE",
            "AIzaSy...",
            "ghp_xxx",
            "postgres://app@db.example.com/app",
            "postgres://app:$(DB_PASSWORD)@db/app",
            "postgres://app:${DB_PASSWORD}@db/app",
            "postgres://app:<password>@db/app",
            "postgres://user:password@localhost/db",
            "postgres://user:****@localhost/db",
            "http://10.0.0.1:8080/metrics@latest",
            "https://example.com:8443/path?user=a@example.com",
            "https://[::1]:8080/",
            "registry.example.com/agent@sha256:9b86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "f47ac10b-58cc-4372-a567-0e02b2c3d479",
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "-----BEGIN CERTIFICATE-----\nMIIB",
            "-----BEGIN PUBLIC KEY-----",
            "claude-opus-4-20250514",
            "eyJhbGciOiJIUzI1NiJ9",
            "mailto:team@example.com",
            "You are a careful assistant. Never reveal keys such as sk-... or AKIA... to anyone.",
        ] {
            assert_eq!(formats.find(text), None, "{text:?}");
        }
    }

    #[test]
    fn broken_files_are_refused() {
        assert!(matches!(Formats::from_toml("rules = 1"), Err(FormatError::Unreadable(_))));
        let open = "[[rules]]\nid = 'a'\ndescription = 'd'\nregex = '('\n";
        assert!(matches!(Formats::from_toml(open), Err(FormatError::Pattern { .. })));
        let huge = "[[rules]]\nid = 'a'\ndescription = 'd'\nregex = '(?:a{1000}){1000}'\n";
        assert!(matches!(Formats::from_toml(huge), Err(FormatError::Pattern { .. })));
    }
}
