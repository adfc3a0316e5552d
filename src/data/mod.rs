//! Data: labelled images as bytes, and where they come from.
//!
//! A [`Source`] is named by the user (`--data`) or by the environment (`MNIST_DIR`) and
//! loads a [`Split`]: training, validation and test images. There are two sources:
//!
//! - [`idx`]: the four IDX files of MNIST or of any data set in its form, checked from
//!   the first byte to the last before anything is computed;
//! - [`digits`]: digits drawn by strokes, generated from a seed in under a second, so
//!   that everything works with nothing downloaded. They call themselves
//!   "synthetic digits", and [`Split::synthetic`] is true.
//!
//! For models of any wiring there are [`Dataset`]s of named columns: from memory, from a [`Table`], from
//! [`Arrays`] of NumPy or safetensors, from an [`ImageFolder`]. Rows that are more than a device has room for
//! come from a [`DataSource`], in [`Shards`]; [`ArrayFiles`] are one.
//!
//! Pixels stay bytes here; they become numbers when a mini-batch is gathered.
//!
//! ```
//! use wgrad::data::{Source, digits};
//! # fn main() -> wgrad::error::Result<()> {
//! let few = digits::generate(7, digits::Part::Train, 20)?;
//! assert_eq!((few.len(), few.image(3).len()), (20, 28 * 28));
//! let source = Source::resolve(Some("synthetic"))?;
//! assert!(matches!(source, Source::Synthetic { .. }));
//! # Ok(())
//! # }
//! ```

mod array_files;
mod array_schema;
mod arrays;
mod columns;
pub mod digits;
mod folder;
pub mod idx;
mod images;
mod packed;
pub mod picture;
mod shards;
mod source;
mod strokes;
mod table;

pub use array_files::ArrayFiles;
pub use array_schema::{ArrayColumn, ArraySchema};
pub use arrays::Arrays;
pub use columns::{Column, Dataset, Numbers};
pub(crate) use columns::{SCALE, split_rows, split_rows_of_classes};
pub use folder::{Colour, ImageFolder, PictureSchema, Pictures};
pub use images::{Images, Split};
pub use shards::{DataRef, DataSource, Shards};
pub(crate) use shards::{Order, content, words};
pub use source::{DEFAULT_SEED, Source};
pub use table::{Coded, Coding, Roles, Schema, Table};
