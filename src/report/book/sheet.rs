//! The tiles of a [`Picture`] side by side as one PNG.

use super::super::record::Picture;
use crate::data::picture::png_grey;
use crate::error::{Error, Result};

/// Grey of the lines between tiles: neither ink nor background.
const LINE: u8 = 128;
/// A tile is enlarged by a whole number until it has about this many pixels a side.
const SIDE: usize = 84;
/// Most pixels of a sheet.
const MOST_PIXELS: usize = 64 << 20;

/// Height and width of a sheet, tiles in a row, and how much each is enlarged.
#[derive(Debug, PartialEq)]
pub(super) struct Sheet {
    pub height: usize,
    pub width: usize,
    pub columns: usize,
    pub scale: usize,
}

impl Sheet {
    /// # Errors
    /// [`Error::Shape`] if there are no tiles, a size is 0 or the sheet would be too large.
    pub fn of(picture: &Picture) -> Result<Self> {
        let count = picture.tiles.len();
        let wrong = |wanted: &str| {
            Error::shape(
                place(picture),
                format!("{count} tiles of {} × {}", picture.height, picture.width),
                wanted,
            )
        };
        if count == 0 || picture.height == 0 || picture.width == 0 {
            return Err(wrong("at least one tile, of at least 1 × 1"));
        }
        let scale = (SIDE / picture.height.max(picture.width)).max(1);
        let columns = columns(count);
        let along = |tiles: usize, size: usize| {
            size.checked_mul(scale)?
                .checked_add(scale.min(4))?
                .checked_mul(tiles)?
                .checked_add(scale.min(4))
        };
        let height = along(count.div_ceil(columns), picture.height);
        let width = along(columns, picture.width);
        match (height, width) {
            (Some(height), Some(width))
                if height.checked_mul(width).is_some_and(|n| n <= MOST_PIXELS) =>
            {
                Ok(Self {
                    height,
                    width,
                    columns,
                    scale,
                })
            }
            _ => Err(wrong("a sheet of at most 64 million pixels")),
        }
    }
}

/// Tiles in a row: few places stay empty, and the sheet is about twice as wide as high.
fn columns(count: usize) -> usize {
    let side = (count as f64).sqrt();
    let wished = side * std::f64::consts::SQRT_2;
    let far = |c: usize| (c as f64 - wished).abs();
    let near = side.ceil() as usize..=(2.0 * side).ceil() as usize;
    near.min_by(|a, b| {
        let empty = |c: usize| count.next_multiple_of(c) - count;
        empty(*a).cmp(&empty(*b)).then(far(*a).total_cmp(&far(*b)))
    })
    .map_or(1, |c| c.min(count))
}

/// How errors name a picture.
fn place(picture: &Picture) -> String {
    let title: String = picture.title.chars().take(60).collect();
    format!("picture `{title}`")
}

/// The bytes of one tile as a PNG, pixel for pixel.
///
/// # Errors
/// [`Error::Shape`] if it does not have height · width pixels.
pub(super) fn tile_png(picture: &Picture, index: usize) -> Result<Vec<u8>> {
    let pixels = &picture.tiles[index].pixels;
    png_grey(picture.height, picture.width, pixels)
        .map_err(|e| e.within(&format!("{}, tile {index}", place(picture))))
}

/// All tiles of a picture on one sheet, row by row, as the bytes of a PNG. Small tiles are
/// enlarged without smoothing. Labels are not drawn: a page has them as text.
///
/// # Errors
/// [`Error::Shape`] if there are no tiles, if a tile does not have height · width pixels or
/// if the sheet would be too large.
pub fn picture_png(picture: &Picture) -> Result<Vec<u8>> {
    let sheet = Sheet::of(picture)?;
    let (h, w, scale) = (picture.height, picture.width, sheet.scale);
    let gap = scale.min(4);
    let mut pixels = vec![LINE; sheet.height * sheet.width];
    for (i, tile) in picture.tiles.iter().enumerate() {
        if tile.pixels.len() != h * w {
            return Err(Error::shape(
                format!("{}, tile {i}", place(picture)),
                format!("{} values", tile.pixels.len()),
                format!("{h} × {w}"),
            ));
        }
        let top = gap + (i / sheet.columns) * (h * scale + gap);
        let left = gap + (i % sheet.columns) * (w * scale + gap);
        for y in 0..h * scale {
            let row = &mut pixels[(top + y) * sheet.width + left..][..w * scale];
            for (x, pixel) in row.iter_mut().enumerate() {
                *pixel = tile.pixels[y / scale * w + x / scale];
            }
        }
    }
    png_grey(sheet.height, sheet.width, &pixels)
}
