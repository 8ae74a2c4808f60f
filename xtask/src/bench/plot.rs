//! The ratios as an SVG picture: one line per row, one dot per CPU model, left of the mark is better.

use std::fmt::Write as _;

use super::report::Measurement;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 250.0;
const RIGHT: f64 = 60.0;
const TOP: f64 = 76.0;
const ROW: f64 = 34.0;
/// Colours that colour-blind readers can tell apart (Okabe and Ito), on white and on black.
const COLOURS: [&str; 5] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00"];

/// Draws the measurements that have a ratio.
pub fn svg(measurements: &[Measurement]) -> String {
    let measured: Vec<_> = measurements.iter().filter(|m| m.ratio.is_some()).collect();
    let rows = distinct(measured.iter().map(|m| m.row));
    let cpus = distinct(measured.iter().map(|m| m.cpu.as_str()));
    let greatest = measured.iter().filter_map(|m| m.ratio).fold(1.0, f64::max);
    let end = (greatest * 4.0).ceil() / 4.0;
    let x = |ratio: f64| LEFT + ratio / end * (WIDTH - LEFT - RIGHT);
    let bottom = TOP + rows.len() as f64 * ROW;
    let height = bottom + 40.0;

    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"16\" y=\"26\" font-size=\"16\" font-weight=\"bold\">Instructions per crossing, \
         as a fraction of stock Linux</text>\n"
    );
    for (index, cpu) in cpus.iter().enumerate() {
        let at = 16.0 + index as f64 * 150.0;
        let _ = writeln!(
            out,
            "<circle cx=\"{}\" cy=\"46\" r=\"5\" fill=\"{}\"/><text x=\"{}\" y=\"50\">{}</text>",
            at + 5.0,
            COLOURS[index % COLOURS.len()],
            at + 16.0,
            escape(cpu),
        );
    }
    for step in 0..=(end * 4.0) as u32 {
        let ratio = f64::from(step) / 4.0;
        let (colour, width) = if step == 4 { ("#444", 2) } else { ("#ddd", 1) };
        let at = x(ratio);
        let _ = writeln!(
            out,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\" stroke=\"{colour}\" stroke-width=\"{width}\"/>\
             <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#444\">{ratio}</text>",
            bottom + 20.0,
        );
    }
    for (index, row) in rows.iter().enumerate() {
        let middle = TOP + (index as f64 + 0.5) * ROW;
        let of_row: Vec<_> = measured.iter().filter(|m| m.row == *row).collect();
        let title = of_row.first().map_or("", |m| m.title());
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            LEFT - 12.0,
            middle + 4.0,
            escape(title)
        );
        let farthest = of_row.iter().filter_map(|m| m.ratio).fold(0.0, f64::max);
        // A stem from zero makes the length readable; the dots are the values.
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{middle}\" y2=\"{middle}\" stroke=\"#aaa\" stroke-width=\"3\"/>",
            x(farthest),
        );
        for m in &of_row {
            let colour = cpus.iter().position(|cpu| *cpu == m.cpu).unwrap_or(0) % COLOURS.len();
            let _ = writeln!(
                out,
                "<circle cx=\"{:.1}\" cy=\"{middle}\" r=\"6\" fill=\"{}\" fill-opacity=\"0.8\"><title>{}: {} of {}</title></circle>",
                x(m.ratio.unwrap_or(0.0)),
                COLOURS[colour],
                escape(&m.cpu),
                m.ours.instructions.unwrap_or(0),
                m.stock.instructions.unwrap_or(0),
            );
        }
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{}\" fill=\"#444\">{farthest:.2}</text>",
            x(farthest) + 11.0,
            middle + 4.0,
        );
    }
    out.push_str("</svg>\n");
    out
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut out = Vec::new();
    for name in names {
        if !out.contains(&name) {
            out.push(name);
        }
    }
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
