//! Text in columns: the first to the left, all others to the right, so that digits of one rank stand below each other.

/// Lines of cells under one heading line.
#[derive(Debug, Clone, Default)]
pub struct Table {
    heading: Vec<String>,
    lines: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column titles.
    pub fn new<T: Into<String>>(heading: impl IntoIterator<Item = T>) -> Table {
        Table { heading: heading.into_iter().map(Into::into).collect(), lines: Vec::new() }
    }

    /// Adds a line; cells beyond the heading are shown all the same.
    pub fn push<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.lines.push(cells.into_iter().map(Into::into).collect());
    }

    /// The titles of the columns.
    pub fn heading(&self) -> &[String] {
        &self.heading
    }

    /// The lines below them.
    pub fn lines(&self) -> &[Vec<String>] {
        &self.lines
    }

    /// The table as text, each line indented and ended by a newline.
    pub fn to_text(&self, indent: usize) -> String {
        let all = || std::iter::once(&self.heading).chain(&self.lines);
        let columns = all().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                all().filter_map(|line| line.get(column)).map(|cell| width(cell)).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for line in all().filter(|line| !line.is_empty()) {
            let mut out = " ".repeat(indent);
            for (column, cell) in line.iter().enumerate() {
                let padding = " ".repeat(widths[column].saturating_sub(width(cell)));
                match column {
                    0 => out.extend([cell.as_str(), &padding]),
                    _ => out.extend(["  ", &padding, cell]),
                }
            }
            text.push_str(out.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Names and values below each other, the values all beginning in the same column.
pub fn name_value_lines<'a>(
    rows: impl IntoIterator<Item = (&'a str, &'a str)> + Clone,
    indent: usize,
) -> String {
    let widest = rows.clone().into_iter().map(|(name, _)| width(name)).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in rows {
        let padding = " ".repeat(indent);
        let gap = " ".repeat(widest - width(name) + 2);
        text.push_str(format!("{padding}{name}{gap}{value}").trim_end());
        text.push('\n');
    }
    text
}

/// Columns that a text takes in a terminal; all our units are of single width.
fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_of_one_rank_stand_below_each_other() {
        let mut table = Table::new(["receiver", "p99"]);
        table.push(["a", "12 ms"]);
        table.push(["longer name", "850 µs"]);
        assert_eq!(table.to_text(2), "  receiver        p99\n  a             12 ms\n  longer name  850 µs\n");
    }

    #[test]
    fn a_line_with_more_cells_than_titles_is_not_lost() {
        let mut table = Table::new(["a"]);
        table.push(["b", "c"]);
        assert_eq!(table.to_text(0), "a\nb  c\n");
    }

    #[test]
    fn values_begin_in_one_column() {
        let rows = [("p50", "1 ms"), ("p99.9", "2 ms")];
        assert_eq!(name_value_lines(rows, 1), " p50    1 ms\n p99.9  2 ms\n");
    }
}
