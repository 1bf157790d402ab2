//! From when and until when.

use super::super::connection::duration;
use k8s_openapi::jiff::Timestamp;
use std::time::Duration;

/// A moment, or how long ago it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    Ago(Duration),
    At(Timestamp),
}

impl Bound {
    pub(super) fn read(text: &str) -> Result<Self, String> {
        if let Ok(at) = text.parse() {
            return Ok(Self::At(at));
        }
        let ago = duration(text).map_err(|_| {
            format!("{text:?} is no time: write how long ago, as 90s or 1h, or when, as 2026-11-24T19:30:00Z")
        })?;
        Ok(Self::Ago(ago))
    }

    pub(super) fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => now.checked_sub(ago).unwrap_or(Timestamp::MIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_a_moment_or_a_length_of_time() {
        let now: Timestamp = "2026-11-24T19:30:00Z".parse().unwrap();
        for (text, at) in [
            ("1h", "2026-11-24T18:30:00Z"),
            ("1h30m", "2026-11-24T18:00:00Z"),
            ("0", "2026-11-24T19:30:00Z"),
            ("2026-11-24T18:00:00Z", "2026-11-24T18:00:00Z"),
            ("2026-11-24T19:00:00+01:00", "2026-11-24T18:00:00Z"),
        ] {
            assert_eq!(Bound::read(text).unwrap().at(now), at.parse().unwrap(), "{text}");
        }
        assert_eq!(Bound::read("199999999h").unwrap().at(now), Timestamp::MIN);
        for text in ["", "yesterday", "1d", "2026-11-24", "2026-11-24T18:00:00"] {
            assert!(Bound::read(text).is_err(), "{text}");
        }
    }
}
