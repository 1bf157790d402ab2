//! What a plain word of YAML means to kubectl, which still reads YAML 1.1's `yes` and `on`: a host's network asked for with
//! `yes` is asked for.

use serde_json::{Number, Value};

/// The value of a word without quotes and tag.
pub(super) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" | "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => true.into(),
        "false" | "False" | "FALSE" | "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => false.into(),
        _ => integer(text).or_else(|| float(text)).unwrap_or_else(|| text.into()),
    }
}

fn integer(text: &str) -> Option<Value> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let based = |digits: &str, base| {
        let digits = digits.replace('_', "");
        let is_number = digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
        i128::from_str_radix(&digits, base).ok().filter(|_| is_number)
    };
    let value = match digits.as_bytes() {
        [b'0', b'x', ..] => based(&digits[2..], 16),
        [b'0', b'o', ..] => based(&digits[2..], 8),
        [b'0', b'b', ..] => based(&digits[2..], 2),
        [b'0', _, ..] => based(&digits[1..], 8),
        [b'0'..=b'9', ..] => based(digits, 10),
        _ => None,
    }?;
    let value = sign * value;
    i64::try_from(value).map(Value::from).or_else(|_| u64::try_from(value).map(Value::from)).ok()
}

fn float(text: &str) -> Option<Value> {
    let is_number = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
    if !text.contains(|c: char| c.is_ascii_digit()) || !text.chars().all(is_number) {
        return None;
    }
    Number::from_f64(text.parse().ok()?).map(Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn words_mean_what_kubectl_takes_them_for() {
        for (text, value) in [
            ("", json!(null)),
            ("~", json!(null)),
            ("yes", json!(true)),
            ("Off", json!(false)),
            ("true", json!(true)),
            ("3607", json!(3607)),
            ("-1", json!(-1)),
            ("0644", json!(0o644)),
            ("0o644", json!(0o644)),
            ("0x1F", json!(31)),
            ("1_000", json!(1000)),
            ("18446744073709551615", json!(u64::MAX)),
            ("1.5", json!(1.5)),
            ("1e3", json!(1000.0)),
            ("099", json!(99.0)),
            ("1.2.3", json!("1.2.3")),
            ("2027-03-01T00:00:00Z", json!("2027-03-01T00:00:00Z")),
            ("-", json!("-")),
            ("1k", json!("1k")),
            ("e", json!("e")),
            (".inf", json!(".inf")),
            ("yess", json!("yess")),
        ] {
            assert_eq!(resolve(text), value, "{text:?}");
        }
    }
}
