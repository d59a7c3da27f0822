//! What the results of one check come to: the very first decides at once, and then only several in a row change anything.

use std::time::Instant;

/// How a check went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Went {
    Passed,
    /// It came to an end, and that was not the right one.
    Failed,
    /// Refused, timed out, killed. While an app loads, this says nothing.
    Unanswered,
}

#[derive(Clone, Copy, Default, Debug)]
pub struct Tally {
    /// Whether the check counts as passed; `None` before the first result.
    verdict: Option<bool>,
    /// How many results in a row were against the verdict.
    against: u32,
    /// How many passes in a row there were, and whether fewer than needed since the last failure.
    passes: u32,
    is_doubted: bool,
    /// Until when no answer is no failure.
    excused_until: Option<Instant>,
}

impl Tally {
    pub fn verdict(&self) -> Option<bool> {
        self.verdict
    }

    /// Whether a failure has not been made up for by enough passes yet. Unlike the last result, this does not change with
    /// each result of a service that fails now and then.
    pub fn is_doubted(&self) -> bool {
        self.is_doubted
    }

    /// Whether the last result was a pass.
    pub fn has_passed(&self) -> bool {
        self.verdict.is_some_and(|passes| passes == (self.against == 0))
    }

    /// Goes on from the verdict of the process before a reload.
    pub fn go_on(&mut self, verdict: Option<bool>, excused_until: Instant) {
        *self = Tally { verdict, excused_until: Some(excused_until), ..Tally::default() };
    }

    /// Notes a result. Returns whether it counts.
    pub fn note(&mut self, went: Went, (fall, rise): (u32, u32), now: Instant) -> bool {
        let has_passed = went == Went::Passed;
        if has_passed || self.excused_until.is_some_and(|until| now >= until) {
            self.excused_until = None;
        }
        if went == Went::Unanswered && self.excused_until.is_some() {
            return false;
        }
        self.passes = if has_passed { self.passes.saturating_add(1) } else { 0 };
        self.is_doubted = if has_passed { self.is_doubted && self.passes < rise } else { true };
        let in_a_row = if has_passed { rise } else { fall };
        self.against = if self.verdict == Some(has_passed) { 0 } else { self.against.saturating_add(1) };
        if self.verdict.is_none() || self.against >= in_a_row {
            (self.verdict, self.against) = (Some(has_passed), 0);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// `p`assed, `f`ailed, un`a`nswered, one each second; returns the verdict after each: `+`, `-`, `?`.
    fn play(mut tally: Tally, limits: (u32, u32), began: Instant, results: &str) -> String {
        let verdict = |(second, result): (u64, char)| {
            let went = match result {
                'p' => Went::Passed,
                'f' => Went::Failed,
                _ => Went::Unanswered,
            };
            tally.note(went, limits, began + Duration::from_secs(second));
            tally.verdict().map_or('?', |passes| if passes { '+' } else { '-' })
        };
        (0..).zip(results.chars()).map(verdict).collect()
    }

    #[test]
    fn the_first_result_decides_and_then_several_in_a_row() {
        for (limits, results, verdicts) in [
            ((3, 2), "pffpfffpfpp", "++++++----+"),
            ((3, 2), "fpfpfpp", "------+"),
            ((3, 2), "aappaaa", "---+++-"),
            ((3, 2), "pafapafa", "+++-----"),
            ((1, 1), "pfpfa", "+-+--"),
            ((2, 3), "ppaappfpppff", "+++------++-"),
        ] {
            let played = play(Tally::default(), limits, Instant::now(), results);
            assert_eq!(played, verdicts, "{limits:?} {results}");
        }
    }

    #[test]
    fn the_last_result_is_known_before_it_decides() {
        let mut tally = Tally::default();
        assert!(!tally.has_passed());
        for (went, passes, has_passed, is_doubted) in [
            (Went::Passed, true, true, false),
            (Went::Failed, true, false, true),
            (Went::Passed, true, true, true),
            (Went::Failed, true, false, true),
            (Went::Unanswered, false, false, true),
            (Went::Passed, false, true, true),
            (Went::Failed, false, false, true),
            (Went::Passed, false, true, true),
            (Went::Passed, true, true, false),
        ] {
            tally.note(went, (2, 2), Instant::now());
            let is = (tally.verdict(), tally.has_passed(), tally.is_doubted());
            assert_eq!(is, (Some(passes), has_passed, is_doubted), "{went:?}");
        }
        tally.go_on(Some(false), Instant::now());
        assert!(!tally.has_passed());
        tally.go_on(Some(true), Instant::now());
        assert!(tally.has_passed());
    }

    #[test]
    fn after_a_reload_no_answer_is_no_failure_until_the_first_pass_or_the_end_of_the_excuse() {
        for (verdict, seconds, results, verdicts) in [
            // Handed over, so that the first result decides nothing.
            (Some(true), 0, "ffp", "+++"),
            (Some(true), 0, "fff", "++-"),
            (Some(false), 0, "pfpp", "---+"),
            (Some(true), 60, "aaaaaaaa", "++++++++"),
            (Some(true), 60, "aaafffp", "+++++--"),
            (Some(true), 60, "aapaaa", "+++++-"),
            (Some(true), 5, "aaaaaaaa", "+++++++-"),
            (Some(true), 60, "fafaf", "++++-"),
            (None, 60, "aap", "??+"),
            (None, 60, "aafp", "??--"),
            (None, 2, "aaa", "??-"),
            (Some(false), 60, "aaapp", "----+"),
        ] {
            let began = Instant::now();
            let mut tally = Tally::default();
            tally.go_on(verdict, began + Duration::from_secs(seconds));
            assert_eq!(play(tally, (3, 2), began, results), verdicts, "{verdict:?} {seconds} {results}");
        }
    }
}
