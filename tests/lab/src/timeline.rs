//! Who was Lord and where the failover IP was routed, over time, drawn as SVG.
//!
//! The picture has its own background, so that it reads the same in a light and in a dark viewer.

use std::time::Instant;

use super::svg::{HALO, Svg, text_width as width};

/// Of the plot alone, without the names of the lanes; a label that begins near its end makes the picture wider.
const PLOT: f64 = 860.0;
const LEFT: f64 = 76.0;
const MARGIN: f64 = 16.0;
const LANE: f64 = 44.0;
/// A row of labels.
const ROW: f64 = 18.0;
/// Two Lords are shown so wide at least, however short it was.
const FAULT: f64 = 5.0;

/// What was seen. Nodes are numbered from 1.
enum Seen {
    Lords(Vec<usize>),
    Route(Option<usize>),
    Note(String),
}

/// A time, in seconds, in which nothing changed.
#[derive(Clone, Debug, PartialEq)]
struct Stretch {
    from: f64,
    to: f64,
    lords: Vec<usize>,
    route: Option<usize>,
}

impl Stretch {
    /// The promise: there is one Lord, and the IP is there.
    fn is_kept(&self) -> bool {
        self.lords.len() == 1 && self.route == self.lords.first().copied()
    }
}

/// A recording. Until something else is said nobody is Lord, and the IP is routed nowhere.
pub struct Timeline {
    start: Instant,
    nodes: usize,
    seen: Vec<(f64, Seen)>,
    /// When nobody could use what is behind the IP, where somebody has tried.
    dark: Option<Vec<(f64, f64)>>,
}

impl Timeline {
    /// Starts the clock.
    pub fn start(nodes: usize) -> Timeline {
        Timeline { start: Instant::now(), nodes, seen: Vec::new(), dark: None }
    }

    /// The nodes that are Lord now. May be called as often as they are looked at.
    pub fn lords(&mut self, lords: &[usize]) {
        self.lords_at(self.now(), lords);
    }

    /// The node that the IP is routed to now. May be called as often as it is looked at.
    pub fn route(&mut self, node: Option<usize>) {
        self.route_at(self.now(), node);
    }

    /// Something happens now: a few words.
    pub fn note(&mut self, text: &str) {
        self.note_at(self.now(), text);
    }

    /// For these times, and for no others up to now, nobody could use what is behind the IP.
    pub fn dark(&mut self, times: &[(Instant, Instant)]) {
        let since = |at: &Instant| at.saturating_duration_since(self.start).as_secs_f64();
        self.dark = Some(times.iter().map(|(from, to)| (since(from), since(to))).collect());
    }

    /// The picture of all up to now.
    pub fn svg(&self) -> String {
        self.svg_until(self.now())
    }

    fn now(&self) -> f64 {
        let now = self.start.elapsed().as_secs_f64();
        // What is said at once was so from the start.
        if now < 0.005 { 0.0 } else { now }
    }

    fn lords_at(&mut self, at: f64, lords: &[usize]) {
        let last = self.seen.iter().rev().find_map(|(_, seen)| match seen {
            Seen::Lords(lords) => Some(lords.as_slice()),
            _ => None,
        });
        if last.unwrap_or_default() != lords {
            self.seen.push((at, Seen::Lords(lords.to_vec())));
        }
    }

    fn route_at(&mut self, at: f64, node: Option<usize>) {
        let last = self.seen.iter().rev().find_map(|(_, seen)| match seen {
            Seen::Route(node) => Some(*node),
            _ => None,
        });
        if last.unwrap_or_default() != node {
            self.seen.push((at, Seen::Route(node)));
        }
    }

    fn note_at(&mut self, at: f64, text: &str) {
        self.seen.push((at, Seen::Note(text.into())));
    }

    fn notes(&self) -> impl Iterator<Item = (f64, &str)> {
        self.seen.iter().filter_map(|(at, seen)| match seen {
            Seen::Note(text) => Some((*at, text.as_str())),
            _ => None,
        })
    }

    /// All stretches from 0 to `end`, without gaps.
    fn stretches(&self, end: f64) -> Vec<Stretch> {
        let mut stretches = Vec::new();
        let mut now = Stretch { from: 0.0, to: 0.0, lords: Vec::new(), route: None };
        for (at, seen) in &self.seen {
            let mut next = Stretch { from: *at, ..now.clone() };
            match seen {
                Seen::Lords(lords) => next.lords.clone_from(lords),
                Seen::Route(node) => next.route = *node,
                Seen::Note(_) => continue,
            }
            stretches.push(Stretch { to: *at, ..now });
            now = next;
        }
        stretches.push(Stretch { to: end, ..now });
        // Two changes at once have nothing between them.
        stretches.retain(|stretch| stretch.from < stretch.to);
        stretches
    }

    /// The times between the dark ones.
    fn served(&self, end: f64) -> Vec<(f64, f64)> {
        let Some(dark) = &self.dark else { return Vec::new() };
        let begins = std::iter::once(0.0).chain(dark.iter().map(|(_, to)| *to));
        let ends = dark.iter().map(|(from, _)| *from).chain([end]);
        begins.zip(ends).filter(|(from, to)| from < to).collect()
    }

    fn svg_until(&self, end: f64) -> String {
        let end = end.max(1.0);
        let scale = PLOT / end;
        let x = |at: f64| LEFT + at * scale;
        let notes: Vec<(f64, &str)> = self.notes().map(|(at, text)| (x(at), text)).collect();
        let rows = rows(&notes);
        let stretches = self.stretches(end);
        let top = MARGIN + ROW * rows.iter().map(|row| row + 1).max().unwrap_or(0) as f64 + 4.0;
        // One lane more for a route that is nowhere, and one for who is served.
        let routes = self.nodes + usize::from(stretches.iter().any(|stretch| stretch.route.is_none()));
        let lanes = routes + usize::from(self.dark.is_some());
        let bottom = top + LANE * lanes as f64;
        let middle =
            |node: Option<usize>| top + LANE * (node.map_or(self.nodes, |node| node - 1) as f64 + 0.5);
        let texts_end = notes.iter().map(|(x, text)| x + 4.0 + width(text));
        let (width, height) = (texts_end.fold(LEFT + PLOT, f64::max) + MARGIN, bottom + 60.0);

        let mut svg = Svg(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
             height=\"{height:.0}\" role=\"img\" font-family=\"sans-serif\" font-size=\"13\" fill=\"#1f2328\">\n\
             <title>Who was Lord, and where the failover IP was routed</title>\n\
             <defs><pattern id=\"fault\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\" \
             patternTransform=\"rotate(45)\"><path d=\"M2 0v8\" stroke=\"#cf222e\" stroke-opacity=\".55\" \
             stroke-width=\"3\"/></pattern></defs>\n"
        ));
        svg.rect(0.0, 0.0, width, height, "fill=\"#fff\" rx=\"6\"");

        for lane in 0..lanes {
            let colour = if lane % 2 == 0 { "fill=\"#f3f5f8\"" } else { "fill=\"#fff\"" };
            svg.rect(LEFT, top + LANE * lane as f64, PLOT, LANE, colour);
            let name = match lane {
                lane if lane == routes => "served".into(),
                lane if lane == self.nodes => "nowhere".into(),
                lane => format!("node {}", lane + 1),
            };
            svg.text(LEFT - 10.0, top + LANE * (lane as f64 + 0.5) + 4.5, "text-anchor=\"end\"", &name);
        }
        for node in 1..=self.nodes {
            let (y, lane) = (top + LANE * (node - 1) as f64, LANE - 8.0);
            for (from, to) in merged(&stretches, |stretch| stretch.lords.contains(&node)) {
                svg.rect(x(from), y + 4.0, (to - from) * scale, lane, "fill=\"#f2cc60\" rx=\"3\"");
                if (to - from) * scale > 40.0 {
                    svg.text(x(from) + 6.0, y + 17.0, "font-size=\"11\" fill=\"#5c4500\"", "Lord");
                }
            }
        }
        for (from, to) in self.served(end) {
            let (y, lane) = (top + LANE * (routes as f64 + 0.3), LANE * 0.4);
            svg.rect(x(from), y, (to - from) * scale, lane, "fill=\"#4ac26b\"");
        }
        for (from, to) in merged(&stretches, |stretch| stretch.lords.len() > 1) {
            let wide = ((to - from) * scale).max(FAULT);
            svg.rect(x(from), top, wide, LANE * self.nodes as f64, "fill=\"url(#fault)\"");
        }

        axis(&mut svg, end, x, bottom);
        let y = |row: usize| top - 7.0 - ROW * row as f64;
        for ((x, _), row) in notes.iter().zip(&rows) {
            svg.line((*x, y(*row) - 9.0), (*x, bottom), "stroke=\"#57606a\" stroke-dasharray=\"2 3\"");
        }
        for ((x, text), row) in notes.iter().zip(&rows) {
            svg.text(x + 4.0, y(*row), HALO, text);
        }
        route(&mut svg, &stretches, x, middle);
        legend(&mut svg, bottom + 46.0);
        svg.0 += "</svg>\n";
        svg.0
    }
}

/// For each note the row of its label, 0 next to the lanes, so that no label lies over another. From the last to the
/// first, since then a line that leads down from a label passes before the one that made it move up.
fn rows(notes: &[(f64, &str)]) -> Vec<usize> {
    // Where the leftmost label of each row begins.
    let mut taken: Vec<f64> = Vec::new();
    let mut rows = Vec::new();
    for (x, text) in notes.iter().rev() {
        let end = x + 12.0 + width(text);
        let row = taken.iter().position(|begin| end <= *begin).unwrap_or(taken.len());
        taken.resize(taken.len().max(row + 1), 0.0);
        taken[row] = *x;
        rows.push(row);
    }
    rows.reverse();
    rows
}

/// The times in which `holds` does.
fn merged(stretches: &[Stretch], holds: impl Fn(&Stretch) -> bool) -> Vec<(f64, f64)> {
    let mut times: Vec<(f64, f64)> = Vec::new();
    for stretch in stretches.iter().filter(|stretch| holds(stretch)) {
        match times.last_mut() {
            Some(last) if last.1 == stretch.from => last.1 = stretch.to,
            _ => times.push((stretch.from, stretch.to)),
        }
    }
    times
}

/// The route: a thick line from lane to lane, red where the promise is not kept, with how long it was not.
fn route(
    svg: &mut Svg,
    stretches: &[Stretch],
    x: impl Fn(f64) -> f64,
    middle: impl Fn(Option<usize>) -> f64,
) {
    let colour = |kept| if kept { "#0550ae" } else { "#cf222e" };
    let mut last: Option<&Stretch> = None;
    for stretch in stretches {
        let y = middle(stretch.route);
        let style = format!("stroke=\"{}\" stroke-width=\"6\"", colour(stretch.is_kept()));
        if let Some(before) = last.filter(|before| before.route != stretch.route) {
            let style = "stroke=\"#57606a\" stroke-width=\"2\"";
            svg.line((x(stretch.from), middle(before.route)), (x(stretch.from), y), style);
        }
        svg.line((x(stretch.from), y), (x(stretch.to), y), &style);
        last = Some(stretch);
    }
    for (from, to) in merged(stretches, |stretch| !stretch.is_kept()) {
        let text = format!("{:.1} s", to - from);
        if x(to) - x(from) > width(&text) + 8.0 {
            let y = stretches.iter().find(|stretch| stretch.from == from).map_or(0.0, |it| middle(it.route));
            let style = format!("{HALO} font-weight=\"bold\" fill=\"#a40e26\"");
            svg.text(x(from) + 4.0, y - 7.0, &style, &text);
        }
    }
}

fn axis(svg: &mut Svg, end: f64, x: impl Fn(f64) -> f64, y: f64) {
    svg.line((LEFT, y), (LEFT + PLOT, y), "stroke=\"#57606a\"");
    let step = step(end);
    for tick in 0..=(end / step) as u32 {
        let at = f64::from(tick) * step;
        svg.line((x(at), y), (x(at), y + 5.0), "stroke=\"#57606a\"");
        svg.text(x(at), y + 19.0, "text-anchor=\"middle\" font-size=\"12\"", &format!("{at} s"));
    }
}

fn legend(svg: &mut Svg, y: f64) {
    let style = "font-size=\"12\"";
    svg.rect(LEFT, y - 9.0, 24.0, 12.0, "fill=\"#f2cc60\" rx=\"3\"");
    svg.text(LEFT + 30.0, y + 1.5, style, "Lord");
    svg.line((LEFT + 84.0, y - 3.0), (LEFT + 108.0, y - 3.0), "stroke=\"#0550ae\" stroke-width=\"6\"");
    svg.text(LEFT + 114.0, y + 1.5, style, "failover IP, routed to the Lord");
    svg.line((LEFT + 322.0, y - 3.0), (LEFT + 346.0, y - 3.0), "stroke=\"#cf222e\" stroke-width=\"6\"");
    svg.text(LEFT + 352.0, y + 1.5, style, "not routed to the Lord, and how long");
    svg.rect(LEFT + 594.0, y - 9.0, 24.0, 12.0, "fill=\"url(#fault)\"");
    svg.text(LEFT + 624.0, y + 1.5, style, "more than one Lord");
}

/// Seconds between two ticks: 1, 2 or 5 times a power of ten, and not more than a dozen ticks.
fn step(end: f64) -> f64 {
    let steps = (0..).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)));
    steps.into_iter().find(|step| end / step <= 12.0).unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often `part` stands in `svg`.
    fn count(svg: &str, part: &str) -> usize {
        svg.matches(part).count()
    }

    const AT_THE_LORD: &str = "stroke=\"#0550ae\" stroke-width=\"6\"";
    const NOT_AT_THE_LORD: &str = "stroke=\"#cf222e\" stroke-width=\"6\"";
    const TWO_LORDS: &str = "fill=\"url(#fault)\"";

    /// Node 1 has been Lord for 100 s, with the IP.
    fn kept() -> Timeline {
        let mut timeline = Timeline::start(3);
        timeline.lords_at(0.0, &[1]);
        timeline.route_at(0.0, Some(1));
        timeline
    }

    #[test]
    fn only_changes_are_kept() {
        let mut timeline = kept();
        for at in 1..100 {
            timeline.lords_at(f64::from(at), &[1]);
            timeline.route_at(f64::from(at), Some(1));
        }
        assert_eq!(timeline.seen.len(), 2);
        let mut nobody = Timeline::start(3);
        nobody.lords(&[]);
        nobody.route(None);
        assert!(nobody.seen.is_empty());
    }

    #[test]
    fn stretches_have_no_gaps_and_say_when_the_promise_was_kept() {
        let mut timeline = kept();
        timeline.note_at(20.0, "SIGKILL");
        timeline.lords_at(20.0, &[]);
        timeline.route_at(70.0, Some(2));
        timeline.lords_at(71.0, &[2]);
        timeline.lords_at(80.0, &[2, 3]);
        let stretches = timeline.stretches(100.0);
        assert_eq!(stretches.first().map(|it| it.from), Some(0.0));
        assert_eq!(stretches.last().map(|it| it.to), Some(100.0));
        assert!(stretches.windows(2).all(|two| two[0].to == two[1].from));
        assert_eq!(merged(&stretches, Stretch::is_kept), [(0.0, 20.0), (71.0, 80.0)]);
        assert_eq!(merged(&stretches, |it| it.lords.contains(&2)), [(71.0, 100.0)]);
    }

    #[test]
    fn a_route_that_is_not_at_the_one_lord_is_red() {
        let mut timeline = kept();
        let legend = timeline.svg_until(100.0);
        // One of each is in the legend.
        assert_eq!((count(&legend, AT_THE_LORD), count(&legend, NOT_AT_THE_LORD)), (2, 1));
        timeline.route_at(40.0, Some(3));
        timeline.route_at(52.5, Some(1));
        let svg = timeline.svg_until(100.0);
        assert_eq!((count(&svg, AT_THE_LORD), count(&svg, NOT_AT_THE_LORD)), (3, 2));
        assert!(svg.contains(">12.5 s</text>"), "{svg}");
    }

    #[test]
    fn who_is_served_has_a_lane_of_its_own_where_that_is_known() {
        let mut timeline = kept();
        assert!(!timeline.svg_until(100.0).contains(">served</text>"));
        assert!(timeline.served(100.0).is_empty());
        let at = |seconds| timeline.start + std::time::Duration::from_secs(seconds);
        let dark = [(at(0), at(10)), (at(40), at(50))];
        timeline.dark(&dark);
        assert_eq!(timeline.served(100.0), [(10.0, 40.0), (50.0, 100.0)]);
        assert!(timeline.svg_until(100.0).contains(">served</text>"));
        timeline.dark(&[]);
        assert_eq!(timeline.served(100.0), [(0.0, 100.0)]);
    }

    #[test]
    fn two_lords_show_even_for_a_moment() {
        let mut timeline = kept();
        assert_eq!(count(&timeline.svg_until(1000.0), TWO_LORDS), 1, "the legend");
        timeline.lords_at(500.0, &[1, 2]);
        timeline.lords_at(500.1, &[1]);
        let svg = timeline.svg_until(1000.0);
        let band = svg.lines().find(|line| line.contains(TWO_LORDS)).expect("a band");
        assert!(band.contains(&format!(" width=\"{FAULT:.1}\" ")), "{band}");
    }

    #[test]
    fn labels_never_overlap_and_take_no_more_rows_than_they_need() {
        let notes =
            [(0.0, "start"), (100.0, "SIGKILL node 1"), (130.0, "POST"), (135.0, "POST"), (400.0, "end")];
        assert_eq!(rows(&notes), [0, 2, 1, 0, 0]);
        assert_eq!(rows(&[]), [0; 0]);
    }

    #[test]
    fn text_is_escaped() {
        let mut timeline = Timeline::start(1);
        timeline.note_at(0.0, "<a> & b\x1b[0m");
        let svg = timeline.svg_until(1.0);
        assert!(svg.contains(">&lt;a&gt; &amp; b [0m</text>"), "{svg}");
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!([1.0, 12.0, 13.0, 60.0, 100.0, 1000.0].map(step), [1.0, 1.0, 2.0, 5.0, 10.0, 100.0]);
    }
}
