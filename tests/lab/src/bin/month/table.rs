//! What is told of months: how often the IP was moved, and for how long nobody could use the service.

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

const HEAD: [&str; 8] =
    ["", "switches", "ideal", "dark", "ideal", "of it: IP nowhere", "not served", "served late"];

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
    let seconds = |time: &f64| format!("{time:.1}");
    let numbers = [switches, ideal].map(|number| number.to_string());
    let cells = numbers.into_iter().chain(dark.iter().chain(&of_it).map(seconds));
    let cells =
        HEAD[1..].iter().zip(cells).map(|(head, cell)| format!("  {cell:>0$}", head.chars().count().max(5)));
    format!("{name:<25}{}", cells.collect::<String>())
}

/// What stands above each column.
pub fn head() -> String {
    let cells = HEAD[1..].iter().map(|head| format!("  {head:>5}"));
    format!("{:<25}{}", HEAD[0], cells.collect::<String>())
}

/// Each event of all months.
pub fn rows(months: &[Vec<Outcome>]) -> String {
    let of = |number: usize| -> Vec<Outcome> { months.iter().map(|month| month[number]).collect() };
    EVENTS.iter().enumerate().map(|(number, event)| row(event, &of(number)) + "\n").collect()
}

/// All events together.
pub fn total(months: &[Vec<Outcome>]) -> String {
    let count = months.len();
    let (ideal, ideal_dark) = ideal();
    let each = |of: fn(&Outcome) -> f64| months.iter().flatten().map(of).sum::<f64>() / count.max(1) as f64;
    let total = cells(
        "in all",
        (months.iter().map(|month| switches(month)).sum(), ideal * count),
        [each(Outcome::dark), ideal_dark],
        [each(|it| it.seconds.nowhere), each(|it| it.seconds.unserved), each(|it| it.seconds.late)],
    );
    let remark = format!("\nSwitches of {count} months; seconds of the middle one, and in all of the mean.");
    if count > 1 { total + &remark } else { total }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn month(switches: [usize; EVENTS.len()]) -> Vec<Outcome> {
        let seconds = Seconds { late: 1.0, nowhere: 8.0, unserved: 0.2 };
        switches.map(|switches| Outcome { switches, seconds, settled: true }).into()
    }

    #[test]
    fn a_month_is_ideal_when_the_ip_was_moved_as_often_as_it_must() {
        let ideal = EVENTS.each_ref().map(|event| event.switches);
        assert_eq!(ideal.iter().sum::<usize>(), 3);
        assert_eq!(line(&month(ideal)), "3 switches where 3 do, 74 s dark");
        // As many in all, and yet a sick service that stays where it is.
        let mut other = ideal;
        other.swap(0, 6);
        let said = line(&month(other));
        assert!(
            said.contains("; deploy on the Lord: 1 switches; 404 on the Lord, 40 s: 0 switches"),
            "{said}"
        );
        let mut lost = month(ideal);
        lost[3].settled = false;
        assert!(line(&lost).ends_with("; restart of the Lord: 0 switches, and the IP not at the one Lord"));
    }

    #[test]
    fn columns_stand_below_their_names() {
        let mut months = vec![month([0; EVENTS.len()]), month([2; EVENTS.len()]), month([1; EVENTS.len()])];
        months[1][0].seconds.late = 30.5;
        months[2][0].seconds.late = 12.5;
        let rows = rows(&months);
        let first: Vec<&str> = rows.lines().next().expect("one for each").split_whitespace().collect();
        assert_eq!(first[4..], ["3", "0", "8.2", "0.0", "8.0", "0.2", "12.5"]);
        for line in rows.lines().chain(total(&months).lines().next()) {
            assert_eq!(line.chars().count(), head().chars().count(), "{line}");
        }
        assert!(total(&months).contains("Switches of 3 months") && !total(&months[..1]).contains("months"));
    }
}
