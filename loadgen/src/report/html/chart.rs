//! A chart of lines or bars as inline SVG.
//!
//! The plot is stretched to whatever room there is, while all text beside it is HTML in its own size: so a chart is as
//! readable on a phone and on paper as on a wide screen, without any script.

use serde_json::json;

use crate::report::html::axis::Scale;
use crate::report::html::markup::{Html, escape};

/// Edge length of the plot's own coordinates.
const SIDE: f64 = 1000.0;

/// How a number is written.
pub type Show = fn(f64) -> String;

/// One line.
pub struct Line {
    /// For the legend.
    pub name: String,
    /// Which colour of the style sheet, from 1 to 6.
    pub colour: usize,
    /// For what was wished rather than measured.
    pub dashed: bool,
    /// For what is a volume rather than a level.
    pub filled: bool,
    /// In order of x; a y that is not a number breaks the line.
    pub points: Vec<(f64, f64)>,
}

impl Line {
    /// A plain line.
    pub fn new(name: impl Into<String>, colour: usize, points: Vec<(f64, f64)>) -> Line {
        Line { name: name.into(), colour, dashed: false, filled: false, points }
    }
}

/// Lines over a common x axis.
pub struct Chart {
    /// Its title.
    pub title: String,
    /// What y is, shown beside the title.
    pub unit: &'static str,
    /// What x is, shown below.
    pub x_title: &'static str,
    /// The x axis.
    pub x: Scale,
    /// The y axis.
    pub y: Scale,
    /// How x is written.
    pub show_x: Show,
    /// How y is written.
    pub show_y: Show,
    /// Marks each point, for lines of few points.
    pub dots: bool,
    /// What is drawn, the most important first.
    pub lines: Vec<Line>,
}

impl Chart {
    /// Draws it.
    pub fn render(&self, html: &mut Html) {
        html.markup("<figure class=\"chart\">");
        html.markup("<figcaption><b>")
            .text(&self.title)
            .markup("</b> <span>")
            .text(self.unit)
            .markup("</span></figcaption>");
        self.legend(html);
        html.markup("<div class=\"frame\"><div class=\"ys\">");
        for tick in self.y.ticks() {
            html.format(format_args!("<i style=\"bottom:{:.2}%\">", tick.position * 100.0));
            html.text(&(self.show_y)(tick.value)).markup("</i>");
        }
        html.markup("</div>");
        html.format(format_args!(
            "<div class=\"plot\" data-hover=\"{}\">",
            escape(&self.hover_data().to_string())
        ));
        self.plot(html);
        html.markup("</div><div class=\"xs\">");
        for tick in self.x.ticks() {
            html.format(format_args!("<i style=\"left:{:.2}%\">", tick.position * 100.0));
            html.text(&(self.show_x)(tick.value)).markup("</i>");
        }
        html.markup("</div></div><div class=\"xtitle\">").text(self.x_title).markup("</div></figure>");
    }

    fn legend(&self, html: &mut Html) {
        html.markup("<div class=\"legend\">");
        for line in &self.lines {
            let dash = if line.dashed { " dashed" } else { "" };
            html.format(format_args!("<button type=\"button\" class=\"c{}{dash}\">", line.colour));
            html.text(&line.name).markup("</button>");
        }
        html.markup("</div>");
    }

    fn plot(&self, html: &mut Html) {
        let name = format!(
            "{}: {}",
            self.title,
            self.lines.iter().map(|line| line.name.as_str()).collect::<Vec<_>>().join(", ")
        );
        html.format(format_args!(
            "<svg viewBox=\"0 0 {SIDE} {SIDE}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">",
            escape(&name)
        ));
        html.markup("<path class=\"grid\" d=\"");
        for tick in self.y.ticks() {
            html.format(format_args!("M0 {:.1}H{SIDE}", SIDE - tick.position * SIDE));
        }
        for tick in self.x.ticks() {
            html.format(format_args!("M{:.1} 0V{SIDE}", tick.position * SIDE));
        }
        html.markup("\"/>");
        // The first line is the most important one, so it is drawn last, above the others.
        for (index, line) in self.lines.iter().enumerate().rev() {
            html.format(format_args!("<g class=\"line c{}\" data-line=\"{index}\">", line.colour));
            let runs = self.runs(line);
            if line.filled {
                html.markup("<path class=\"area\" d=\"");
                for run in &runs {
                    let (first, last) = (run[0].0, run[run.len() - 1].0);
                    html.format(format_args!("M{first:.1} {SIDE}"));
                    run.iter().for_each(|(x, y)| {
                        html.format(format_args!("L{x:.1} {y:.1}"));
                    });
                    html.format(format_args!("L{last:.1} {SIDE}Z"));
                }
                html.markup("\"/>");
            }
            let dash = if line.dashed { " dashed" } else { "" };
            html.format(format_args!("<path class=\"stroke{dash}\" d=\""));
            for run in &runs {
                for (index, (x, y)) in run.iter().enumerate() {
                    html.format(format_args!("{}{x:.1} {y:.1}", if index == 0 { "M" } else { "L" }));
                }
            }
            html.markup("\"/>");
            let is_alone = |run: &&Vec<(f64, f64)>| self.dots || run.len() == 1;
            html.markup("<path class=\"dots\" d=\"");
            for (x, y) in runs.iter().filter(is_alone).flatten() {
                html.format(format_args!("M{x:.1} {y:.1}h0"));
            }
            html.markup("\"/></g>");
        }
        html.markup("</svg>");
    }

    /// The pieces of a line between gaps, in the plot's coordinates.
    fn runs(&self, line: &Line) -> Vec<Vec<(f64, f64)>> {
        let mut runs: Vec<Vec<(f64, f64)>> = vec![Vec::new()];
        for (x, y) in &line.points {
            match (self.x.position(*x), self.y.position(*y)) {
                (Some(x), Some(y)) => {
                    if let Some(run) = runs.last_mut() {
                        run.push((x * SIDE, SIDE - y * SIDE));
                    }
                }
                _ => runs.push(Vec::new()),
            }
        }
        runs.retain(|run| !run.is_empty());
        runs
    }

    /// What the script shows beside the pointer: for each line the positions of its points and their texts.
    fn hover_data(&self) -> serde_json::Value {
        let lines: Vec<_> = self
            .lines
            .iter()
            .map(|line| {
                let shown = || {
                    line.points.iter().filter_map(|(x, y)| {
                        Some(((self.x.position(*x)? * SIDE).round() as u32, x, y)).filter(|_| y.is_finite())
                    })
                };
                json!({
                    "n": line.name,
                    "c": line.colour,
                    "p": shown().map(|(position, ..)| position).collect::<Vec<_>>(),
                    "x": shown().map(|(_, x, _)| (self.show_x)(*x)).collect::<Vec<_>>(),
                    "y": shown().map(|(.., y)| (self.show_y)(*y)).collect::<Vec<_>>(),
                })
            })
            .collect();
        json!(lines)
    }
}

/// One horizontal bar.
pub struct Bar {
    /// What it is of.
    pub name: String,
    /// Its length.
    pub value: f64,
    /// The text at its end.
    pub label: String,
    /// Which colour of the style sheet.
    pub colour: usize,
}

/// Bars below each other, the longest as long as the room allows.
pub fn bars(html: &mut Html, title: &str, note: &str, bars: &[Bar]) {
    let longest = bars.iter().map(|bar| bar.value).filter(|value| value.is_finite()).fold(0.0, f64::max);
    html.markup("<figure class=\"chart bars\"><figcaption><b>")
        .text(title)
        .markup("</b> <span>")
        .text(note)
        .markup("</span></figcaption>");
    for bar in bars {
        let length = if longest > 0.0 && bar.value.is_finite() {
            (bar.value / longest * SIDE).clamp(2.0, SIDE)
        } else {
            0.0
        };
        html.element("div", "name", &bar.name).markup("<div class=\"bar\">");
        html.format(format_args!(
            "<svg viewBox=\"0 0 {SIDE} 10\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><rect class=\"c{}\" width=\"{length:.1}\" height=\"10\"/></svg>",
            bar.colour
        ));
        html.element("span", "value", &bar.label).markup("</div>");
    }
    html.markup("</figure>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::number;

    fn chart(points: Vec<(f64, f64)>) -> Chart {
        Chart {
            title: "rate <of> \"things\"".to_owned(),
            unit: "samples/s",
            x_title: "seconds",
            x: Scale::Linear { min: 0.0, max: 10.0 },
            y: Scale::Linear { min: 0.0, max: 100.0 },
            show_x: number,
            show_y: number,
            dots: false,
            lines: vec![Line::new("a & b", 1, points)],
        }
    }

    fn rendered(chart: &Chart) -> String {
        let mut html = Html::new();
        chart.render(&mut html);
        html.finish()
    }

    #[test]
    fn points_stand_where_their_values_belong() {
        let html = rendered(&chart(vec![(0.0, 0.0), (5.0, 50.0), (10.0, 100.0)]));
        assert!(html.contains("d=\"M0.0 1000.0L500.0 500.0L1000.0 0.0\""), "{html}");
    }

    #[test]
    fn a_gap_breaks_the_line_and_a_point_alone_is_a_dot() {
        let html = rendered(&chart(vec![(0.0, 0.0), (2.0, 10.0), (5.0, f64::NAN), (10.0, 100.0)]));
        assert!(html.contains("M0.0 1000.0L200.0 900.0M1000.0 0.0"), "{html}");
        assert!(html.contains("<path class=\"dots\" d=\"M1000.0 0.0h0\""), "{html}");
    }

    #[test]
    fn titles_and_names_are_escaped() {
        let html = rendered(&chart(vec![(0.0, 0.0)]));
        assert!(html.contains("rate &lt;of&gt; &quot;things&quot;") && !html.contains("<of>"));
        assert!(html.contains("a &amp; b") && !html.contains("a & b"));
    }

    #[test]
    fn the_longest_bar_fills_the_room() {
        let bar = |value| Bar { name: "x".to_owned(), value, label: String::new(), colour: 1 };
        let mut html = Html::new();
        bars(&mut html, "t", "n", &[bar(2.0), bar(1.0), bar(f64::NAN)]);
        let html = html.finish();
        assert!(
            html.contains("width=\"1000.0\"")
                && html.contains("width=\"500.0\"")
                && html.contains("width=\"0.0\"")
        );
    }
}
