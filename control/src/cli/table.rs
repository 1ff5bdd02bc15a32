//! Tables for people: aligned columns, and fields one a line. What a tenant wrote can't move the cursor.

/// Rows under headings. A heading that begins with `>` is of a column of numbers, which stand at its right edge.
#[derive(Debug)]
pub(crate) struct Table {
    headings: Vec<String>,
    numeric: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self {
            headings: headings.iter().map(|heading| heading.trim_start_matches('>').to_owned()).collect(),
            numeric: headings.iter().map(|heading| heading.starts_with('>')).collect(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    /// The table, or `nothing` where it has no rows.
    pub(crate) fn render(&self, nothing: &str) -> String {
        if self.rows.is_empty() {
            return format!("{nothing}\n");
        }
        let all: Vec<&Vec<String>> = std::iter::once(&self.headings).chain(&self.rows).collect();
        let width = |column: usize| {
            all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.headings.len()).map(width).collect();
        let mut text = String::new();
        for row in all {
            let cells = row.iter().zip(&widths).zip(&self.numeric);
            let padded: Vec<String> = cells
                .map(
                    |((cell, &width), &numeric)| {
                        if numeric { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
                    },
                )
                .collect();
            text.push_str(padded.join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

/// Fields one a line, their values aligned; a field without a value is left out.
pub(crate) fn fields(fields: &[(&str, Option<String>)]) -> String {
    let shown: Vec<_> = fields.iter().filter_map(|(name, value)| Some((name, value.as_ref()?))).collect();
    let width = shown.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    shown.iter().map(|(name, value)| format!("{name:<width$}  {}\n", printable(value))).collect()
}

/// `5000000` as `5,000,000`.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Control characters would let a tenant's name rewrite the operator's terminal.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_stand_at_the_right() {
        let mut table = Table::new(&["TENANT", ">COST"]);
        table.row(["acme".to_owned(), "1.000000000".to_owned()]);
        table.row(["a-longer-one".to_owned(), "-0.5".to_owned()]);
        assert_eq!(
            table.render("none"),
            "TENANT               COST\nacme          1.000000000\na-longer-one         -0.5\n"
        );
        assert_eq!(Table::new(&["TENANT"]).render("no tenants"), "no tenants\n");
    }

    #[test]
    fn a_name_cant_move_the_cursor() {
        assert_eq!(
            fields(&[("name", Some("\u{1b}[2Jx\n".to_owned())), ("gone", None)]),
            "name  \u{fffd}[2Jx\u{fffd}\n"
        );
    }

    #[test]
    fn large_counts_are_grouped() {
        for (count, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (5_000_000, "5,000,000"), (123_456, "123,456")]
        {
            assert_eq!(grouped(count), text);
        }
    }
}
