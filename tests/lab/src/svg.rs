//! What pictures are drawn with.
//!
//! SVG written by hand: it is readable wherever a browser is, and a crate for it would be larger than this.

use std::fmt::Write as _;

/// A character of a label takes so much at most in the usual fonts: text cannot be measured here.
const CHARACTER: f64 = 7.0;

/// For a text that may lie over a line.
pub const HALO: &str = "paint-order=\"stroke\" stroke=\"#fff\" stroke-width=\"4\" stroke-linejoin=\"round\"";

/// How wide a text is at most.
pub fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * CHARACTER
}

/// A picture, as far as it is written.
pub struct Svg(pub String);

impl Svg {
    pub fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, style: &str) {
        let _ = writeln!(
            self.0,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" {style}/>"
        );
    }

    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), style: &str) {
        let _ = writeln!(
            self.0,
            "<path d=\"M{:.1} {:.1}L{:.1} {:.1}\" {style} fill=\"none\"/>",
            from.0, from.1, to.0, to.1
        );
    }

    pub fn text(&mut self, x: f64, y: f64, style: &str, text: &str) {
        let _ = writeln!(self.0, "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{}</text>", escaped(text));
    }
}

/// XML has no way at all to write most control characters.
fn escaped(text: &str) -> String {
    let text = text.replace(|character: char| character.is_control(), " ");
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
