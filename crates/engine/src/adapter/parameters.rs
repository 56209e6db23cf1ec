//! What trains, as numbers with names: one flat vector, and a table of what lies where in it.

use std::ops::Range;

/// A tensor inside the flat vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name in files.
    pub name: &'static str,
    /// What its gradient is called in messages: `gradient of the prompts`.
    pub gradient: &'static str,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// Numbers before it.
    pub offset: usize,
}

impl Parameter {
    /// How many numbers it has.
    pub fn n_numbers(&self) -> usize {
        self.shape.iter().product()
    }

    /// Where they lie in the flat vector.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.n_numbers()
    }
}

/// The named parameters of an adapter, one after the other without gaps. Optimizer, clipping, checkpoints and snapshots know no
/// more of a method than this.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParameterTable {
    parameters: Vec<Parameter>,
}

impl ParameterTable {
    /// Adds a parameter behind the others: its name, what its gradient is called, and its shape.
    #[must_use]
    pub fn with(mut self, name: &'static str, gradient: &'static str, shape: &[usize]) -> Self {
        let offset = self.n_numbers();
        self.parameters.push(Parameter { name, gradient, shape: shape.to_vec(), offset });
        self
    }

    /// Numbers in all.
    pub fn n_numbers(&self) -> usize {
        self.parameters.last().map_or(0, |last| last.range().end)
    }

    /// The parameters, in their order in the vector.
    pub fn iter(&self) -> std::slice::Iter<'_, Parameter> {
        self.parameters.iter()
    }

    /// The parameter of that name.
    pub fn find(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| parameter.name == name)
    }

    /// The numbers of one parameter in a vector of this table; empty where the vector ends before it, or there is no such name.
    pub fn part<'a, T>(&self, name: &str, numbers: &'a [T]) -> &'a [T] {
        self.find(name).and_then(|parameter| numbers.get(parameter.range())).unwrap_or_default()
    }
}

impl<'a> IntoIterator for &'a ParameterTable {
    type Item = &'a Parameter;
    type IntoIter = std::slice::Iter<'a, Parameter>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::ParameterTable;

    #[test]
    fn parameters_lie_one_after_the_other() {
        let table = ParameterTable::default().with("a", "", &[2, 3]).with("b", "", &[4]).with("c", "", &[1, 1]);
        assert_eq!(table.iter().map(super::Parameter::range).collect::<Vec<_>>(), [0..6, 6..10, 10..11]);
        let numbers: Vec<u32> = (0..11).collect();
        assert_eq!(table.n_numbers(), 11);
        assert_eq!((table.part("b", &numbers), table.part("c", &numbers)), (&[6, 7, 8, 9][..], &[10][..]));
        assert_eq!((table.part("d", &numbers), table.part("c", &numbers[..10])), (&[][..], &[][..]));
    }
}
