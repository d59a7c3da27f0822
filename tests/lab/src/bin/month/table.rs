//! What is told of months: how often the IP was moved, and for how long nobody could use the service.

use std::fmt::Write as _;

use lab::service::Seconds;

use crate::event::{EVENTS, Event};

/// How an event went.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    pub switches: usize,
    pub seconds: Seconds,
    /// Whether it ended with the IP at the one Lord.
    pub settled: bool,
}

impl Outcome {
    pub fn is_ideal(&self, event: &Event) -> bool {
        self.settled && self.switches == event.switches
    }

    fn dark(&self) -> f64 {
        self.seconds.nowhere + self.seconds.unserved
    }
}

/// In a whole month.
pub fn switches(outcomes: &[Outcome]) -> usize {
    outcomes.iter().map(|outcome| outcome.switches).sum()
}

fn ideal() -> (usize, f64) {
    let dark = EVENTS.iter().map(|event| event.dark.as_secs_f64()).sum();
    (EVENTS.iter().map(|event| event.switches).sum(), dark)
}

/// A month in a line.
pub fn line(outcomes: &[Outcome]) -> String {
    let wrong = outcomes.iter().zip(&EVENTS).filter(|(outcome, event)| !outcome.is_ideal(event));
    let wrong: Vec<String> = wrong.map(|(outcome, event)| format!("; {}: {outcome}", event.name)).collect();
    let dark: f64 = outcomes.iter().map(Outcome::dark).sum();
    let (ideal, _) = ideal();
    format!("{} switches where {ideal} do, {dark:.0} s dark{}", switches(outcomes), wrong.concat())
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} switches", self.switches)?;
        if self.settled { Ok(()) } else { write!(f, ", and the IP not at the one Lord") }
    }
}

const HEAD: &str = "\
                           switches  ideal   dark  ideal  of it: IP nowhere  not served   served late
";

/// An event of all months: the switches of each month or their sum, the seconds of the middle one.
pub fn row(event: &Event, outcomes: &[Outcome]) -> String {
    let middle = |of: fn(&Outcome) -> f64| {
        let mut all: Vec<f64> = outcomes.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or_default()
    };
    let lost = outcomes.iter().filter(|outcome| !outcome.settled).count();
    let lost = if lost > 0 { format!("  {lost} × not at the one Lord") } else { String::new() };
    cells(
        event.name,
        (switches(outcomes), event.switches * outcomes.len()),
        [middle(Outcome::dark), event.dark.as_secs_f64()],
        [middle(|it| it.seconds.nowhere), middle(|it| it.seconds.unserved), middle(|it| it.seconds.late)],
    ) + &lost
}

fn cells(name: &str, (switches, ideal): (usize, usize), dark: [f64; 2], of_it: [f64; 3]) -> String {
    let [dark, ideal_dark] = dark;
    let [nowhere, unserved, late] = of_it;
    format!(
        "{name:<26} {switches:>8}  {ideal:>5}  {dark:>5.1}  {ideal_dark:>5.1}  {nowhere:>17.1}  {unserved:>10.1}  {late:>12.1}"
    )
}

/// All events of all months, and their total.
pub fn table(months: &[Vec<Outcome>]) -> String {
    let mut text = HEAD.to_string();
    let of = |number: usize| -> Vec<Outcome> { months.iter().map(|month| month[number]).collect() };
    for (number, event) in EVENTS.iter().enumerate() {
        let _ = writeln!(text, "{}", row(event, &of(number)));
    }
    let (ideal, ideal_dark) = ideal();
    let each = |of: fn(&Outcome) -> f64| {
        let sum: f64 = months.iter().flatten().map(of).sum();
        sum / months.len().max(1) as f64
    };
    let total = cells(
        "in all",
        (months.iter().map(|month| switches(month)).sum(), ideal * months.len()),
        [each(Outcome::dark), ideal_dark],
        [each(|it| it.seconds.nowhere), each(|it| it.seconds.unserved), each(|it| it.seconds.late)],
    );
    let _ = writeln!(text, "{total}");
    if months.len() > 1 {
        let _ = writeln!(
            text,
            "Switches are of {} months; seconds of the middle one, in all of the mean.",
            months.len()
        );
    }
    text
}
