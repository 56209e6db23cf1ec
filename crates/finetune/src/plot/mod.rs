//! Pictures of a training: the loss over its steps and the gates by layer and head as SVG, and a line for a terminal.
//!
//! The pictures are text without scripts, fonts or links, with a background of their own, so that they read the same on a
//! light and on a dark page. They name what they show for those who cannot see them (`title` and `desc`).

mod gates;
mod loss;
mod sparkline;

pub use gates::gates_svg;
pub use loss::{LossPoint, loss_svg};
pub use sparkline::sparkline;
