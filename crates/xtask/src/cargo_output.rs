//! Reading the closing lines of `cargo test`.

/// How many tests passed, failed and were left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tests that ran and held.
    pub n_passed: u64,
    /// Tests that ran and did not.
    pub n_failed: u64,
    /// Tests marked `#[ignore]`.
    pub n_ignored: u64,
}

impl Counts {
    /// The sum of all `test result:` lines of a run.
    pub fn of(output: &str) -> Self {
        output.lines().filter_map(closing_line).fold(Self::default(), |sum, counts| Self {
            n_passed: sum.n_passed + counts.n_passed,
            n_failed: sum.n_failed + counts.n_failed,
            n_ignored: sum.n_ignored + counts.n_ignored,
        })
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.n_passed += other.n_passed;
        self.n_failed += other.n_failed;
        self.n_ignored += other.n_ignored;
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.n_passed, self.n_failed)?;
        if self.n_ignored > 0 { write!(f, ", {} skipped", self.n_ignored) } else { Ok(()) }
    }
}

/// `test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s`
fn closing_line(line: &str) -> Option<Counts> {
    let (_, counts) = line.trim().strip_prefix("test result: ")?.split_once(". ")?;
    let figure = |name: &str| {
        let part = counts.split(';').find_map(|part| part.trim().strip_suffix(name))?;
        part.trim_end().parse().ok()
    };
    Some(Counts { n_passed: figure("passed")?, n_failed: figure("failed")?, n_ignored: figure("ignored").unwrap_or(0) })
}

/// The tests that a program names with the seconds they took: `test NAME ... ok <1.234s>` of libtest, `(1.2 s)` of the page's.
pub fn timed_tests(output: &str) -> Vec<(String, f64)> {
    output.lines().filter_map(timed_test).collect()
}

fn timed_test(line: &str) -> Option<(String, f64)> {
    let (name, outcome) = line.trim_end().strip_prefix("test ")?.split_once(" ... ")?;
    let (_, time) = outcome.rsplit_once(['<', '('])?;
    let seconds = time.strip_suffix("s>").or_else(|| time.strip_suffix(" s)"))?;
    Some((name.to_owned(), seconds.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_tests_are_read_where_they_are_told() {
        let output = "test a::b ... ok <0.012s>\ntest a::c ... FAILED <12.500s>\ntest d ... ok\n\
            test a page opens (twice) ... ok (1.2 s)\ntest e ... ignored, why\nrunning 3 tests\n";
        let wanted = [("a::b", 0.012), ("a::c", 12.5), ("a page opens (twice)", 1.2)];
        assert_eq!(timed_tests(output), wanted.map(|(name, seconds)| (name.to_owned(), seconds)));
    }

    #[test]
    fn closing_lines_are_summed_and_everything_else_is_passed_over() {
        let output = "running 3 tests\n\
            test a ... ok\n\
            test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
            the text says test result: ok. 9 passed; 9 failed\n\
            test result: FAILED. 40 passed; 2 failed; 0 ignored; 0 measured; 3 filtered out; finished in 12.30s\r\n\
            test result: ok\n\
            test result: ok. many passed; 0 failed\n";
        let counts = Counts::of(output);
        assert_eq!(counts, Counts { n_passed: 42, n_failed: 2, n_ignored: 1 });
        assert_eq!(counts.to_string(), "42 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn a_run_without_closing_lines_counts_nothing() {
        assert_eq!(Counts::of("error: could not compile `adapter-engine`\n").to_string(), "0 passed, 0 failed");
    }
}
