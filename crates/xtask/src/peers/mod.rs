//! Other programs to measure ourselves against. None is compiled here; what is fetched lies in the cache folder under
//! `peers/`, and each is driven by a script in `bench/peers/`.

mod driven;
pub mod llama_cpp;
pub mod npm;
pub mod python;

pub use driven::Driven;
