//! Tables as plain text.

use console::{Alignment, measure_text_width, pad_str, truncate_str};

/// Fewest columns that a cut cell keeps.
const CUT_WIDTH_MIN: usize = 8;
const GAP: &str = "  ";

/// Returns rows with aligned columns, without borders.
pub(crate) fn plain(rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = rows.into_iter().collect();
    layout(&rows, " ", &widths(&rows))
}

/// Returns rows with aligned columns for standard output. A terminal gets lines of its own width: cells of the
/// `flexible` columns are cut, the first of them first. A pipe gets all of the text.
pub(crate) fn fitted(rows: &[Vec<String>], flexible: &[usize]) -> String {
    match console::Term::stdout().size_checked() {
        Some((_, columns)) => within(rows, flexible, usize::from(columns)),
        None => layout(rows, "", &widths(rows)),
    }
}

/// Returns rows in lines of at most `width` columns, as far as the `flexible` columns can give way.
pub(crate) fn within(rows: &[Vec<String>], flexible: &[usize], width: usize) -> String {
    let mut widths = widths(rows);
    let whole = |widths: &[usize]| widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1);
    for &column in flexible {
        let excess = whole(&widths).saturating_sub(width);
        if let Some(taken) = widths.get_mut(column) {
            *taken -= excess.min(taken.saturating_sub(CUT_WIDTH_MIN));
        }
    }
    layout(rows, "", &widths)
}

/// Returns the columns that each column takes.
fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let lines = |column: usize| rows.iter().filter_map(move |row| row.get(column)).flat_map(|cell| cell.lines());
    (0..columns).map(|column| lines(column).map(measure_text_width).max().unwrap_or(0)).collect()
}

fn layout(rows: &[Vec<String>], indent: &str, widths: &[usize]) -> String {
    let mut lines = Vec::new();
    for row in rows {
        let height = row.iter().map(|cell| cell.lines().count()).max().unwrap_or(0).max(1);
        for line in 0..height {
            let cells = row.iter().zip(widths).map(|(cell, &width)| {
                let text = truncate_str(cell.lines().nth(line).unwrap_or_default(), width, "…");
                pad_str(&text, width, Alignment::Left, None).into_owned()
            });
            let cells: Vec<String> = cells.collect();
            lines.push(format!("{indent}{}", cells.join(GAP)).trim_end().to_owned());
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.iter().map(|&cell| cell.to_owned()).collect()).collect()
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_end_of_spaces() {
        let rows = rows(&[&["A", "B"], &["äöü", "x\ny"], &["", "z"]]);
        assert_eq!(plain(rows), " A    B\n äöü  x\n      y\n      z");
    }

    #[test]
    fn the_first_flexible_column_gives_way_first_and_colours_take_no_room() {
        let red = "\u{1b}[31mfailed\u{1b}[0m";
        let rows = rows(&[&["01a2291c", "shop::a_function_with_a_name", red, "2 h"]]);
        assert_eq!(within(&rows, &[1, 2], 80), format!("01a2291c  shop::a_function_with_a_name  {red}  2 h"));
        assert_eq!(within(&rows, &[1, 2], 40), format!("01a2291c  shop::a_function…  {red}  2 h"));
        // Nothing is cut to less than can be read.
        assert_eq!(within(&rows, &[1], 10), format!("01a2291c  shop::a…  {red}  2 h"));
    }
}
