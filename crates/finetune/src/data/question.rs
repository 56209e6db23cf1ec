//! Questions for sample answers, taken from rows.

use adapter_engine::text::{Shown, TextError, TextStream, Tokenizer};

use super::examples::{Example, Examples};

/// What a row asks: ids up to the first target, and the text a person reads of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The last line before the answer, without control tokens.
    pub text: String,
    /// The prompt as the model sees it.
    pub ids: Vec<u32>,
}

impl Question {
    /// The question of one row; `None` where nothing stands before the answer.
    ///
    /// # Errors
    /// Ids that are not those of `tokenizer`.
    pub fn of(example: &Example<'_>, tokenizer: &Tokenizer) -> Result<Option<Self>, TextError> {
        let Some(end) = example.trained.iter().position(|trained| *trained) else { return Ok(None) };
        let ids = example.ids.get(..end).unwrap_or_default();
        if ids.len() < 2 {
            return Ok(None);
        }
        let mut stream = TextStream::new(tokenizer, Shown::TextOnly, &[])?;
        let mut text = String::new();
        for id in ids {
            text.push_str(&stream.push(tokenizer, *id)?);
        }
        text.push_str(&stream.finish());
        // The template's own last line, such as `assistant`, is no part of the question.
        let mut lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        if lines.len() > 1 {
            lines.pop();
        }
        Ok(lines.last().map(|line| Self { text: (*line).to_owned(), ids: ids.to_vec() }))
    }

    /// The first `n` different questions of `rows` that have at most `most_tokens` tokens.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn first(rows: &Examples, tokenizer: &Tokenizer, n: usize, most_tokens: usize) -> Result<Vec<Self>, TextError> {
        let mut questions: Vec<Self> = Vec::new();
        for example in rows.iter() {
            if questions.len() >= n {
                break;
            }
            if let Some(question) = Self::of(&example, tokenizer)?
                && question.ids.len() <= most_tokens
                && questions.iter().all(|other| other.text != question.text)
            {
                questions.push(question);
            }
        }
        Ok(questions)
    }
}
