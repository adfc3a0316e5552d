//! The book's experiments.

pub mod certificate;
