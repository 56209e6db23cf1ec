//! The parts of the model, written as the paper draws them.

pub mod block;
