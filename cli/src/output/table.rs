//! Columns for people.

use unicode_width::UnicodeWidthStr;

use super::clean;

/// Which side of its column a cell keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A table with one line a row, columns as wide as their widest cell. Cells are cleaned when they are added.
#[derive(Debug)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
    widths: Vec<usize>,
    headed: bool,
}

/// Between two columns.
const GAP: &str = "  ";

impl Table {
    /// A table with these columns and no rows.
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        let widths = columns.iter().map(|(name, _)| name.width()).collect();
        let headed = columns.iter().all(|(name, _)| name.is_empty());
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
            widths,
            headed,
        }
    }

    /// A table of names and values, without a head line.
    pub fn facts() -> Self {
        Self::new(&[("", Align::Left), ("", Align::Left)])
    }

    /// Adds a row; cells too few are empty, cells too many are left out.
    pub fn row<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let mut row: Vec<String> = cells
            .into_iter()
            .take(self.columns.len())
            .map(|c| clean(c.as_ref()))
            .collect();
        row.resize(self.columns.len(), String::new());
        self.rows.push(row);
    }

    /// The text of the rows added since the last call, with the head line before the first ones. Columns never
    /// become narrower, so that the pages of a long table mostly stand in line. `color` makes the head line bold.
    pub fn render(&mut self, color: bool) -> String {
        let rows = std::mem::take(&mut self.rows);
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        let mut text = String::new();
        if !std::mem::replace(&mut self.headed, true) {
            let head = self.format_row(self.columns.iter().map(|(name, _)| *name));
            let head = if color {
                format!("\u{1b}[1m{head}\u{1b}[0m")
            } else {
                head
            };
            text.extend([&head, "\n"]);
        }
        for row in &rows {
            text.extend([&self.format_row(row.iter().map(String::as_str)), "\n"]);
        }
        text
    }

    fn format_row<'a>(&self, cells: impl Iterator<Item = &'a str>) -> String {
        let mut line = String::new();
        for (i, ((cell, width), (_, align))) in cells.zip(&self.widths).zip(&self.columns).enumerate() {
            if i > 0 {
                line.push_str(GAP);
            }
            let pad = " ".repeat(width.saturating_sub(cell.width()));
            match align {
                Align::Left => line.extend([cell, &pad]),
                Align::Right => line.extend([&pad, cell]),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let mut table = Table::new(&[("NAME", Align::Left), ("N", Align::Right)]);
        table.row(["棚卸", "7"]);
        table.row(["a\u{1b}[31mb", "1234"]);
        assert_eq!(table.render(false), "NAME     N\n棚卸     7\nab    1234\n");
        table.row(["c", "5"]);
        assert_eq!(
            table.render(false),
            "c        5\n",
            "a second page has no head and the same columns"
        );
        let mut empty = Table::new(&[("NAME", Align::Left), ("N", Align::Right)]);
        assert_eq!(empty.render(true), "\u{1b}[1mNAME  N\u{1b}[0m\n");
    }

    #[test]
    fn facts_have_no_head() {
        let mut table = Table::facts();
        table.row(["job", "12"]);
        table.row(["state", "done"]);
        assert_eq!(table.render(true), "job    12\nstate  done\n");
    }
}
