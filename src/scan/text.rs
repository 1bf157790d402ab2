//! Bytes of a file into text: byte-order marks, UTF-16 as Windows' shells write it, and what is no text.

use super::Unread;

/// The text of a file.
///
/// # Errors
/// When it is not text, or holds a NUL.
pub(super) fn text(bytes: &[u8]) -> Result<String, Unread> {
    let text = match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes)?,
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes)?,
        _ => {
            let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
            let text = str::from_utf8(bytes).map_err(|error| {
                Unread::at(1 + newlines(&bytes[..error.valid_up_to()]), "this is not UTF-8 text")
            })?;
            text.to_owned()
        }
    };
    match text.find('\0') {
        Some(at) => Err(Unread::at(
            1 + newlines(&text.as_bytes()[..at]),
            "there is a NUL byte, which no manifest has",
        )),
        None => Ok(text),
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, Unread> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let units = pairs.iter().copied().map(unit);
    let text: Result<String, _> = char::decode_utf16(units).collect();
    match text {
        Ok(text) if rest.is_empty() => Ok(text),
        _ => Err(Unread::at(1, "this is not UTF-16 text, as its first bytes say")),
    }
}

fn newlines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_is_understood_and_none_is_left() {
        let of =
            |units: fn(u16) -> [u8; 2]| "\u{feff}é: 1\n".encode_utf16().flat_map(units).collect::<Vec<u8>>();
        for bytes in ["é: 1\n".into(), "\u{feff}é: 1\n".into(), of(u16::to_le_bytes), of(u16::to_be_bytes)]
        {
            let bytes: Vec<u8> = bytes;
            assert_eq!(text(&bytes).unwrap(), "é: 1\n");
        }
    }

    #[test]
    fn what_is_no_text_is_refused_by_line() {
        let line = |bytes: &[u8]| text(bytes).unwrap_err().line;
        assert_eq!(line(b"a: 1\nb: \0\n"), Some(2));
        assert_eq!(line(b"a: 1\n\nb: \xff\n"), Some(3));
        assert_eq!(line(b"\xff\xfea"), Some(1));
        assert_eq!(line(b"\xff\xfe\x00\xd8"), Some(1));
    }
}
