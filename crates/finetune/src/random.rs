//! Random numbers that are the same on every machine.

use crate::data::mix;

/// Standard normal numbers (Box and Muller 1958), made from a seed and a counter.
#[derive(Debug, Clone)]
pub struct Normal {
    seed: u64,
    counter: u64,
    spare: Option<f64>,
}

impl Normal {
    /// Another seed gives other numbers.
    pub fn new(seed: u64) -> Self {
        Self { seed: mix(seed), counter: 0, spare: None }
    }

    /// Uniform in (0, 1].
    fn uniform(&mut self) -> f64 {
        self.counter += 1;
        ((mix(self.seed ^ self.counter) >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// The next number.
    pub fn next(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let (radius, angle) = ((-2.0 * self.uniform().ln()).sqrt(), std::f64::consts::TAU * self.uniform());
        self.spare = Some(radius * angle.sin());
        radius * angle.cos()
    }
}

#[cfg(test)]
mod tests {
    use super::Normal;

    #[test]
    fn moments_of_the_standard_normal_distribution() {
        let mut normal = Normal::new(7);
        let n = 100_000;
        let values: Vec<f64> = (0..n).map(|_| normal.next()).collect();
        let moment = |power: i32| values.iter().map(|value| value.powi(power)).sum::<f64>() / f64::from(n);
        // Four standard errors each: sqrt(Var(x^p) / n).
        assert!(moment(1).abs() < 4.0 / f64::from(n).sqrt(), "{}", moment(1));
        assert!((moment(2) - 1.0).abs() < 4.0 * (2.0 / f64::from(n)).sqrt(), "{}", moment(2));
        assert!((moment(4) - 3.0).abs() < 4.0 * (96.0 / f64::from(n)).sqrt(), "{}", moment(4));
        assert_ne!(Normal::new(8).next(), Normal::new(7).next());
    }
}
