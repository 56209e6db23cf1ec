//! What was found in a data set, for a person to read before training begins.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use adapter_plot::axis::count as grouped;
use serde::Serialize;

use super::examples::Examples;
use super::formats::Format;
use super::problem::RowProblem;
use super::split::Split;

/// What was found in one file.
#[derive(Debug, Default, Serialize)]
pub struct FileReport {
    /// The format of all rows.
    pub format: Option<Format>,
    /// Rows, good and bad.
    pub rows: u64,
    /// Rows that cannot be used, by reason.
    pub skipped: BTreeMap<&'static str, u64>,
    /// The first of them.
    pub problems: Vec<RowProblem>,
    /// Rows left out of training because the validation file has them, too.
    pub also_in_validation: u64,
    /// Rows cut to the most tokens.
    pub cut_rows: u64,
    /// Tokens lost by that.
    pub cut_tokens: u64,
    /// Rows with a prompt that has other tokens alone than with the answer behind it.
    pub unlike_prompts: u64,
    /// Rows after whose answer the template writes no end token.
    pub without_end: u64,
    /// Rows in which `{{name}}` or `{{author}}` was not replaced.
    pub placeholders: u64,
    /// Rows that are marked as not to be learnt (`weight: 0`, `train: false`, `label: false`).
    pub left_out: u64,
    /// Rows of which only some answers are target tokens.
    pub partly_targets: u64,
    /// Rows in which a control token is spelled as letters.
    pub markup: u64,
    /// Fields of rows and messages that are not read (`category`, `messages[].name`), with the number of rows that have them.
    pub unread: BTreeMap<String, u64>,
    /// Rows with fields beyond the first [`MAX_UNREAD`] names.
    pub more_unread: u64,
}

/// The most fields that are named.
const MAX_UNREAD: usize = 100;

impl FileReport {
    /// Rows that cannot be used.
    #[must_use]
    pub fn n_skipped(&self) -> u64 {
        self.skipped.values().sum()
    }

    /// Reasons for rows that cannot be used, with their number: `30 empty, 30 not valid JSON`.
    #[must_use]
    pub fn reasons(&self) -> String {
        let kinds: Vec<String> = self.skipped.iter().map(|(kind, n)| format!("{} {kind}", grouped(*n))).collect();
        kinds.join(", ")
    }

    /// Counts the fields of one row that were not read.
    pub(super) fn add_unread(&mut self, fields: BTreeSet<String>) {
        let mut more = false;
        for field in fields {
            let is_full = self.unread.len() >= MAX_UNREAD;
            match self.unread.get_mut(&field) {
                Some(rows) => *rows += 1,
                None if is_full => more = true,
                None => {
                    self.unread.insert(field, 1);
                }
            }
        }
        self.more_unread += u64::from(more);
    }

    /// The fields that are not read with their rows: `category (52 rows), messages[].name (1 row)`; empty if there are none.
    #[must_use]
    pub fn unread_fields(&self) -> String {
        let mut fields: Vec<String> = self.unread.iter().map(|(field, n)| format!("{field} ({})", rows(*n))).collect();
        if self.more_unread > 0 {
            fields.push(format!("others ({})", rows(self.more_unread)));
        }
        fields.join(", ")
    }

    /// What is worth knowing about rows that are used, each as a sentence with its number of rows. `max_tokens` is the limit
    /// they were cut to.
    #[must_use]
    pub fn notes(&self, max_tokens: u32) -> Vec<String> {
        let notes = [
            (
                self.left_out,
                "left out, as they are marked as not to be learnt (weight 0, train false or label false)".to_owned(),
            ),
            (
                self.partly_targets,
                "of which only some answers are learnt, as the others are marked (weight 0, train or loss false) or stand in the \
                 prompt"
                    .to_owned(),
            ),
            (self.also_in_validation, "left out of training, as the validation file has them too".to_owned()),
            (
                self.cut_rows,
                format!("cut to {} tokens ({} tokens lost)", grouped(max_tokens.into()), grouped(self.cut_tokens)),
            ),
            (
                self.unlike_prompts,
                "in which the tokens before an answer are not those the model is asked with, so what is learnt differs from \
                 what is asked: another template avoids it"
                    .to_owned(),
            ),
            (
                self.without_end,
                "without an end token after the answer, so the model does not learn to stop: use another template".to_owned(),
            ),
            (
                self.markup,
                "in which control tokens are spelled as letters, for instance <|im_end|>: they are learnt as letters; give the \
                 messages without them and let the template write them"
                    .to_owned(),
            ),
            (self.placeholders, "with {{name}} or {{author}} left in it: say what to put there".to_owned()),
        ];
        let mut notes: Vec<String> =
            notes.into_iter().filter(|(n, _)| *n > 0).map(|(n, note)| format!("{} {note}", rows(n))).collect();
        if !self.unread.is_empty() {
            notes.push(format!("fields that are not read: {}", self.unread_fields()));
        }
        notes
    }
}

/// One side of the split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SideReport {
    /// Rows.
    pub rows: u64,
    /// Tokens of all rows.
    pub tokens: u64,
    /// Target tokens: those that the loss counts.
    pub trained_tokens: u64,
    /// Tokens of the row in the middle.
    pub median_len: u64,
    /// Tokens of the longest row.
    pub max_len: u64,
}

impl SideReport {
    /// The figures of `examples`.
    #[must_use]
    pub fn of(examples: &Examples) -> Self {
        let mut lens: Vec<u64> = examples.iter().map(|example| example.ids.len() as u64).collect();
        lens.sort_unstable();
        Self {
            rows: lens.len() as u64,
            tokens: examples.n_tokens(),
            trained_tokens: examples.n_trained(),
            median_len: lens.get(lens.len() / 2).copied().unwrap_or(0),
            max_len: lens.last().copied().unwrap_or(0),
        }
    }
}

/// What was found in a data set. Written as text it is a few lines; serialized, one object.
#[derive(Debug, Serialize)]
pub struct DatasetReport {
    /// The file trained on.
    pub file: FileReport,
    /// The validation file, if there is one.
    pub validation_file: Option<FileReport>,
    /// How rows were kept for validation, if there is no such file.
    pub split: Option<Split>,
    /// The most tokens of a row.
    pub max_tokens: u32,
    /// What is trained on.
    pub training: SideReport,
    /// What is measured on.
    pub validation: SideReport,
}

impl fmt::Display for DatasetReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_file(f, &self.file, "")?;
        if let Some(file) = &self.validation_file {
            self.write_file(f, file, "validation file: ")?;
        }
        write_side(f, "training", &self.training)?;
        if self.validation.rows > 0 {
            writeln!(f)?;
            write_side(f, "validation", &self.validation)?;
            if let Some(split) = self.split {
                write!(f, " (share {}, seed {})", split.fraction, split.seed)?;
            }
        }
        Ok(())
    }
}

impl DatasetReport {
    fn write_file(&self, f: &mut fmt::Formatter<'_>, file: &FileReport, what: &str) -> fmt::Result {
        let format = file.format.map_or_else(String::new, |format| format!("{format} "));
        writeln!(f, "{what}{} {format}{}", grouped(file.rows), plural(file.rows, "row", "rows"))?;
        let skipped = file.n_skipped();
        if skipped > 0 {
            writeln!(f, "{} skipped: {}", rows(skipped), file.reasons())?;
            for problem in &file.problems {
                writeln!(f, "  {problem}")?;
            }
            let more = skipped.saturating_sub(file.problems.len() as u64);
            if more > 0 {
                writeln!(f, "  and {} more", grouped(more))?;
            }
        }
        for note in file.notes(self.max_tokens) {
            writeln!(f, "{note}")?;
        }
        Ok(())
    }
}

fn write_side(f: &mut fmt::Formatter<'_>, name: &str, side: &SideReport) -> fmt::Result {
    write!(
        f,
        "{name}: {}, {} tokens, {} of them target tokens; a row has {} (median), at most {}",
        rows(side.rows),
        grouped(side.tokens),
        grouped(side.trained_tokens),
        grouped(side.median_len),
        grouped(side.max_len)
    )
}

fn rows(n: u64) -> String {
    format!("{} {}", grouped(n), plural(n, "row", "rows"))
}

fn plural<'a>(n: u64, one: &'a str, many: &'a str) -> &'a str {
    if n == 1 { one } else { many }
}
