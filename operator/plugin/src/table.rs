//! Columns of text, and text that cannot harm a terminal.

/// How a column is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    /// Always.
    Always(&'static str),
    /// Only when a row has something in it.
    WhenUsed(&'static str),
}

impl Column {
    fn title(self) -> &'static str {
        match self {
            Column::Always(title) | Column::WhenUsed(title) => title,
        }
    }
}

/// Lines of a table: titles, then rows, each column as wide as its widest cell. Rows may be shorter than the columns.
pub(crate) fn lines(columns: &[Column], rows: &[Vec<String>]) -> Vec<String> {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let cell = |row: &[String], index: usize| row.get(index).cloned().unwrap_or_default();
    let shown: Vec<(usize, Column)> = columns
        .iter()
        .copied()
        .enumerate()
        .filter(|(index, column)| {
            matches!(column, Column::Always(_)) || rows.iter().any(|row| !cell(row, *index).is_empty())
        })
        .collect();
    let titles: Vec<String> = columns.iter().map(|column| column.title().to_owned()).collect();
    let widths: Vec<usize> = shown
        .iter()
        .map(|(index, _)| {
            rows.iter().chain([&titles]).map(|row| cell(row, *index).chars().count()).max().unwrap_or(0)
        })
        .collect();
    std::iter::once(&titles)
        .chain(&rows)
        .map(|row| {
            let mut line = String::new();
            for ((index, _), width) in shown.iter().zip(&widths) {
                let text = cell(row, *index);
                let gap = (width + 3).saturating_sub(text.chars().count());
                line.push_str(&text);
                line.extend(std::iter::repeat_n(' ', gap));
            }
            line.trim_end().to_owned()
        })
        .collect()
}

/// Text without control characters: names of streams, messages and logs come from outside, and a terminal obeys them.
pub(crate) fn printable(text: &str) -> String {
    if !text.chars().any(is_harmful) {
        return text.to_owned();
    }
    text.chars().fold(String::with_capacity(text.len()), |mut clean, one| {
        if is_harmful(one) {
            clean.extend(one.escape_unicode());
        } else {
            clean.push(one);
        }
        clean
    })
}

fn is_harmful(one: char) -> bool {
    // The directional formatting characters can make a line read as another one.
    (one.is_control() && one != '\t')
        || matches!(one, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn columns_are_aligned_and_unused_ones_left_out() {
        let columns = [Column::Always("NAME"), Column::WhenUsed("UNTIL"), Column::Always("N")];
        let rows = [vec!["é-long".into(), String::new(), "1".into()], vec!["b".into()]];
        assert_eq!(lines(&columns, &rows), ["NAME     N", "é-long   1", "b"]);
        let rows = [vec!["a".into(), "12m".into(), "1".into()]];
        assert_eq!(lines(&columns, &rows), ["NAME   UNTIL   N", "a      12m     1"]);
    }

    #[test]
    fn escape_sequences_are_shown_and_not_obeyed() {
        assert_eq!(printable("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\\u{a}c");
    }

    proptest! {
        #[test]
        fn nothing_that_a_terminal_obeys_is_left(text in any::<String>()) {
            let rows = [vec![text]];
            for line in lines(&[Column::Always("NAME")], &rows) {
                prop_assert!(!line.chars().any(is_harmful));
            }
        }
    }
}
