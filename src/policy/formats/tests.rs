//! Every shipped format against keys made here from its own pattern, so that no file of the repository holds one.

use super::{
    file::{Entry, File},
    *,
};
use ::base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use regex_syntax::hir::{Class, Hir, HirKind};
use std::time::{Duration, Instant};

/// Keys of each format.
const KEYS: usize = 6;

fn entries() -> Vec<Entry> {
    toml::from_str::<File>(include_str!("formats.toml")).unwrap().rules
}

/// Keys of a format; for one that is named, what may stand under the name. The same in every run.
fn keys(entry: &Entry) -> impl Iterator<Item = String> {
    let pattern = regex_syntax::parse(&entry.regex).unwrap();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    (0..KEYS).map(move |_| {
        let mut key = String::new();
        dice.write(&pattern, &mut key);
        key
    })
}

/// Writes what a pattern matches, every letter of a class as likely as the others.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 >> 33).unwrap() % bound
    }

    fn write(&mut self, pattern: &Hir, key: &mut String) {
        match pattern.kind() {
            HirKind::Empty => {}
            HirKind::Literal(literal) => key.push_str(std::str::from_utf8(&literal.0).unwrap()),
            HirKind::Class(Class::Unicode(class)) => {
                let letters: Vec<char> =
                    ('!'..='~').filter(|c| class.iter().any(|r| (r.start()..=r.end()).contains(c))).collect();
                key.push(letters[self.below(u32::try_from(letters.len()).unwrap()) as usize]);
            }
            HirKind::Repetition(repetition) => {
                let most = repetition.max.unwrap_or(repetition.min + 30).min(repetition.min + 60);
                for _ in 0..repetition.min + self.below(most - repetition.min + 1) {
                    self.write(&repetition.sub, key);
                }
            }
            HirKind::Capture(capture) => self.write(&capture.sub, key),
            HirKind::Concat(parts) => parts.iter().for_each(|part| self.write(part, key)),
            HirKind::Alternation(ways) => {
                let way = self.below(u32::try_from(ways.len()).unwrap()) as usize;
                self.write(&ways[way], key);
            }
            HirKind::Class(Class::Bytes(_)) | HirKind::Look(_) => panic!("no format has such a pattern"),
        }
    }
}

/// A key in everything people put keys in.
fn surroundings(key: &str) -> Vec<String> {
    let json = format!("{{\"key\": \"{key}\", \"next\": 1}}");
    let wrapped =
        STANDARD.encode(format!("# a comment that makes it long enough for two lines\nkey: {key}\n"));
    let lines: Vec<_> = wrapped.as_bytes().chunks(76).map(String::from_utf8_lossy).collect();
    vec![
        key.to_owned(),
        format!("--api-key={key}"),
        format!("--api-key {key} --verbose"),
        format!("export KEY={key}; exec run"),
        format!("MY_KEY_{key}"),
        format!("curl -H 'Authorization: Bearer {key}' https://example.com"),
        format!("curl -H \"x-api-key: {key}\" https://example.com | jq ."),
        json.replace('"', "\\\""),
        json,
        format!("line\\n{key}\\nline"),
        format!("a:\n  key: {key}\n  next: x\n"),
        format!("https://example.com/?key={key}&x=1"),
        format!("https%3A%2F%2Fexample.com%2F%3Fkey%3D{key}"),
        format!("{}\n{key}\n{}", "lorem ipsum ".repeat(60), "dolor ".repeat(60)),
        STANDARD.encode(key),
        format!("token={}", URL_SAFE_NO_PAD.encode(format!("{{\"token\":\"{key}\"}}"))),
        format!("echo {} | base64 -d > key", STANDARD.encode(format!("key: {key}\n"))),
        lines.join("\n"),
    ]
}

#[test]
fn every_format_is_found_in_everything_people_put_keys_in() {
    let formats = Formats::builtin().unwrap();
    for entry in entries().iter().filter(|entry| !entry.named) {
        for key in keys(entry) {
            for text in surroundings(&key) {
                let found = formats.find(&text);
                assert_eq!(found, Some(entry.id.as_str()), "{text:?}");
            }
        }
    }
}

#[test]
fn what_stands_under_a_known_name_is_found() {
    let formats = Formats::builtin().unwrap();
    for entry in entries().iter().filter(|entry| entry.named) {
        for (value, name) in keys(entry).zip(entry.spellings().iter().cycle()) {
            let expected = Some(entry.id.as_str());
            assert_eq!(formats.find_under(name, &value), expected, "{name} {value}");
            for text in [
                format!("{name}={value}"),
                format!("--{name} {value} --verbose"),
                format!("export {name}='{value}'; run"),
                format!("{{\"{name}\": \"{value}\"}}"),
                format!("{{\\\"{name}\\\":\\\"{value}\\\"}}"),
                format!("env:\n  {name}: {value}\n"),
                format!("curl -H '{name}: {value}' https://example.com"),
                STANDARD.encode(format!("{name}={value}\n")),
            ] {
                assert_eq!(formats.find(&text), expected, "{text:?}");
            }
            for text in [value.clone(), format!("{name} is not {value}"), format!("X{name}={value}")] {
                assert_eq!(formats.find(&text), None, "{text:?}");
            }
            assert_eq!(formats.find_under(name, "$(FROM_ELSEWHERE)"), None);
            assert_eq!(formats.find_under("OTHER", &value), None);
        }
    }
}

#[test]
fn near_misses_are_none() {
    let formats = Formats::builtin().unwrap();
    for entry in entries().iter().filter(|entry| !entry.named) {
        for key in keys(entry) {
            let at = |keyword: &String| Some((key.find(keyword)?, keyword.len()));
            let (at, length) = entry.keywords.iter().filter_map(at).min().unwrap();
            let (lead, rest) = (&key[..at], &key[at + length..]);
            let keyword = &key[at..at + length];
            let spaced = |text: &str| {
                let letters: Vec<_> = text.chars().collect();
                letters.chunks(3).map(String::from_iter).collect::<Vec<_>>().join(" ")
            };
            let x = |text: &str| text.replace(|c: char| c.is_ascii_alphanumeric(), "x");
            // Of a key that is longer before the keyword, what is cut is there.
            let (cut_lead, cut) = if lead.len() > rest.len() {
                (&lead[lead.len() / 2..], rest)
            } else {
                (lead, &rest[..rest.len().min(3)])
            };
            for text in [
                format!("{} {keyword}{}", spaced(lead), spaced(rest)),
                format!("{cut_lead}{keyword}{cut}"),
                format!("{cut_lead}{keyword}..."),
                // A password may be of one letter, as far as its letters go.
                if entry.id == "url-password" {
                    String::new()
                } else {
                    format!("{}{keyword}{}", x(lead), x(rest))
                },
                format!("{keyword}<your key>"),
                format!("{keyword}$(KEY)"),
                format!("{keyword}${{KEY}}"),
            ] {
                assert_eq!(formats.find(&text), None, "{}: {text:?}", entry.id);
            }
            if key.starts_with(|c: char| c.is_ascii_alphanumeric()) {
                assert_ne!(formats.find(&format!("a{key}")), Some(entry.id.as_str()), "{key:?}");
            }
        }
    }
}

#[test]
fn ordinary_text_raises_nothing() {
    let formats = Formats::builtin().unwrap();
    for text in include_str!("ordinary.txt").split("\n%\n") {
        assert_eq!(formats.find(text), None, "{text:?}");
        assert_eq!(formats.find(&STANDARD.encode(text)), None, "{text:?}");
    }
}

#[test]
fn passwords_in_urls_are_told_from_their_placeholders() {
    let formats = Formats::builtin().unwrap();
    let word: String = "aB3dE6gH9jK2".chars().rev().collect();
    for url in [
        format!("postgres://app:{word}@db.example.com:5432/app"),
        format!("redis://:{word}@cache"),
        format!("postgres://app:${word}@db/app"),
        format!("postgres://app:a%2F{word}@${{HOST}}/app"),
        format!("https://oauth2:{word}@git.example.com/x.git"),
    ] {
        assert_eq!(formats.find(&url), Some("url-password"), "{url}");
    }
}

#[test]
fn there_are_many_formats_and_each_is_its_own() {
    let entries = entries();
    assert!(entries.len() >= 60, "{}", entries.len());
    assert_eq!(Formats::builtin().unwrap().len(), entries.len());
    println!(
        "{} formats, {} keywords",
        entries.len(),
        entries.iter().map(|e| e.spellings().len()).sum::<usize>()
    );
}

#[test]
fn broken_files_are_refused_and_named() {
    let file = |rule: &str| format!("[[rules]]\nid = 'a'\ndescription = 'd'\n{rule}");
    let why = |text: &str| Formats::from_toml(text).unwrap_err().to_string();
    assert!(matches!(Formats::from_toml("rules = 1"), Err(FormatError::Unreadable(_))));
    for (rule, what) in [
        ("regex = '('\nkeywords = ['ab']", "format \"a\": "),
        ("regex = '(?:a{1000}){1000}'\nkeywords = ['aa']", "format \"a\": "),
        ("regex = 'ab'\nkeywords = []", "format \"a\": name 1 to 16 keywords"),
        ("regex = 'ab'\nkeywords = ['a']", "format \"a\": a keyword has 2 to 64"),
        ("regex = 'ab'\nkeywords = ['ab']\nlead = 300", "format \"a\": lead"),
        ("regex = 'ab'\nkeywords = ['ab']\nlead = 3\nnamed = true", "format \"a\": lead"),
        ("regex = 'ab'\nkeywords = ['ab']\nentropy = 9.0", "format \"a\": entropy"),
    ] {
        assert!(why(&file(rule)).starts_with(what), "{}", why(&file(rule)));
    }
    assert!(why(&file(&format!("regex = '{}'\nkeywords = ['ab']", "a".repeat(3000)))).contains("2048"));
    assert!(why(&file("regex = 'ab'\nkeywords = ['ab']").replace("'a'", "'A b'")).contains("an id has"));
    let twice = file("regex = 'ab'\nkeywords = ['ab']\n").repeat(2);
    assert!(why(&twice).contains("twice"), "{}", why(&twice));
    let many: String = (0..513)
        .map(|n| file("regex = 'ab'\nkeywords = ['ab']\n").replace("'a'", &format!("'a{n}'")))
        .collect();
    assert!(why(&many).contains("512"));
    assert_eq!(Formats::default().find("sk-"), None);
}

#[test]
fn a_platform_team_adds_formats_of_its_own() {
    let toml = "[[rules]]\nid = 'acme-token'\ndescription = 'd'\nregex = 'acme_[a-z0-9]{12}'\nkeywords = ['acme_']\n";
    let json = r#"{"rules": [{"id": "acme-token", "description": "d", "regex": "acme_[a-z0-9]{12}", "keywords": ["acme_"]}]}"#;
    for own in [toml, json] {
        let formats = Formats::builtin_and(own).unwrap();
        assert_eq!(formats.len(), entries().len() + 1);
        assert_eq!(formats.find("x --token acme_a1b2c3d4e5f6"), Some("acme-token"));
        assert_eq!(formats.find("x --token acme_a1b2c3d4e5f"), None);
        let clashing = own.replace("acme-token", "jwt");
        assert!(
            Formats::builtin_and(&clashing)
                .unwrap_err()
                .to_string()
                .starts_with("format \"jwt\": is there twice")
        );
        let broken = own.replace("{12}", "{12");
        assert!(
            Formats::builtin_and(&broken)
                .unwrap_err()
                .to_string()
                .starts_with("format \"acme-token\": regex parse error")
        );
    }
    assert!(Formats::builtin_and("{\"rules\": 1}").is_err() && Formats::builtin_and("rules = 1").is_err());
}

/// Time to look through `text`, in microseconds a KB; the best of some runs.
#[expect(clippy::disallowed_methods, reason = "a test that measures")]
fn cost(formats: &Formats, text: &str) -> f64 {
    let run = |_| {
        let started = Instant::now();
        let found = formats.find(text);
        (started.elapsed(), found.is_some())
    };
    let (best, _): (Duration, _) = (0..3).map(run).min().unwrap();
    best.as_secs_f64() * 1e6 / (text.len() as f64 / 1024.0)
}

#[test]
fn a_long_prompt_costs_little_and_a_hostile_text_not_much() {
    let formats = Formats::builtin().unwrap();
    let prompt = include_str!("ordinary.txt").replace("\n%\n", "\n").repeat(200);
    let prompt = &prompt[..prompt.floor_char_boundary(200 << 10)];
    let noise = STANDARD.encode(prompt);
    println!("a prompt of 200 KB: {:.2} µs/KB", cost(&formats, prompt));
    println!("base64 in one piece: {:.2} µs/KB", cost(&formats, &noise[..200 << 10]));
    for beginning in [
        "eyJ-",
        "sk-proj-",
        "://",
        "sk-",
        ":AA ",
        "-----BEGIN ",
        "eyJaaaaaaaaaa.eyJ-eyJ-eyJ-",
        "COHERE_API_KEY=",
    ] {
        let hostile = beginning.repeat((20 << 10) / beginning.len());
        let cost = cost(&formats, &hostile);
        println!("nothing but {beginning:?}: {cost:.2} µs/KB");
        // Without optimisation and on a busy machine. Work that grows with the square of the text takes minutes.
        assert!(cost < 50_000.0, "{beginning:?}: {cost} µs/KB");
    }
    assert!(cost(&formats, prompt) < 5_000.0);
}
