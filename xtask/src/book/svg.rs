//! What the pictures are drawn with. Their colours follow the reader's choice of light or dark.

use std::fmt::Write as _;

/// Colours that colour-blind readers can tell apart (Okabe and Ito).
const STYLE: &str = "<style>\
    text{font:12px sans-serif;fill:#1f2328}.title{font-size:16px;font-weight:bold}.bold{font-weight:bold}.small{font-size:11px}\
    .code{font-family:monospace;font-size:11px}text.on{fill:#fff}.page{fill:#fff}.rule,.arrow{stroke:#8c959f;fill:none}\
    .arrow{stroke:#0072b2;stroke-width:1.5}.head{fill:#0072b2}.thread{fill:#0072b2}.irq{fill:#00805f}.ist{fill:#b84e00}\
    .hit{fill:#6e7781}.word{fill:#8250df}.empty{fill:none;stroke:#8c959f}\
    @media(prefers-color-scheme:dark){text{fill:#e6edf3}.page{fill:#0d1117}.arrow{stroke:#58a6ff}.head{fill:#58a6ff}}\
    </style>\n";

/// A picture.
pub struct Svg {
    width: f64,
    body: String,
}

impl Svg {
    /// An empty one.
    pub fn new(width: f64) -> Svg {
        Svg { width, body: String::new() }
    }

    /// The line above it.
    pub fn title(&mut self, y: f64, text: &str) {
        self.text(16.0, y, "title", text);
    }

    /// Text that begins at `x`.
    pub fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        self.place(x, y, class, "", text);
    }

    /// Text in the middle of which `x` is.
    pub fn middle(&mut self, x: f64, y: f64, class: &str, text: &str) {
        self.place(x, y, class, " text-anchor=\"middle\"", text);
    }

    /// Text that ends at `x`.
    pub fn end(&mut self, x: f64, y: f64, class: &str, text: &str) {
        self.place(x, y, class, " text-anchor=\"end\"", text);
    }

    fn place(&mut self, x: f64, y: f64, class: &str, anchor: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
        let _ = writeln!(self.body, "<text x=\"{x:.0}\" y=\"{y:.0}\"{class}{anchor}>{text}</text>");
    }

    /// A rectangle.
    pub fn rectangle(&mut self, x: f64, y: f64, width: f64, height: f64, class: &str) {
        let _ = writeln!(
            self.body,
            "<rect x=\"{x:.0}\" y=\"{y:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" rx=\"2\" class=\"{class}\"/>"
        );
    }

    /// A line.
    pub fn line(&mut self, x1: f64, y1: f64, x2: f64, y2: f64, class: &str) {
        let _ = writeln!(
            self.body,
            "<line x1=\"{x1:.0}\" y1=\"{y1:.0}\" x2=\"{x2:.0}\" y2=\"{y2:.0}\" class=\"{class}\"/>"
        );
    }

    /// An arrow from left to right, or back.
    pub fn arrow(&mut self, from: f64, y: f64, to: f64) {
        self.line(from, y, to, y, "arrow");
        let back = if to > from { to - 7.0 } else { to + 7.0 };
        let _ = writeln!(
            self.body,
            "<path d=\"M{to:.0} {y:.0}L{back:.0} {:.0}L{back:.0} {:.0}z\" class=\"head\"/>",
            y - 4.0,
            y + 4.0
        );
    }

    /// The file's contents.
    pub fn finish(self, height: f64) -> String {
        let width = self.width;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\">\n{STYLE}\
             <rect width=\"100%\" height=\"100%\" class=\"page\"/>\n{}</svg>\n",
            self.body
        )
    }
}

/// Text in lines of at most so many letters, or one word.
pub fn wrapped(text: &str, letters: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= letters => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_no_longer_than_asked() {
        assert_eq!(wrapped("as above, ERETS to it", 10), ["as above,", "ERETS to", "it"]);
        assert_eq!(wrapped("incompressible", 3), ["incompressible"]);
    }

    #[test]
    fn text_is_escaped() {
        let mut svg = Svg::new(10.0);
        svg.text(1.0, 2.0, "", "Arrived<K> & so on");
        assert!(svg.finish(10.0).contains(">Arrived&lt;K> &amp; so on<"));
    }
}
