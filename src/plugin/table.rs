//! Tables for a terminal.

use super::escaped;

/// Rows with their columns under one another, from column `first` on.
pub(super) fn aligned<const N: usize>(rows: &[[String; N]], first: usize) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().skip(first).map(|cell| escaped(cell)).collect()).collect();
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<_> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: String =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}   ")).collect();
        format!("{}\n", cells.trim_end())
    };
    rows.iter().map(line).collect()
}
