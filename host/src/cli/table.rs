//! Tables as plain text.

use comfy_table::{ContentArrangement, Table, presets};

/// Returns rows with aligned columns, without borders.
pub(crate) fn plain(rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    for row in rows {
        table.add_row(row);
    }
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}
