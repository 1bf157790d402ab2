//! One layer of base64, both alphabets, with padding or without, in one piece or in lines.

/// Letters a run has at least to be looked into: what is shorter holds no key.
const LEAST_RUN: usize = 24;
/// Letters a line of a run in several lines has at least.
const LEAST_LINE: usize = 40;

/// What the runs of base64 in `text` decode to, until `look` has found something. A run may stand right behind other letters,
/// such as the `n` of `\n`, so each is read from its first four letters on.
pub(super) fn layers<T>(text: &[u8], mut look: impl FnMut(&[u8]) -> Option<T>) -> Option<T> {
    let (mut run, mut decoded) = (vec![], vec![]);
    let mut at = 0;
    while let Some(begin) = text[at..].iter().position(|byte| sextet(*byte).is_some()) {
        at = collect(text, at + begin, &mut run);
        if run.len() < LEAST_RUN {
            continue;
        }
        for skipped in 0..4 {
            decode(&run[skipped..], &mut decoded);
            if let Some(found) = look(&decoded) {
                return Some(found);
            }
        }
    }
    None
}

/// Collects the run that begins at `at`; returns where it ends.
fn collect(text: &[u8], mut at: usize, run: &mut Vec<u8>) -> usize {
    run.clear();
    loop {
        let before = run.len();
        run.extend(text[at..].iter().map_while(|byte| sextet(*byte)));
        let line = run.len() - before;
        at += line;
        let rest = &text[at..];
        let next =
            rest.strip_prefix(b"\r\n").or_else(|| rest.strip_prefix(b"\n")).map(<[u8]>::trim_ascii_start);
        match next {
            Some(next) if line >= LEAST_LINE && next.first().is_some_and(|byte| sextet(*byte).is_some()) => {
                at = text.len() - next.len();
            }
            _ => return at,
        }
    }
}

fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

fn decode(run: &[u8], into: &mut Vec<u8>) {
    into.clear();
    for group in run.chunks(4) {
        let bits = group.iter().fold(0_u32, |bits, sextet| bits << 6 | u32::from(*sextet))
            << (6 * (4 - group.len()));
        let [_, bytes @ ..] = bits.to_be_bytes();
        into.extend_from_slice(&bytes[..group.len() - 1]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::base64::{
        Engine as _,
        engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
    };

    fn is_found(text: &str, secret: &[u8]) -> bool {
        let look = |layer: &[u8]| layer.windows(secret.len()).any(|part| part == secret).then_some(());
        layers(text.as_bytes(), look).is_some()
    }

    #[test]
    fn a_layer_is_seen_in_every_alphabet_and_anywhere() {
        let secret = "key: \u{fe}\u{ff}??>>~~ and more of it".as_bytes();
        for engine in [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD] {
            let run = engine.encode(secret);
            for text in [run.clone(), format!("x=\"{run}\""), format!("\\n{run}\\n"), format!("/a/{run} b")] {
                assert!(is_found(&text, secret), "{text}");
            }
        }
        assert!(!is_found(&STANDARD.encode(STANDARD.encode(secret)), secret), "one layer only");
        assert!(!is_found("words that are short, and dots. a/b/c", b"key"));
    }

    #[test]
    fn lines_are_joined() {
        let secret =
            b"a secret that stands across the end of a line, wherever the line ends, as long as it is long";
        for (length, newline, is_seen) in
            [(60, "\n", true), (76, "\r\n", true), (64, "\n  ", true), (20, "\n", false)]
        {
            let run = STANDARD.encode(secret).into_bytes();
            let lines: Vec<_> =
                run.chunks(length).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
            assert_eq!(is_found(&lines.join(newline), secret), is_seen, "{length}");
        }
    }
}
