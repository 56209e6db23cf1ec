//! Reads a data set: rows to examples on two sides, with a report.

use std::collections::HashSet;
use std::io::BufRead;
use std::ops::ControlFlow;

use adapter_engine::text::Tokenizer;

use super::error::DataError;
use super::examples::{Encoded, Examples};
use super::fields;
use super::formats::{self, Format, ReadRow};
use super::options::DataOptions;
use super::problem::{Place, Reason, RowProblem};
use super::render::Renderer;
use super::report::{DatasetReport, FileReport, SideReport};
use super::row::Row;
use super::source::{MAX_ROW_BYTES, Record, RowReader};

/// A data set as tokens.
#[derive(Debug)]
pub struct Dataset {
    /// To train on.
    pub training: Examples,
    /// To measure on; may be empty.
    pub validation: Examples,
    /// What was found.
    pub report: DatasetReport,
}

/// Called with the number of rows read so far.
pub type Progress<'a> = &'a mut dyn FnMut(u64) -> ControlFlow<()>;

impl Dataset {
    /// Reads rows to train on and, if there is a second reader, rows to measure on. Readers come with names for messages.
    ///
    /// # Errors
    /// If a setting, a file or all of its rows are unusable, or `progress` breaks off.
    pub fn read(
        (file, name): (&mut dyn BufRead, &str),
        validation_file: Option<(&mut dyn BufRead, &str)>,
        tokenizer: &Tokenizer,
        options: &DataOptions,
        progress: Progress<'_>,
    ) -> Result<Self, DataError> {
        if !(0.0..=0.9).contains(&options.split.fraction) {
            let found = options.split.fraction.to_string();
            return Err(DataError::Setting { field: "the share for validation", found, wanted: "0 to 0.9" });
        }
        if options.substitutions.iter().any(|(from, _)| from.is_empty()) {
            let found = "empty".to_owned();
            return Err(DataError::Setting { field: "the text to be replaced", found, wanted: "at least one letter" });
        }
        let renderer = Renderer::new(tokenizer, options)?;
        let mut loader = Loader { renderer, options, progress, rows: 0 };
        let (mut training, mut validation) = (Examples::default(), Examples::default());

        let mut in_validation = HashSet::new();
        let validation_file = match validation_file {
            Some((reader, name)) => Some(loader.read_file(reader, name, &mut |hash, encoded| {
                in_validation.insert(hash);
                validation.push(encoded);
                true
            })?),
            None => None,
        };
        let split = validation_file.is_none().then_some(options.split);
        let file = loader.read_file(file, name, &mut |hash, encoded| {
            match split {
                Some(split) if split.is_validation(hash) => validation.push(encoded),
                None if in_validation.contains(&hash) => return false,
                _ => training.push(encoded),
            }
            true
        })?;
        if training.is_empty() && file.left_out == file.rows {
            return Err(DataError::AllRowsMarked { rows: file.rows, name: name.to_owned() });
        }
        if training.is_empty() {
            return Err(DataError::NoTrainingRows { rows: file.rows.saturating_sub(file.n_skipped() + file.left_out) });
        }
        let report = DatasetReport {
            training: SideReport::of(&training),
            validation: SideReport::of(&validation),
            file,
            validation_file,
            split,
            max_tokens: options.max_tokens,
        };
        Ok(Self { training, validation, report })
    }

    /// Reads files: see [`Self::read`].
    ///
    /// # Errors
    /// As [`Self::read`], and if a file cannot be opened.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(
        file: &std::path::Path,
        validation_file: Option<&std::path::Path>,
        tokenizer: &Tokenizer,
        options: &DataOptions,
        progress: Progress<'_>,
    ) -> Result<Self, DataError> {
        let open = |path: &std::path::Path| match std::fs::File::open(path) {
            Ok(file) => Ok((std::io::BufReader::with_capacity(1 << 16, file), path.display().to_string())),
            Err(source) => Err(DataError::Io { source, name: path.display().to_string() }),
        };
        let (mut file, name) = open(file)?;
        let mut validation = validation_file.map(open).transpose()?;
        let validation = validation.as_mut().map(|(file, name)| (file as &mut dyn BufRead, name.as_str()));
        Self::read((&mut file, &name), validation, tokenizer, options, progress)
    }
}

struct Loader<'a> {
    renderer: Renderer<'a>,
    options: &'a DataOptions,
    progress: Progress<'a>,
    rows: u64,
}

impl Loader<'_> {
    /// Reads a file and hands each row with its hash to `keep`, which says whether it was kept.
    fn read_file(
        &mut self,
        reader: &mut dyn BufRead,
        name: &str,
        keep: &mut dyn FnMut(u64, &Encoded) -> bool,
    ) -> Result<FileReport, DataError> {
        let mut report = FileReport::default();
        let mut reader = RowReader::new(reader, name);
        let mut bytes = Vec::new();
        while let Some(record) = reader.next(&mut bytes)? {
            self.rows += 1;
            if (self.progress)(self.rows).is_break() {
                return Err(DataError::Cancelled);
            }
            report.rows += 1;
            let ReadRow { row, unread } = match self.read_row(&bytes, record, &mut report.format, name)? {
                Ok(read) => read,
                Err(problem) => {
                    self.skip(&mut report, problem)?;
                    continue;
                }
            };
            let Some(row) = row else {
                report.left_out += 1;
                continue;
            };
            let encoded = match self.renderer.encode(&row) {
                Ok(encoded) => encoded,
                Err(reason) => {
                    self.skip(&mut report, reason.of_row().at(record.place))?;
                    continue;
                }
            };
            if !keep(row.hash(), &encoded) {
                report.also_in_validation += 1;
                continue;
            }
            report.cut_rows += u64::from(encoded.cut > 0);
            report.cut_tokens += encoded.cut as u64;
            report.unlike_prompts += u64::from(encoded.unlike_prompt);
            report.without_end += u64::from(encoded.without_end);
            report.placeholders += u64::from(row.has_placeholder());
            report.markup += u64::from(encoded.markup);
            report.partly_targets += u64::from(matches!(row, Row::Marked { .. }));
            report.add_unread(unread);
        }
        if report.rows == 0 {
            return Err(DataError::NoRows { name: name.to_owned() });
        }
        if report.n_skipped() == report.rows && !report.problems.is_empty() {
            let first = Box::new(report.problems.swap_remove(0));
            return Err(DataError::AllRowsBad { rows: report.rows, first, name: name.to_owned() });
        }
        if report.n_skipped() * 2 > report.rows && !report.problems.is_empty() {
            let first = Box::new(report.problems.swap_remove(0));
            let (skipped, rows, reasons) = (report.n_skipped(), report.rows, report.reasons());
            return Err(DataError::MostRowsBad { skipped, rows, reasons, first, name: name.to_owned() });
        }
        Ok(report)
    }

    /// The example in a row; the outer error ends the file.
    fn read_row(
        &self,
        bytes: &[u8],
        record: Record,
        format: &mut Option<Format>,
        name: &str,
    ) -> Result<Result<ReadRow, RowProblem>, DataError> {
        if record.bytes > bytes.len() as u64 {
            let reason = Reason::TooLong { bytes: record.bytes, limit: MAX_ROW_BYTES as u64 };
            return Ok(Err(reason.of_row().at(record.place)));
        }
        let object = match fields::parse(bytes.trim_ascii_end()) {
            Ok(object) => object,
            Err((reason, line)) => {
                let place = Place { line: record.place.line + line, ..record.place };
                return Ok(Err(reason.of_row().at(place)));
            }
        };
        let Some(expected) = (*format).or_else(|| Format::of(&object)) else {
            return Ok(Err(formats::unknown(&object).of_row().at(record.place)));
        };
        if !expected.fits(&object)
            && let Some(found) = Format::of(&object)
        {
            return Err(DataError::MixedFormats { place: record.place, found, expected, name: name.to_owned() });
        }
        let read = expected.read(&object).map_err(|problem| problem.at(record.place));
        Ok(read.map(|mut read| {
            // A row that cannot be read does not decide for the others.
            *format = Some(expected);
            if let Some(row) = &mut read.row {
                row.substitute(&self.options.substitutions);
            }
            read
        }))
    }

    fn skip(&self, report: &mut FileReport, problem: RowProblem) -> Result<(), DataError> {
        if self.options.refuse_bad_rows {
            return Err(DataError::BadRow(Box::new(problem)));
        }
        *report.skipped.entry(problem.reason.kind()).or_default() += 1;
        // One is kept in any case: it is the error if no row is good.
        if report.problems.len() < self.options.problems_kept.max(1) {
            report.problems.push(problem);
        }
        Ok(())
    }
}
