//! Lines for a terminal. What comes from the cluster was written by somebody, who must not get to move the cursor, to
//! recolour or to reorder what is read beside it.

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Data as it is to be printed, escaped already: standard output.
    Data(String),
    /// What was done or found out: standard output.
    Done(String),
    /// What should be known besides: standard error.
    Warning(String),
    /// What was asked for and is not so: standard error, and the command fails.
    Failure(String),
    /// What was asked about and cannot be known, or not as a whole: standard error, and the command ends as such.
    Unknown(String),
}

impl Line {
    /// Whether the command fails by it.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Failure(_))
    }
}

/// `text` on one line, with every character that a terminal acts upon written as its escape.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => safe.extend(c.escape_default()),
            c if acts(c) => safe.extend(c.escape_unicode()),
            c => safe.push(c),
        }
    }
    safe
}

/// JSON text of the same meaning without such characters. JSON's own escapes leave DEL, C1 and the marks that reorder
/// text as they are; all of these can only stand within its strings.
pub fn escaped_json(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        if c != '\n' && acts(c) {
            // All of them lie in the basic plane: one unit.
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                safe.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            safe.push(c);
        }
    }
    safe
}

/// Control characters, and the invisible ones that reorder, join or hide text.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVIL: &str = "a\u{1b}[2Jb\nc\u{9b}d\u{202e}e\u{7f}é\u{200b}";

    #[test]
    fn a_terminal_acts_on_nothing_that_the_cluster_says() {
        assert_eq!(escaped(EVIL), "a\\u{1b}[2Jb\\nc\\u{9b}d\\u{202e}e\\u{7f}é\\u{200b}");
        assert_eq!(escaped("plain: \"ünï\" \\ 日本"), "plain: \"ünï\" \\ 日本");
    }

    #[test]
    fn json_keeps_its_meaning() {
        let json = serde_json::to_string_pretty(&serde_json::json!({"why": EVIL})).unwrap();
        let safe = escaped_json(&json);
        assert!(safe.contains(r"a\u001b[2Jb\nc\u009bd\u202ee\u007fé\u200b"), "{safe:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap()["why"], EVIL);
    }
}
