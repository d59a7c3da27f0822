//! The figures that have a floor, as a picture: how many times the floor each side takes.
//!
//! On a logarithmic scale, since what is compared may lie a thousand times apart.

use lab::svg::{HALO, Svg, text_width};

use crate::figures::{Figure, Samples, number};
use crate::sides::Side;

const LEFT: f64 = 470.0;
const PLOT: f64 = 560.0;
const MARGIN: f64 = 16.0;
const BAR: f64 = 14.0;
/// Between two figures.
const GAP: f64 = 14.0;
/// The scale's ends, as powers of ten. What lies beyond is drawn at the end.
const ENDS: (f64, f64) = (-2.0, 2.0);

const SIDES: [(Side, &str, &str); 4] = [
    (Side::Ours, "#0550ae", "this plugin"),
    (Side::Peer, "#bc4c00", "C plugin"),
    (Side::Command, "#8c959f", "cmd:curl"),
    (Side::Limit, "#4ac26b", "limit"),
];

/// The picture.
pub fn svg(figures: &[Figure]) -> String {
    let with_floor: Vec<(&Figure, f64)> =
        figures.iter().filter_map(|figure| Some((figure, figure.floor.as_ref()?.most))).collect();
    let bars: usize = with_floor.iter().map(|(figure, _)| figure.sides.len()).sum();
    let top = MARGIN + 24.0;
    let bottom = top + bars as f64 * BAR + with_floor.len() as f64 * GAP;
    let (width, height) = (LEFT + PLOT + 110.0 + MARGIN, bottom + 60.0);
    let mut svg = Svg(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" role=\"img\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#1f2328\">\n\
         <title>What the plugin costs, beside its floors</title>\n"
    ));
    svg.rect(0.0, 0.0, width, height, "fill=\"#fff\" rx=\"6\"");
    for power in ENDS.0 as i32..=ENDS.1 as i32 {
        let times = 10f64.powi(power);
        svg.line((x(times), top), (x(times), bottom), "stroke=\"#d0d7de\"");
        let name = if power == 0 { "floor".into() } else { format!("{times} ×") };
        svg.text(x(times), bottom + 18.0, "text-anchor=\"middle\"", &name);
    }
    // Before the bars, so that no text of theirs lies under it.
    svg.line(
        (x(1.0), top),
        (x(1.0), bottom),
        "stroke=\"#cf222e\" stroke-width=\"2\" stroke-dasharray=\"5 3\"",
    );
    let mut y = top + GAP / 2.0;
    for (figure, floor) in &with_floor {
        let middle = y + figure.sides.len() as f64 * BAR / 2.0 + 4.0;
        let missed =
            if figure.holds() == Some(false) { " fill=\"#a40e26\" font-weight=\"bold\"" } else { "" };
        svg.text(LEFT - 10.0, middle, &format!("text-anchor=\"end\"{missed}"), &figure.name);
        for (side, colour, _) in SIDES {
            let Some(samples) = figure.of(side) else { continue };
            bar(&mut svg, y, colour, samples, figure, *floor);
            y += BAR;
        }
        y += GAP;
    }
    let mut at = LEFT;
    for (side, colour, name) in SIDES {
        if figures.iter().any(|figure| figure.of(side).is_some()) {
            svg.rect(at, bottom + 32.0, 20.0, 10.0, &format!("fill=\"{colour}\""));
            svg.text(at + 26.0, bottom + 41.0, "", name);
            at += 56.0 + text_width(name);
        }
    }
    svg.0 += "</svg>\n";
    svg.0
}

/// Where so many times the floor stand.
fn x(times: f64) -> f64 {
    let power = if times > 0.0 { times.log10() } else { ENDS.0 };
    LEFT + (power.clamp(ENDS.0, ENDS.1) - ENDS.0) / (ENDS.1 - ENDS.0) * PLOT
}

/// How many times the floor this is. A floor of zero is kept by zero alone.
fn times(value: f64, floor: f64) -> f64 {
    if value <= 0.0 { 0.0 } else { value / floor }
}

fn bar(svg: &mut Svg, y: f64, colour: &str, samples: &Samples, figure: &Figure, floor: f64) {
    let (low, high) = samples.quartiles();
    let at = |value| x(times(value, floor));
    // Zero has no place on a logarithmic scale; a stub shows that it was measured.
    svg.rect(LEFT, y + 2.0, (at(samples.median()) - LEFT).max(2.0), BAR - 4.0, &format!("fill=\"{colour}\""));
    let middle = y + BAR / 2.0;
    svg.line((at(low), middle), (at(high), middle), "stroke=\"#1f2328\" stroke-width=\"2\"");
    let text = format!("{} {}", number(samples.median()), figure.unit);
    svg.text(at(high) + 6.0, y + BAR - 3.0, HALO, text.trim());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_is_of_times_the_floor_and_has_ends() {
        assert_eq!([0.0, 0.001, 0.01].map(x), [LEFT; 3]);
        assert_eq!([1.0, 100.0, f64::INFINITY].map(x), [LEFT + PLOT / 2.0, LEFT + PLOT, LEFT + PLOT]);
        assert_eq!([times(0.0, 0.0), times(-1.0, 2.0), times(4.0, 2.0)], [0.0, 0.0, 2.0]);
        assert_eq!(times(1.0, 0.0), f64::INFINITY);
    }

    #[test]
    fn a_missed_floor_is_red_and_a_figure_without_one_is_not_drawn() {
        let figure = |name: &str, ours| Figure::new(name, "ms", vec![(Side::Ours, Samples::one(ours))]);
        let picture = svg(&[figure("kept", 1.0).at_most(1.0, ""), figure("no floor", 1.0)]);
        assert!(
            picture.contains(">kept</text>") && !picture.contains("no floor") && !picture.contains("#a40e26")
        );
        assert!(svg(&[figure("missed", 1.1).at_most(1.0, "")]).contains("#a40e26"));
    }
}
