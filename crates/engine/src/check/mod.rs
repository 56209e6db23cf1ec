//! What is found out about a GPU before it is relied on: whether its kernels compute right, and which tile shapes are the
//! fastest there.

mod bench;
mod encoders;
mod forward;
mod gradients;
pub mod inputs;
pub mod self_test;
pub mod tuning;
