//! Where two texts part, word by word.

/// More words than this are compared up to here only: the table grows with the square.
const MOST_WORDS: usize = 1200;

/// A stretch of text and whether the other text lacks it.
pub type Stretch<'t> = (&'t str, bool);

/// Both texts in stretches: the longest common subsequence of words (with the spaces before them) is common, the rest differs.
#[must_use]
pub fn compare<'t>(a: &'t str, b: &'t str) -> (Vec<Stretch<'t>>, Vec<Stretch<'t>>) {
    let (a, b) = (words(a), words(b));
    let (n, m) = (a.len().min(MOST_WORDS), b.len().min(MOST_WORDS));
    let same = |i: usize, j: usize| a[i].trim() == b[j].trim();
    // length[i][j]: common words of a[i..] and b[j..].
    let width = m + 1;
    let mut length = vec![0u16; (n + 1) * width];
    for i in (0..n).rev() {
        for j in (0..m).rev() {
            length[i * width + j] = if same(i, j) {
                length[(i + 1) * width + j + 1] + 1
            } else {
                length[(i + 1) * width + j].max(length[i * width + j + 1])
            };
        }
    }
    let (mut left, mut right) = (Vec::new(), Vec::new());
    let (mut i, mut j) = (0, 0);
    while i < n && j < m {
        if same(i, j) {
            left.push((a[i], false));
            right.push((b[j], false));
            (i, j) = (i + 1, j + 1);
        } else if length[(i + 1) * width + j] >= length[i * width + j + 1] {
            left.push((a[i], true));
            i += 1;
        } else {
            right.push((b[j], true));
            j += 1;
        }
    }
    left.extend(a[i..].iter().map(|word| (*word, true)));
    right.extend(b[j..].iter().map(|word| (*word, true)));
    (left, right)
}

/// A text as words, each with the spaces before it; what follows the last word is one more.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut start, mut in_word) = (0, false);
    for (at, letter) in text.char_indices() {
        if letter.is_whitespace() && in_word {
            words.push(&text[start..at]);
            start = at;
        }
        in_word = !letter.is_whitespace();
    }
    if start < text.len() {
        words.push(&text[start..]);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differing(stretches: &[Stretch<'_>]) -> Vec<String> {
        stretches.iter().filter(|(_, differs)| *differs).map(|(word, _)| word.trim().to_owned()).collect()
    }

    #[test]
    fn only_what_differs_is_marked_and_nothing_is_lost() {
        let (a, b) = ("The sky is blue,\n\nsays he. ", "The sea is blue, says my friend he.");
        let (left, right) = compare(a, b);
        assert_eq!(differing(&left), ["sky", ""], "and the space at the end");
        assert_eq!(differing(&right), ["sea", "my", "friend"]);
        assert_eq!(left.iter().map(|(word, _)| *word).collect::<String>(), a);
        assert_eq!(right.iter().map(|(word, _)| *word).collect::<String>(), b);
    }

    #[test]
    fn equal_empty_and_endless_texts() {
        let (left, right) = compare("a b", "a b");
        assert!(differing(&left).is_empty() && differing(&right).is_empty());
        assert_eq!(compare("", ""), (vec![], vec![]));
        assert_eq!(differing(&compare("", "x").1), ["x"]);
        let long = "w ".repeat(3 * MOST_WORDS);
        assert_eq!(compare(&long, &long).0.len(), long.split_whitespace().count() + 1);
    }
}
