//! Requests of callers who could not be told. Anybody can send as many as he likes, so they are counted, and a minute
//! of them is one entry: the record cannot be filled by strangers.

use super::{Entry, Kind};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::{SignedDuration, Timestamp},
};
use std::{collections::BTreeMap, mem};

/// How long is counted into one entry.
const WINDOW: SignedDuration = SignedDuration::from_secs(60);

/// The count.
#[derive(Debug, Default)]
pub struct Noise {
    since: Option<Timestamp>,
    counts: BTreeMap<&'static str, u64>,
}

impl Noise {
    /// One more was refused for `reason`.
    pub fn count(&mut self, reason: &'static str, now: Timestamp) {
        self.since.get_or_insert(now);
        let count = self.counts.entry(reason).or_default();
        *count = count.saturating_add(1);
    }

    /// The entry about what was counted, if the first of it came a minute ago.
    pub fn due(&mut self, now: Timestamp) -> Option<Entry> {
        let age = now.duration_since(self.since?);
        // A clock that was set back does not stop the record.
        (age >= WINDOW || age.is_negative()).then(|| self.take(now)).flatten()
    }

    /// The entry about what was counted, however short the time: for the end of a process.
    pub fn take(&mut self, now: Timestamp) -> Option<Entry> {
        let Self { since, counts } = mem::take(self);
        let since = Some(MicroTime(since?));
        let counts = counts.into_iter().map(|(reason, count)| (reason.into(), count)).collect();
        Some(Entry { since, counts, ..Entry::new(Kind::Unauthenticated, now) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_500_000 + second).unwrap()
    }

    #[test]
    fn a_minute_of_noise_is_one_entry() {
        let mut noise = Noise::default();
        assert_eq!(noise.due(at(1000)), None);
        for second in 0..50 {
            noise.count("subject_expired", at(second));
            noise.count(if second < 3 { "actor_unbound" } else { "subject_expired" }, at(second));
        }
        assert_eq!(noise.due(at(59)), None);
        let entry = noise.due(at(60)).unwrap();
        assert_eq!(
            (entry.kind, &entry.ts, entry.since),
            (Kind::Unauthenticated, &MicroTime(at(60)), Some(MicroTime(at(0))))
        );
        let counts: Vec<_> = entry.counts.iter().map(|(reason, count)| (reason.as_ref(), *count)).collect();
        assert_eq!(counts, [("actor_unbound", 3), ("subject_expired", 97)]);
        assert_eq!((noise.due(at(1000)), noise.take(at(1000))), (None, None), "counted once");
    }

    #[test]
    fn neither_an_end_nor_a_clock_set_back_holds_it_up() {
        let mut noise = Noise::default();
        noise.count("r", at(10));
        assert!(noise.due(at(9)).is_some());
        noise.count("r", at(10));
        assert!(noise.take(at(11)).is_some());
    }
}
