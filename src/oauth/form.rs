//! Form bodies (`application/x-www-form-urlencoded`), read strictly: what two readers could read in two ways is refused.

use super::Reason;
use std::collections::HashMap;

/// The parameters a caller asks for, by name, each with the values it was sent with.
#[derive(Debug)]
pub(super) struct Form {
    values: HashMap<String, Vec<String>>,
}

/// Parameters that may come more than once: what comes of it is theirs to say (RFC 8707, section 2; RFC 8693, section 2.1).
const REPEATABLE: [&str; 2] = ["resource", "audience"];

impl Form {
    /// Reads a body. A parameter without a value was not sent (RFC 6749, section 3.2); none may come twice.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Reason> {
        let mut values: HashMap<String, Vec<String>> = HashMap::new();
        for pair in body.split(|byte| *byte == b'&') {
            let mut halves = pair.splitn(2, |byte| *byte == b'=').map(decode);
            let (Some(name), value) = (halves.next().transpose()?, halves.next().transpose()?) else {
                continue;
            };
            let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
            let is_repeatable = REPEATABLE.contains(&name.as_str());
            let values = values.entry(name).or_default();
            if !values.is_empty() && !is_repeatable {
                return Err(Reason::DuplicateParameter);
            }
            values.push(value);
        }
        Ok(Self { values })
    }

    /// The value of a parameter, if it was sent.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        self.take_all(name).pop()
    }

    /// All values of a parameter.
    pub(super) fn take_all(&mut self, name: &str) -> Vec<String> {
        self.values.remove(name).unwrap_or_default()
    }

    /// The same, left where it is.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.last().map(String::as_str)
    }
}

/// The text of a name or a value: printable ASCII in which `+` is a space and `%` escapes a byte; UTF-8 when decoded.
fn decode(encoded: &[u8]) -> Result<String, Reason> {
    if !encoded.iter().all(u8::is_ascii_graphic) {
        return Err(Reason::FormMalformed);
    }
    let (mut bytes, mut rest) = (Vec::with_capacity(encoded.len()), encoded);
    // Tokens are long and have none of these.
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'%' | b'+')) {
        let (plain, marked) = rest.split_at(at);
        bytes.extend_from_slice(plain);
        rest = match marked {
            [b'+', after @ ..] => {
                bytes.push(b' ');
                after
            }
            [b'%', high, low, after @ ..] => {
                let (high, low) = digit(high).zip(digit(low)).ok_or(Reason::FormMalformed)?;
                bytes.push(high << 4 | low);
                after
            }
            _ => return Err(Reason::FormMalformed),
        };
    }
    bytes.extend_from_slice(rest);
    String::from_utf8(bytes).map_err(|_| Reason::FormMalformed)
}

fn digit(byte: &u8) -> Option<u8> {
    char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parameters_are_read_as_they_are_written() {
        let mut form =
            Form::parse(b"a=b+c%2Bd%e2%82%AC&&empty=&bare&e==&%61b=1&resource=x&resource=y&resource=")
                .unwrap();
        assert_eq!(form.take("a").as_deref(), Some("b c+d\u{20ac}"));
        assert_eq!((form.get("empty"), form.get("bare"), form.get("")), (None, None, None));
        assert_eq!((form.take("e").as_deref(), form.take("ab").as_deref()), (Some("="), Some("1")));
        assert_eq!(form.take_all("resource"), ["x", "y"]);
        assert!(Form::parse(b"").is_ok());
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for body in [
            &b"a=%"[..],
            b"a=%2",
            b"a=%2g",
            b"a=%+1",
            b"%zz=1",
            b"a=%ff",
            b"a=%c0%80",
            b"a=%ed%a0%80",
            b"a=\xc3\xa9",
            b"a=b c",
            b"a=b\r\n",
            b"a=\0",
        ] {
            assert_eq!(Form::parse(body).unwrap_err(), Reason::FormMalformed, "{}", body.escape_ascii());
        }
    }

    #[test]
    fn a_parameter_comes_once() {
        for body in ["a=1&a=1", "a=1&b=2&%61=3", "unknown=1&unknown=2"] {
            assert_eq!(Form::parse(body.as_bytes()).unwrap_err(), Reason::DuplicateParameter, "{body}");
        }
        assert_eq!(
            Form::parse(b"a=&a=1&a=").unwrap().take("a").as_deref(),
            Some("1"),
            "one of these was sent"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_a_form(body in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Form::parse(&body);
        }

        #[test]
        fn a_value_reads_back(value in ".{1,40}") {
            let encoded: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let mut form = Form::parse(format!("a={encoded}").as_bytes()).unwrap();
            prop_assert_eq!(form.take("a"), Some(value));
        }
    }
}
