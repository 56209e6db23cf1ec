//! The window by its accessible names, with the real engine on a tiny model: what can be found here can be found by a screen
//! reader, too.

mod adapters;
mod faults;
mod fetching;
mod frames;
mod links;
mod looks;
mod narrow;
mod support;
mod talking;
mod teaching;
