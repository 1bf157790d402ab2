//! A format file read, checked and compiled.

use super::{
    Compiled, Formats, Keyword,
    text::{entropy, is_placeholder, may_begin, may_end},
};
use aho_corasick::{AhoCorasick, AhoCorasickKind};
use regex::bytes::{Match, Regex, RegexBuilder};
use serde::Deserialize;
use std::{collections::BTreeMap, sync::Arc};

/// A compiled pattern stays below this many bytes. Unicode classes are off: the formats are ASCII, and with Unicode on
/// one broad class alone compiles to megabytes.
const SIZE_LIMIT: usize = 1 << 18;
/// Bytes of text that a pattern sees from a keyword on.
const WINDOW: usize = 1 << 10;
/// The same for a format with a lead, which is searched for and not only tried.
const LEAD_WINDOW: usize = 160;
/// Bytes of a key that are looked at for whether it could be one.
const SAMPLE: usize = 256;
/// Bits a character of a key has at least, unless its format says otherwise.
const ENTROPY: f64 = 2.5;
/// What stands between a name and its value: in a shell, in JSON, in YAML, in a header, behind a flag.
const SEPARATOR: &str = r#"["'\\]{0,2}\s{0,4}[=:\s]\s{0,4}["'\\]{0,2}"#;

const MOST_FORMATS: usize = 512;
const MOST_KEYWORDS: usize = 16;
const MOST_LEAD: usize = 256;
const MOST_PATTERN: usize = 2048;

/// A format file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// It is no TOML of the expected shape.
    #[error("the format file cannot be read: {0}")]
    Unreadable(#[from] toml::de::Error),
    /// It is no JSON of the expected shape.
    #[error("the format file cannot be read: {0}")]
    UnreadableJson(#[from] serde_json::Error),
    /// A pattern does not compile within bounds.
    #[error("format {id:?}: {source}")]
    Pattern {
        /// The format.
        id: String,
        /// What is wrong with its pattern.
        source: Box<regex::Error>,
    },
    /// A format is not within bounds.
    #[error("format {id:?}: {what}")]
    Format {
        /// The format.
        id: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The keywords of all formats do not fit into one automaton.
    #[error("the keywords of the formats: {0}")]
    Keywords(#[from] aho_corasick::BuildError),
}

/// A format file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) rules: Vec<Entry>,
}

/// A format in a file.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) id: String,
    #[expect(dead_code, reason = "for the reader of the file; required so that no format is without one")]
    description: String,
    pub(super) regex: String,
    pub(super) keywords: Vec<String>,
    #[serde(default)]
    entropy: Option<f64>,
    #[serde(default)]
    lead: usize,
    #[serde(default)]
    pub(super) named: bool,
    except: Option<String>,
}

impl Entry {
    fn check(&self) -> Result<(), &'static str> {
        let is_id = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=63).contains(&self.id.len()) || !self.id.bytes().all(is_id) {
            return Err("an id has 1 to 63 small letters, digits and dashes");
        }
        if !(1..=MOST_KEYWORDS).contains(&self.keywords.len()) {
            return Err("name 1 to 16 keywords");
        }
        if self.keywords.iter().any(|keyword| !(2..=64).contains(&keyword.len()) || !keyword.is_ascii()) {
            return Err("a keyword has 2 to 64 ASCII characters");
        }
        if self.lead > MOST_LEAD || (self.named && self.lead > 0) {
            return Err("lead is at most 256, and nothing for a format that is named");
        }
        if self.entropy.is_some_and(|bits| !(0.0..=8.0).contains(&bits)) {
            return Err("entropy is 0 to 8 bits");
        }
        if self.regex.len() > MOST_PATTERN || self.except.as_ref().is_some_and(|e| e.len() > MOST_PATTERN) {
            return Err("a pattern has at most 2048 bytes");
        }
        Ok(())
    }

    /// The keywords as they are searched for.
    pub(super) fn spellings(&self) -> Vec<String> {
        if !self.named {
            return self.keywords.clone();
        }
        let spell = |name: &String| {
            let dashed = name.replace('_', "-");
            [name.clone(), name.to_ascii_lowercase(), dashed.to_ascii_lowercase(), dashed]
        };
        let mut spellings: Vec<_> = self.keywords.iter().flat_map(spell).collect();
        spellings.sort_unstable();
        spellings.dedup();
        spellings
    }

    /// The pattern as it is tried at a keyword.
    fn pattern(&self) -> String {
        let Self { regex, .. } = self;
        if self.named {
            let names: Vec<_> = self.spellings().iter().map(|name| regex::escape(name)).collect();
            format!(r"\A(?:{}){SEPARATOR}((?:{regex}))", names.join("|"))
        } else if self.lead > 0 {
            regex.clone()
        } else {
            format!(r"\A(?:{regex})")
        }
    }
}

/// A format, compiled.
#[derive(Debug)]
pub(super) struct Format {
    id: String,
    pattern: Regex,
    except: Option<Regex>,
    entropy: f64,
    lead: usize,
    named: bool,
}

/// Compiles the formats of some files together.
pub(super) fn compile(files: impl IntoIterator<Item = File>) -> Result<Formats, FormatError> {
    let mut of_keywords: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut formats: Vec<Format> = vec![];
    for (index, entry) in files.into_iter().flat_map(|file| file.rules).enumerate() {
        let wrong = |what| FormatError::Format { id: entry.id.clone(), what };
        entry.check().map_err(wrong)?;
        if index >= MOST_FORMATS {
            return Err(wrong("is one too many: there may be 512"));
        }
        if formats.iter().any(|format| format.id == entry.id) {
            return Err(wrong("is there twice"));
        }
        for keyword in entry.spellings() {
            of_keywords.entry(keyword).or_default().push(index);
        }
        formats.push(Format::compile(entry)?);
    }
    let automaton = match of_keywords.len() {
        0 => None,
        _ => Some(AhoCorasick::builder().kind(Some(AhoCorasickKind::DFA)).build(of_keywords.keys())?),
    };
    let keywords =
        of_keywords.into_iter().map(|(keyword, formats)| Keyword { bytes: keyword.len(), formats }).collect();
    Ok(Formats(Arc::new(Compiled { automaton, keywords, formats })))
}

impl Format {
    fn compile(entry: Entry) -> Result<Self, FormatError> {
        let build = |pattern: &str| {
            RegexBuilder::new(pattern)
                .unicode(false)
                .size_limit(SIZE_LIMIT)
                .dfa_size_limit(SIZE_LIMIT)
                .build()
                .map_err(|source| FormatError::Pattern { id: entry.id.clone(), source: Box::new(source) })
        };
        Ok(Self {
            pattern: build(&entry.pattern())?,
            except: entry.except.as_deref().map(build).transpose()?,
            entropy: entry.entropy.unwrap_or(ENTROPY),
            lead: entry.lead,
            named: entry.named,
            id: entry.id,
        })
    }

    /// Its id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Whether its keywords are names.
    pub(super) fn is_named(&self) -> bool {
        self.named
    }

    /// Whether an instance of it stands where one of its keywords, of so many bytes, stands.
    pub(super) fn is_at(&self, text: &[u8], at: usize, keyword: usize) -> bool {
        if self.lead == 0 && !may_begin(text, at) {
            return false;
        }
        let from = at.saturating_sub(self.lead);
        let window = if self.lead == 0 { WINDOW } else { LEAD_WINDOW };
        let to = text.len().min(at + window);
        let window = &text[from..to];
        let Some(whole) = self.pattern.find(window) else { return false };
        let (begin, end) = (from + whole.start(), from + whole.end());
        begin <= at
            && end >= at + keyword
            && may_begin(text, begin)
            && (end == to || may_end(text, end))
            && self.except.as_ref().is_none_or(|except| !except.is_match(whole.as_bytes()))
            && (self.entropy == 0.0 || self.is_random(window, whole, keyword))
    }

    /// Whether the key itself, without what every such key has, could be one.
    fn is_random(&self, window: &[u8], whole: Match<'_>, keyword: usize) -> bool {
        let group = match self.pattern.captures_len() {
            1 => None,
            _ => self.pattern.captures(window).and_then(|found| found.get(1)),
        };
        let key = match group {
            Some(group) => group.as_bytes(),
            None if self.lead > 0 => whole.as_bytes(),
            None => &whole.as_bytes()[keyword.min(whole.len())..],
        };
        let sample = &key[..key.len().min(SAMPLE)];
        !is_placeholder(sample) && entropy(sample) >= self.entropy
    }
}
