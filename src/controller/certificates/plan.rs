//! When a certificate is made, taken into use and dropped: pure steps over time.
//!
//! A new CA enters the bundle that API servers trust at least [`OVERLAP`] before it signs anything, and the old one
//! stays in it for as long as it is valid. So at no time does an API server meet a serving certificate whose CA it does
//! not know, however late it is.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// Life of a CA.
pub(super) const CA_LIFE: SignedDuration = SignedDuration::from_hours(365 * 24);
/// Life of a serving certificate.
pub(super) const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How long a CA is trusted before it signs.
pub(super) const OVERLAP: SignedDuration = SignedDuration::from_hours(1);
/// How far certificates are dated back, for clocks that are behind.
pub(super) const BACKDATE: SignedDuration = SignedDuration::from_mins(5);

/// From when to when a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

impl Validity {
    /// The validity of a certificate made `now` to live for `life`.
    pub(super) fn from(now: Timestamp, life: SignedDuration) -> Self {
        Self { not_before: later(now, -BACKDATE), not_after: later(now, life) }
    }

    /// When it is due to be replaced: after two thirds of its life.
    pub(super) fn renewal(self) -> Timestamp {
        let life = self.not_before.duration_until(self.not_after);
        later(self.not_before, life.checked_div(3).unwrap_or_default().saturating_mul(2))
    }
}

/// `at` plus `by`; the end of time if there is no such moment.
pub(super) fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// The CAs there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Authorities {
    /// The one that signs.
    pub(super) current: Validity,
    /// The one that will.
    pub(super) next: Option<Validity>,
    /// The one that did.
    pub(super) previous: Option<Validity>,
}

/// What is to be done about the CAs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There is none that can sign: make one, and trust it alone.
    Create,
    /// The previous one is not valid any more.
    DropPrevious,
    /// Nothing before this time.
    KeepUntil(Timestamp),
    /// The current one is getting old: make the next one, to be trusted from now.
    Prepare,
    /// The next one has been trusted for long enough: it signs from now on.
    Promote,
}

/// The next step for the CAs as of `now`.
pub(super) fn step(authorities: Option<Authorities>, now: Timestamp) -> Step {
    let Some(Authorities { current, next, previous }) = authorities.filter(|a| a.current.not_after > now)
    else {
        return Step::Create;
    };
    if previous.is_some_and(|previous| previous.not_after <= now) {
        return Step::DropPrevious;
    }
    let turn = match next {
        Some(next) => later(next.not_before, BACKDATE + OVERLAP),
        None => current.renewal(),
    };
    if turn <= now {
        return if next.is_some() { Step::Promote } else { Step::Prepare };
    }
    Step::KeepUntil(previous.map_or(turn, |previous| previous.not_after.min(turn)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    fn hour(n: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + n * 3600).unwrap()
    }

    #[test]
    fn an_expired_or_missing_ca_is_made_anew() {
        assert_eq!(step(None, hour(0)), Step::Create);
        let current = Validity::from(hour(0), CA_LIFE);
        let alone = Authorities { current, next: None, previous: None };
        assert_eq!(step(Some(alone), hour(365 * 24)), Step::Create);
        assert_eq!(step(Some(alone), hour(0)), Step::KeepUntil(current.renewal()));
    }

    /// A client that learned the bundle up to an hour ago accepts every certificate served now or up to an hour ago,
    /// at every hour of three years.
    #[test]
    fn nobody_meets_a_certificate_he_cannot_know() {
        #[derive(Clone, Debug, PartialEq)]
        struct World {
            authorities: Option<Authorities>,
            leaf: Option<(Validity, Validity)>,
        }
        let mut world = World { authorities: None, leaf: None };
        let mut past: VecDeque<World> = VecDeque::new();
        let (mut promotions, mut drops) = (0, 0);
        for n in 0..3 * 365 * 24 {
            let now = hour(n);
            loop {
                match step(world.authorities, now) {
                    Step::KeepUntil(_) => break,
                    Step::Create => {
                        let current = Validity::from(now, CA_LIFE);
                        world.authorities = Some(Authorities { current, next: None, previous: None });
                    }
                    other => {
                        let all = world.authorities.as_mut().unwrap();
                        match other {
                            Step::Prepare => all.next = Some(Validity::from(now, CA_LIFE)),
                            Step::Promote => {
                                promotions += 1;
                                all.previous = Some(all.current);
                                all.current = all.next.take().unwrap();
                            }
                            Step::DropPrevious => {
                                drops += 1;
                                all.previous = None;
                            }
                            Step::Create | Step::KeepUntil(_) => unreachable!(),
                        }
                    }
                }
            }
            let signer = world.authorities.unwrap().current;
            if world.leaf.is_none_or(|(leaf, by)| by != signer || leaf.renewal() <= now) {
                world.leaf = Some((Validity::from(now, LEAF_LIFE), signer));
            }
            past.push_back(world.clone());
            if past.len() > 2 {
                past.pop_front();
            }
            for known in &past {
                let Authorities { current, next, previous } = known.authorities.unwrap();
                let bundle = [Some(current), next, previous];
                for served in &past {
                    let (leaf, signer) = served.leaf.unwrap();
                    assert!(bundle.contains(&Some(signer)), "hour {n}");
                    assert!(signer.not_after > now && leaf.not_after > now, "hour {n}");
                }
            }
        }
        assert!(promotions >= 3 && drops >= 2, "{promotions} promotions, {drops} drops");
    }
}
