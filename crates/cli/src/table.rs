//! Tables of aligned columns. On a terminal they fit it: long texts go on below, in their column, and what cannot fit so
//! becomes a block of lines for each row. No word is ever taken apart, so that ids and tokens can be copied.
//!
//! Letters count as wide as terminals show them. Deliberately absent: frames.

use std::fmt;

use unicode_width::UnicodeWidthStr as _;

/// Blanks between columns.
const GAP: usize = 4;

/// Rows under a heading.
pub(crate) struct Table {
    /// None is a table without a heading.
    heading: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// Rows as aligned columns under an underlined heading, four spaces apart. Empty cells show as `n/a`.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>]) -> Table {
    let shown = |cell: &String| if cell.trim().is_empty() { "n/a".to_owned() } else { cell.clone() };
    Table {
        heading: heading.iter().map(|&title| title.to_owned()).collect(),
        rows: rows.iter().map(|row| row.iter().map(shown).collect()).collect(),
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.columns(&self.widths()))
    }
}

impl Table {
    /// The table no wider than this, if it has more than two columns: values stand in the last one of two, whole.
    pub(crate) fn fitted(&self, width: usize) -> String {
        let natural = self.widths();
        let gaps = GAP * natural.len().saturating_sub(1);
        if natural.len() <= 2 || natural.iter().sum::<usize>() + gaps <= width {
            return self.columns(&natural);
        }
        let longest = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).chain(self.heading.get(column));
            cells.flat_map(|cell| cell.split(' ')).map(|word| word.width()).max().unwrap_or(0)
        };
        let least: Vec<usize> = (0..natural.len()).map(longest).collect();
        if least.iter().sum::<usize>() + gaps > width {
            return self.blocks();
        }
        let mut widths = natural;
        // The widest gives way, a letter at a time.
        while widths.iter().sum::<usize>() + gaps > width {
            let can_give = widths.iter_mut().zip(&least).filter(|(width, least)| **width > **least);
            let Some((widest, _)) = can_give.max_by_key(|(width, _)| **width) else { break };
            *widest -= 1;
        }
        self.columns(&widths)
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = Vec::new();
        for row in self.rows.iter().chain([&self.heading]) {
            for (column, cell) in row.iter().enumerate() {
                match widths.get_mut(column) {
                    Some(widest) => *widest = cell.width().max(*widest),
                    None => widths.push(cell.width()),
                }
            }
        }
        widths
    }

    fn columns(&self, widths: &[usize]) -> String {
        let lines: Vec<String> = self.heading.iter().map(|title| "-".repeat(title.width())).collect();
        let all = [&self.heading, &lines].into_iter().chain(&self.rows).map(|row| line(row, widths));
        all.collect::<Vec<_>>().join("\n")
    }

    /// Each row as lines of title and value.
    fn blocks(&self) -> String {
        let width = self.heading.iter().map(|title| title.width()).max().unwrap_or(0);
        let block = |row: &Vec<String>| {
            let lines = self
                .heading
                .iter()
                .zip(row)
                .map(|(title, cell)| line(&[title.clone(), cell.clone()], &[width, usize::MAX]));
            lines.collect::<Vec<_>>().join("\n")
        };
        self.rows.iter().map(block).collect::<Vec<_>>().join("\n\n")
    }
}

/// One row, on as many lines as its longest cell takes.
fn line(row: &[String], widths: &[usize]) -> String {
    let cells: Vec<Vec<String>> = row.iter().zip(widths).map(|(cell, width)| wrapped(cell, *width)).collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or(0);
    let mut lines = Vec::with_capacity(height);
    for number in 0..height {
        let mut text = String::new();
        for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
            let part = cell.get(number).map_or("", String::as_str);
            text.push_str(part);
            let has_more = cells.iter().skip(column + 1).any(|cell| height == 1 || cell.get(number).is_some());
            if has_more {
                text.push_str(&" ".repeat(width.saturating_sub(part.width()) + GAP));
            }
        }
        lines.push(text);
    }
    lines.join("\n")
}

/// A text on lines of this width, taken apart at blanks alone.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    if text.width() <= width || text.contains('\n') {
        return vec![text.to_owned()];
    }
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.width() + 1 + word.width() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(heading: &[&str], rows: &[&[&str]]) -> Table {
        table(heading, &rows.iter().map(|row| row.iter().map(|&cell| cell.to_owned()).collect()).collect::<Vec<_>>())
    }

    #[test]
    fn tables_align_and_underline_their_headings() {
        let two = of(&["Key", "Value"], &[&["a", "1"], &["longer", ""]]);
        let expected = "Key       Value\n---       -----\na         1\nlonger    n/a";
        assert_eq!(two.to_string(), expected);
        assert_eq!(two.fitted(5), expected, "a value stays whole");
    }

    #[test]
    fn wide_letters_take_two_places() {
        let wide = of(&["Name", "X"], &[&["日本", "1"], &["abcd", "2"], &["é", "3"]]);
        assert_eq!(wide.to_string(), "Name    X\n----    -\n日本    1\nabcd    2\né       3");
    }

    #[test]
    fn a_table_fits_the_terminal_and_no_word_is_taken_apart() {
        let wide = of(
            &["Path", "Id", "Description"],
            &[&["a/", "kv_12345678", "what the whole team needs"], &["b/", "x", "-"]],
        );
        assert_eq!(wide.fitted(80), wide.to_string());
        assert_eq!(
            wide.fitted(34),
            "Path    Id             Description\n----    --             -----------\na/      kv_12345678    what the\n\
             \x20                      whole team\n                       needs\nb/      x              -"
        );
        assert_eq!(
            wide.fitted(20),
            "Path           a/\nId             kv_12345678\nDescription    what the whole team needs\n\n\
             Path           b/\nId             x\nDescription    -"
        );
    }
}
