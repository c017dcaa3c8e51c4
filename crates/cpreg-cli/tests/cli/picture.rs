//! Drawing of the output of a command as SVG, for the README.

use std::fmt::Write as _;

/// Longest line that is drawn, in characters. Longer lines end with `…`.
const MAX_LINE_LEN: usize = 112;
const CHARACTER_WIDTH: usize = 8;
const LINE_HEIGHT: usize = 18;
const MARGIN: usize = 16;

/// Returns an SVG image that shows `command` and the text that it printed.
pub(crate) fn draw(command: &str, text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let width = 2 * MARGIN + MAX_LINE_LEN * CHARACTER_WIDTH;
    let height = 2 * MARGIN + (lines.len() + 1) * LINE_HEIGHT;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" \
         width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n\
         <title>The report of {}</title>\n\
         <!-- The text of this command; `cargo xtask bless` draws it again. -->\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#0d1117\"/>\n\
         <g font-family=\"ui-monospace, Menlo, Consolas, monospace\" font-size=\"13\" \
         xml:space=\"preserve\" style=\"white-space: pre\">\n",
        escape(command)
    );
    let command = format!("$ {command}");
    let drawn = [command.as_str()].into_iter().chain(lines);
    for (number, line) in drawn.enumerate() {
        if line.is_empty() {
            continue;
        }
        let y = MARGIN + (number + 1) * LINE_HEIGHT - 5;
        let (color, weight) = style(number, line);
        let _ = writeln!(
            svg,
            "<text x=\"{MARGIN}\" y=\"{y}\" fill=\"{color}\"{weight}>{}</text>",
            escape(&cut(line))
        );
    }
    svg.push_str("</g>\n</svg>\n");
    svg
}

/// Returns the colour of a line, and its `font-weight` attribute.
///
/// The command is line 0 and the verdict line 1. Details are indented by four spaces or more.
fn style(number: usize, line: &str) -> (&'static str, &'static str) {
    const BOLD: &str = " font-weight=\"bold\"";
    match number {
        0 => ("#79c0ff", ""),
        1 if line.starts_with("loads") || line.starts_with("converts") => ("#3fb950", BOLD),
        1 if line.starts_with("refused") => ("#f85149", BOLD),
        1 => ("#d29922", BOLD),
        _ if line.starts_with("    cpreg ") => ("#79c0ff", ""),
        _ if line.starts_with("    ") => ("#8b949e", ""),
        _ => ("#e6edf3", ""),
    }
}

fn cut(line: &str) -> String {
    if line.chars().count() <= MAX_LINE_LEN {
        return line.to_owned();
    }
    let kept = line.chars().take(MAX_LINE_LEN - 1);
    kept.chain(['…']).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
