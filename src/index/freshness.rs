//! How old a replica's view of the cluster may be, proved and not assumed: the replica writes to an object of its own
//! every so often, and what it has seen by the time the write comes back through its watch was true when it was sent.

use std::{
    collections::VecDeque,
    fmt,
    time::{Duration, Instant},
};

/// Writes that may be under way. One that takes longer than this many intervals proves nothing any more.
const PENDING: usize = 16;

/// How old a view is known to be at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    bound: Duration,
    proved: Option<Instant>,
}

impl Freshness {
    /// A view of which nothing is proved yet, and that may be `bound` old.
    pub fn unproved(bound: Duration) -> Self {
        Self { bound, proved: None }
    }

    /// Everything up to this moment has been seen.
    pub fn proved(self) -> Option<Instant> {
        self.proved
    }

    /// When the view becomes too old, unless another proof comes.
    pub fn ends(self) -> Option<Instant> {
        Some(self.proved? + self.bound)
    }

    /// Whether something may be permitted on this view at `now`.
    ///
    /// # Errors
    /// When the view is, or may be, older than its bound.
    pub fn check(self, now: Instant) -> Result<(), Stale> {
        let age = self.proved.map(|proved| now.saturating_duration_since(proved));
        if age.is_some_and(|age| age <= self.bound) { Ok(()) } else { Err(Stale { age, bound: self.bound }) }
    }
}

/// A view too old to permit anything on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stale {
    age: Option<Duration>,
    bound: Duration,
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound = self.bound.as_secs();
        match self.age {
            Some(age) => {
                write!(f, "its view of the cluster is {} s old, and may be {bound} s old", age.as_secs())
            }
            None => f.write_str("it has not proved yet that it sees the cluster as it is"),
        }
    }
}

/// The state of the watches that make up the view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wholeness {
    /// Whether every one of them has delivered its list and has not broken since.
    pub whole: bool,
    /// How often one of them broke.
    pub breaks: u64,
}

/// Keeps the proof. `T` tells one write from another.
#[derive(Debug)]
pub struct Prover<T> {
    freshness: Freshness,
    pending: VecDeque<Pending<T>>,
}

#[derive(Debug)]
struct Pending<T> {
    token: T,
    sent: Instant,
    then: Wholeness,
}

impl<T: PartialEq> Prover<T> {
    /// A prover with nothing proved.
    pub fn new(bound: Duration) -> Self {
        Self { freshness: Freshness::unproved(bound), pending: VecDeque::new() }
    }

    /// What is proved.
    pub fn freshness(&self) -> Freshness {
        self.freshness
    }

    /// A write marked `token` is about to be sent.
    pub fn send(&mut self, token: T, now: Instant, watches: Wholeness) {
        if self.pending.len() == PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back(Pending { token, sent: now, then: watches });
    }

    /// The write marked `token` came back through the watch; returns whether that proves anything new. It does if the
    /// other watches were whole all the while: what one of them missed meanwhile, the proof would cover up.
    pub fn receive(&mut self, token: &T, watches: Wholeness) -> bool {
        let Some(at) = self.pending.iter().position(|pending| pending.token == *token) else { return false };
        let Some(Pending { sent, then, .. }) = self.pending.drain(..=at).next_back() else { return false };
        let proves = then.whole && then == watches;
        if proves {
            self.freshness.proved = self.freshness.proved.max(Some(sent));
        }
        proves
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOUND: Duration = Duration::from_secs(10);

    /// Some moment.
    #[expect(clippy::disallowed_methods, reason = "an Instant cannot be made but from the clock")]
    fn moment() -> Instant {
        Instant::now()
    }
    const WHOLE: Wholeness = Wholeness { whole: true, breaks: 0 };

    #[test]
    fn a_view_is_as_old_as_the_last_write_that_came_back() {
        let start = moment();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut prover = Prover::new(BOUND);
        assert!(prover.freshness().check(start).is_err());
        prover.send(1, at(0), WHOLE);
        prover.send(2, at(2), WHOLE);
        assert!(prover.receive(&1, WHOLE));
        assert_eq!(prover.freshness().check(at(10)), Ok(()));
        let stale = prover.freshness().check(at(11)).unwrap_err();
        assert_eq!(stale.to_string(), "its view of the cluster is 11 s old, and may be 10 s old");
        assert!(prover.receive(&2, WHOLE));
        assert_eq!(prover.freshness().check(at(11)), Ok(()));
        // Another's write, or one that came back already, proves nothing.
        assert!(!prover.receive(&2, WHOLE) && !prover.receive(&7, WHOLE));
    }

    #[test]
    fn a_watch_that_broke_meanwhile_spoils_the_proof() {
        let start = moment();
        let (broken, mended) = (Wholeness { whole: false, breaks: 1 }, Wholeness { whole: true, breaks: 1 });
        for (then, now, proves) in [
            (WHOLE, WHOLE, true),
            (WHOLE, broken, false),
            (WHOLE, mended, false),
            (broken, mended, false),
            (mended, mended, true),
        ] {
            let mut prover = Prover::new(BOUND);
            prover.send((), start, then);
            assert_eq!(prover.receive(&(), now), proves, "{then:?} {now:?}");
            assert_eq!(prover.freshness().proved().is_some(), proves);
        }
    }

    proptest! {
        /// Whatever comes back in whatever order, the proof is never later than a write that came back, and never goes
        /// backwards.
        #[test]
        fn the_proof_is_a_write_that_came_back(order in prop::collection::vec(0u64..40, 0..80)) {
            let start = moment();
            let mut prover = Prover::new(BOUND);
            for token in 0..40 {
                prover.send(token, start + Duration::from_secs(token), WHOLE);
            }
            let mut newest = None;
            for token in order {
                let before = prover.freshness().proved();
                if prover.receive(&token, WHOLE) {
                    newest = newest.max(Some(token));
                }
                prop_assert!(prover.freshness().proved() >= before);
                prop_assert_eq!(prover.freshness().proved(), newest.map(|token| start + Duration::from_secs(token)));
            }
            prop_assert!(prover.pending.len() <= PENDING);
        }
    }
}
