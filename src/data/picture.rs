//! Pictures in and out: a PNG or JPEG of a digit becomes what the network was trained on, and
//! grey values become a PNG.
//!
//! MNIST's digits are white ink on black, scaled to fit a box of 20 × 20 and placed in
//! 28 × 28 so that the centre of mass lies in the middle (LeCun et al., 1998). A network
//! trained on them knows nothing else, so [`read_digit`] brings any picture into that
//! frame:
//!
//! 1. colours become luma (Rec. 601), transparent parts the background they lie on, and a picture
//!    that says how it is to be turned (a camera's, in its `eXIf`) is turned;
//! 2. the *background* is the median of the border, and the *ink* is whatever lies farther
//!    from it, darker or lighter, so dark ink on paper and chalk on a board both work;
//! 3. the ink's bounding box is scaled by area averaging, aspect preserved;
//! 4. the result is stretched to full contrast and placed by its centre of mass.

use std::path::Path;

use png::{BitDepth, ColorType};

use crate::error::{Error, Result};
use crate::files::{read_limited, write_whole};

mod pixels;

pub(super) use pixels::Pixels;

/// Longest file that is read.
pub(super) const MAX_FILE_BYTES: u64 = 256 << 20;
/// Ink nearer to the background than this, of 255, is noise.
const MIN_CONTRAST: u8 = 24;

/// Reads a PNG or JPEG of any size, colour type and bit depth as a digit: `height` × `width`
/// grey values, row-major, white ink (255) on black (0), in MNIST's frame.
///
/// A picture that has the size already is taken to be framed already: on a dark background it
/// comes back unchanged, on a light one inverted.
///
/// # Errors
/// [`Error::Setting`] if `height` or `width` is 0 or above 4096; [`Error::Io`] if the file
/// cannot be read; [`Error::File`] if it is neither, is damaged, has more than 64
/// megapixels, or shows nothing.
pub fn read_digit(path: &Path, height: usize, width: usize) -> Result<Vec<u8>> {
    for (name, size) in [("height", height), ("width", width)] {
        if !(1..=4096).contains(&size) {
            return Err(Error::setting(name, size, "1 to 4096 pixels"));
        }
    }
    parse_digit(path, &read_limited(path, MAX_FILE_BYTES)?, height, width)
}

/// [`read_digit`] from the bytes of a file; `path` only appears in messages.
///
/// # Errors
/// As [`read_digit`].
pub fn parse_digit(path: &Path, bytes: &[u8], height: usize, width: usize) -> Result<Vec<u8>> {
    let picture = decode(path, bytes)?;
    let ink = picture.ink().map_err(|contrast| {
        Error::file(
            path,
            format!("an empty picture (its contrast is {contrast} of 255)"),
            format!("a digit that stands out from its background by at least {MIN_CONTRAST}"),
            "Use a picture with more contrast.",
        )
    })?;
    if (picture.height, picture.width) == (height, width) {
        return Ok(match ink.lighter {
            true => picture.luma,
            false => picture.luma.iter().map(|v| 255 - v).collect(),
        });
    }
    Ok(frame(&picture, &ink, height, width))
}

/// Writes `pixels`, `height` × `width` grey values in row-major order, as a PNG; whole or
/// not at all.
///
/// # Errors
/// Those of [`png_grey`] and of [`write_whole`].
pub fn write_png_grey(path: &Path, height: usize, width: usize, pixels: &[u8]) -> Result<()> {
    write_whole(path, &png_grey(height, width, pixels)?)
}

/// The bytes of a PNG of `pixels`, `height` × `width` grey values in row-major order.
///
/// # Errors
/// [`Error::Shape`] if a size is 0 or beyond what a PNG can hold, or if there are not
/// `height` · `width` pixels.
pub fn png_grey(height: usize, width: usize, pixels: &[u8]) -> Result<Vec<u8>> {
    let wrong = |wanted: &str| {
        Error::shape(
            "picture",
            format!("{} values for {height} × {width}", pixels.len()),
            wanted,
        )
    };
    if height.checked_mul(width) != Some(pixels.len()) {
        return Err(wrong("height · width values"));
    }
    let side = |n: usize| u32::try_from(n).ok().filter(|n| (1..1 << 31).contains(n));
    let (Some(h), Some(w)) = (side(height), side(width)) else {
        return Err(wrong("sizes from 1 to 2³¹ − 1"));
    };
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, w, h);
    encoder.set_color(ColorType::Grayscale);
    encoder.set_depth(BitDepth::Eight);
    encoder
        .write_header()
        .and_then(|mut writer| {
            writer.write_image_data(pixels)?;
            writer.finish()
        })
        .map_err(|e| wrong(&format!("a picture that can be encoded ({e})")))?;
    Ok(bytes)
}

/// A decoded picture.
struct Picture {
    height: usize,
    width: usize,
    /// `height` · `width` values, row-major.
    luma: Vec<u8>,
}

/// Which values of a picture are ink.
struct Ink {
    /// Whether the ink is lighter than the background.
    lighter: bool,
    /// The median of the border.
    background: u8,
    /// Distance from the background at which ink begins, above the noise of the border.
    begins: u8,
    /// Distance from the background of the strongest ink.
    full: u8,
}

impl Ink {
    /// How much ink a value is, from 0 to 1.
    fn amount(&self, value: u8) -> f32 {
        let distance = match self.lighter {
            true => value.saturating_sub(self.background),
            false => self.background.saturating_sub(value),
        };
        f32::from(distance.saturating_sub(self.begins)) / f32::from(self.full - self.begins)
    }
}

impl Picture {
    /// Background and ink; if nothing stands out, by how much the farthest value does.
    fn ink(&self) -> Result<Ink, u8> {
        let border = || border(self.height, self.width).map(|i| self.luma[i]);
        let background = median(border());
        // Three times the median deviation: paper that was photographed is never one grey.
        let noise = median(border().map(|v| v.abs_diff(background))).saturating_mul(3);
        let (low, high) = self
            .luma
            .iter()
            .fold((255, 0), |(low, high), &v| (v.min(low), v.max(high)));
        let (above, below) = (
            high.saturating_sub(background),
            background.saturating_sub(low),
        );
        let lighter = above > below || (above == below && background < 128);
        let full = if lighter { above } else { below };
        if u16::from(full) < u16::from(MIN_CONTRAST) + u16::from(noise) {
            return Err(full);
        }
        Ok(Ink {
            lighter,
            background,
            begins: noise,
            full,
        })
    }
}

/// Indices of the outermost pixels, each once for its row or column.
fn border(height: usize, width: usize) -> impl Iterator<Item = usize> {
    let last = (height - 1) * width;
    let rows = (0..width).flat_map(move |x| [x, last + x]);
    let columns = (0..height).flat_map(move |y| [y * width, y * width + width - 1]);
    rows.chain(columns)
}

/// The lower median, by counting.
fn median(values: impl Iterator<Item = u8>) -> u8 {
    let mut counts = [0usize; 256];
    let mut total = 0;
    for value in values {
        counts[usize::from(value)] += 1;
        total += 1;
    }
    let mut below = 0;
    for (value, count) in (0..=255).zip(counts) {
        below += count;
        if below * 2 >= total {
            return value;
        }
    }
    255
}

/// A picture's luma, its transparent parts as their background.
fn decode(path: &Path, bytes: &[u8]) -> Result<Picture> {
    let pixels = Pixels::decode(path, bytes)?;
    let (height, width) = (pixels.height, pixels.width);
    let mut luma = pixels.grey();
    if let Some(alpha) = pixels.alpha() {
        lay_on_ground(&mut luma, &alpha, height, width);
    }
    Ok(Picture {
        height,
        width,
        luma,
    })
}

/// Mixes transparent pixels with the background behind them. A file does not say what that
/// is. Where the border is mostly opaque, it is the background and goes on behind the rest
/// (rounded corners). Otherwise the ink floats on nothing, and the background is whichever of
/// black and white the ink stands out from.
fn lay_on_ground(luma: &mut [u8], alpha: &[u8], height: usize, width: usize) {
    let opaque = |i: &usize| alpha[*i] >= 128;
    let count = border(height, width).count();
    let background = if border(height, width).filter(opaque).count() * 2 >= count {
        median(border(height, width).filter(opaque).map(|i| luma[i]))
    } else {
        let (sum, weight) = luma
            .iter()
            .zip(alpha)
            .fold((0u64, 0u64), |(s, w), (&v, &a)| {
                (s + u64::from(v) * u64::from(a), w + u64::from(a))
            });
        if sum < 128 * weight { 255 } else { 0 }
    };
    for (value, &a) in luma.iter_mut().zip(alpha) {
        let a = u32::from(a);
        *value = ((u32::from(*value) * a + u32::from(background) * (255 - a) + 127) / 255) as u8;
    }
}

/// Scales the ink into a box of 20/28 of the target and centres it by mass.
fn frame(picture: &Picture, ink: &Ink, height: usize, width: usize) -> Vec<u8> {
    // The box is where the ink is at least an eighth: a faint halo does not widen it.
    let (mut top, mut bottom, mut left, mut right) = (picture.height, 0, picture.width, 0);
    for (y, row) in picture.luma.chunks_exact(picture.width).enumerate() {
        for (x, &value) in row.iter().enumerate() {
            if ink.amount(value) >= 0.125 {
                (top, bottom) = (top.min(y), bottom.max(y + 1));
                (left, right) = (left.min(x), right.max(x + 1));
            }
        }
    }
    let (tall, wide) = ((bottom - top) as f64, (right - left) as f64);
    let inner = |size: usize| (size as f64 * 20.0 / 28.0).round().max(1.0);
    let scale = (inner(height) / tall).min(inner(width) / wide);
    let fit = |size: f64, limit: usize| ((size * scale).round() as usize).clamp(1, limit);
    let (h, w) = (fit(tall, height), fit(wide, width));

    // Rows first, then columns, since the average over an area is separable.
    let rows = spans(top, bottom, h);
    let columns = spans(left, right, w);
    let mut small = vec![0f32; h * w];
    for (y, row) in rows.iter().enumerate() {
        let mut line = vec![0f32; right - left];
        for &(source, share) in row {
            let begin = source * picture.width;
            for (sum, &v) in line
                .iter_mut()
                .zip(&picture.luma[begin + left..begin + right])
            {
                *sum += share * ink.amount(v);
            }
        }
        for (x, column) in columns.iter().enumerate() {
            small[y * w + x] = column
                .iter()
                .map(|&(s, share)| share * line[s - left])
                .sum();
        }
    }

    let (mut mass, mut at_y, mut at_x, mut peak) = (0f64, 0f64, 0f64, 0f32);
    for (i, &v) in small.iter().enumerate() {
        mass += f64::from(v);
        at_y += f64::from(v) * (i / w) as f64;
        at_x += f64::from(v) * (i % w) as f64;
        peak = peak.max(v);
    }
    // MNIST's middle is pixel 14 of 0 to 27, not the point between 13 and 14: over its
    // training images the centre of mass is (14.00, 14.00), counting from 0.
    let place = |at: f64, small: usize, size: usize| {
        let shift = (size as f64 / 2.0 - at / mass).round().max(0.0) as usize;
        shift.min(size - small)
    };
    let (y0, x0) = (place(at_y, h, height), place(at_x, w, width));
    let mut out = vec![0; height * width];
    for (y, row) in small.chunks_exact(w).enumerate() {
        for (x, v) in row.iter().enumerate() {
            // Averaging thins a fine stroke out; MNIST's strokes reach full white.
            out[(y0 + y) * width + x0 + x] = (v / peak * 255.0).round() as u8;
        }
    }
    out
}

/// For each of `count` equal parts of `begin..end`, the whole indices it covers and their
/// shares of it, which sum to 1.
pub(super) fn spans(begin: usize, end: usize, count: usize) -> Vec<Vec<(usize, f32)>> {
    let step = (end - begin) as f64 / count as f64;
    (0..count)
        .map(|i| {
            let (from, to) = (i as f64 * step, (i + 1) as f64 * step);
            (from as usize..(to.ceil() as usize).min(end - begin))
                .map(|s| {
                    let overlap = to.min((s + 1) as f64) - from.max(s as f64);
                    (begin + s, (overlap.max(0.0) / step) as f32)
                })
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests;
