//! What was measured: samples, figures, and the table of them.

use std::fmt;

use crate::sides::Side;

/// Measured values of one thing, at least one, sorted.
#[derive(Clone, Debug)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn new(values: impl IntoIterator<Item = f64>) -> Samples {
        let mut values: Vec<f64> = values.into_iter().collect();
        assert!(!values.is_empty(), "nothing was measured");
        values.sort_by(f64::total_cmp);
        Samples(values)
    }

    pub fn one(value: f64) -> Samples {
        Samples(vec![value])
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The longest, the most.
    pub fn greatest(&self) -> f64 {
        self.quantile(1.0)
    }

    /// Between them lies the middle half of the values.
    pub fn quartiles(&self) -> (f64, f64) {
        (self.quantile(0.25), self.quantile(0.75))
    }

    /// Between two values, where it does not meet one.
    fn quantile(&self, part: f64) -> f64 {
        let place = part * (self.0.len() - 1) as f64;
        let (below, above) = (self.0[place.floor() as usize], self.0[place.ceil() as usize]);
        below + (above - below) * place.fract()
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = self.quartiles();
        let (median, low, high) = (number(self.median()), number(low), number(high));
        if low == high { write!(f, "{median}") } else { write!(f, "{median} ({low} to {high})") }
    }
}

/// Three digits that count, or a whole number.
pub fn number(value: f64) -> String {
    let digits = match value.abs() {
        0.0 => 0,
        ..0.1 => 4,
        ..1.0 => 3,
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    // 2.00 libraries are 2; and next to nothing is nothing, whatever its sign.
    match text.split_once('.') {
        Some((whole, part)) if part.bytes().all(|byte| byte == b'0') => whole.replace("-0", "0"),
        _ => text,
    }
}

/// What our figure may be at most.
pub struct Floor {
    pub most: f64,
    /// Where that comes from, if it is not plainly that number.
    pub why: &'static str,
}

/// One row of the table.
pub struct Figure {
    pub name: String,
    /// Behind the name; empty for a number of something.
    pub unit: &'static str,
    pub floor: Option<Floor>,
    pub sides: Vec<(Side, Samples)>,
}

impl Figure {
    pub fn new(name: impl Into<String>, unit: &'static str, sides: Vec<(Side, Samples)>) -> Figure {
        Figure { name: name.into(), unit, floor: None, sides }
    }

    /// With a floor for our median.
    pub fn at_most(self, most: f64, why: &'static str) -> Figure {
        Figure { floor: Some(Floor { most, why }), ..self }
    }

    pub fn of(&self, side: Side) -> Option<&Samples> {
        self.sides.iter().find(|(of, _)| *of == side).map(|(_, samples)| samples)
    }

    /// Whether our median keeps the floor. `None` where there is none.
    pub fn holds(&self) -> Option<bool> {
        Some(self.of(Side::Ours)?.median() <= self.floor.as_ref()?.most)
    }
}

/// In Markdown. A median stands before the quartiles; a row whose floor is missed is marked.
pub fn table(figures: &[Figure]) -> String {
    let columns = [
        (Side::Ours, "this plugin"),
        (Side::Peer, "C plugin"),
        (Side::Command, "`cmd:curl`"),
        (Side::Limit, "limit"),
    ];
    let shown: Vec<_> = columns
        .into_iter()
        .filter(|(side, _)| *side == Side::Ours || figures.iter().any(|figure| figure.of(*side).is_some()))
        .collect();
    let names: Vec<&str> = shown.iter().map(|(_, name)| *name).collect();
    let mut text = format!("| | floor | {} |\n|---|---|{}\n", names.join(" | "), "---|".repeat(shown.len()));
    for figure in figures {
        let unit = if figure.unit.is_empty() { String::new() } else { format!(", {}", figure.unit) };
        let floor = match &figure.floor {
            None => String::new(),
            Some(Floor { most, why: "" }) => number(*most),
            Some(Floor { most, why }) => format!("{} ({why})", number(*most)),
        };
        let cells = shown.iter().map(|(side, _)| match figure.of(*side) {
            Some(samples) if *side == Side::Ours && figure.holds() == Some(false) => {
                format!("**missed:** {samples}")
            }
            Some(samples) => samples.to_string(),
            None => String::new(),
        });
        let cells: Vec<String> = cells.collect();
        text += &format!("| {}{unit} | {floor} | {} |\n", figure.name, cells.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_in_the_middle_and_quartiles_hold_half() {
        let odd = Samples::new([5.0, 1.0, 2.0, 100.0, 3.0]);
        assert_eq!((odd.median(), odd.quartiles(), odd.greatest()), (3.0, (2.0, 5.0), 100.0));
        let even = Samples::new([4.0, 1.0, 2.0, 3.0]);
        assert_eq!((even.median(), even.quartiles()), (2.5, (1.75, 3.25)));
        assert_eq!(Samples::one(7.0).quartiles(), (7.0, 7.0));
    }

    #[test]
    fn numbers_are_short() {
        let numbers = [0.0, 0.01234, 0.1234, 1.234, 2.0, 12.34, 123.4, -1.5, -0.00001];
        assert_eq!(numbers.map(number), ["0", "0.0123", "0.123", "1.23", "2", "12.3", "123", "-1.50", "0"]);
    }

    #[test]
    fn a_missed_floor_is_marked_and_columns_without_figures_are_left_out() {
        let figure = |ours| {
            let sides = vec![(Side::Ours, Samples::one(ours)), (Side::Limit, Samples::new([1.0, 2.0, 3.0]))];
            [Figure::new("own cost", "ms", sides).at_most(2.6, "1.3 × limit")]
        };
        let head = "| | floor | this plugin | limit |\n|---|---|---|---|\n";
        let kept = format!("{head}| own cost, ms | 2.60 (1.3 × limit) | 2.60 | 2 (1.50 to 2.50) |\n");
        assert_eq!(table(&figure(2.6)), kept);
        assert!(table(&figure(2.7)).contains("| **missed:** 2.70 |"));
    }
}
