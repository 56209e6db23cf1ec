//! Pictures as text: SVG without scripts, fonts or links, with a background of its own, so that it reads the same on a light
//! and on a dark page. Every picture names what it shows for those who cannot see it (`title` and `desc`).

pub mod axis;
pub mod chart;
pub mod svg;

pub use chart::{Chart, Series};
