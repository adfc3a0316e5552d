//! The pixels of PNG and JPEG files.
//!
//! The crate `image` would do both, by `png` and `zune-jpeg` under its own types; reports write PNG by
//! `png` anyway, so both are used as they are.

use std::io::Cursor;
use std::path::Path;

use png::Transformations;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::error::{Error, Result};

/// Most pixels of a picture that is read; checked before its memory is asked for.
const MAX_PIXELS: u64 = 64_000_000;

/// A decoded picture, turned as it is to be seen.
pub(in crate::data) struct Pixels {
    pub height: usize,
    pub width: usize,
    /// Samples of a pixel: grey, grey and alpha, RGB, RGB and alpha.
    samples: usize,
    /// `[H, W, samples]`.
    values: Vec<u8>,
}

fn wrong(path: &Path, found: String) -> Error {
    Error::file(
        path,
        found,
        "a whole PNG or JPEG picture of at most 64 megapixels",
        "Convert or save the picture again.",
    )
}

impl Pixels {
    /// The pixels of a file's bytes; the path is for messages.
    pub fn decode(path: &Path, bytes: &[u8]) -> Result<Self> {
        let (pixels, exif) = match bytes {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => png(path, bytes)?,
            [0xff, 0xd8, 0xff, ..] => jpeg(path, bytes)?,
            _ => {
                let kind = match bytes {
                    [] => "an empty file",
                    [b'G', b'I', b'F', b'8', ..] => "a GIF picture",
                    [b'B', b'M', ..] => "a BMP picture",
                    [b'R', b'I', b'F', b'F', ..] => "a WebP picture",
                    _ => "a file that does not begin like a PNG or JPEG",
                };
                return Err(wrong(path, kind.into()));
            }
        };
        Ok(match orientation(&exif) {
            Some(value) => pixels.turned(value),
            None => pixels,
        })
    }

    /// Whether it has colours.
    pub fn has_colour(&self) -> bool {
        self.samples > 2
    }

    /// Grey values `[H, W]`, of colours their luma (Rec. 601); alpha is left out.
    pub fn grey(&self) -> Vec<u8> {
        let luma = |p: &[u8]| match *p {
            [r, g, b, ..] => {
                let sum = 299 * u32::from(r) + 587 * u32::from(g) + 114 * u32::from(b);
                ((sum + 500) / 1000) as u8
            }
            [v, ..] => v,
            [] => 0,
        };
        self.values.chunks_exact(self.samples).map(luma).collect()
    }

    /// One of the colours red, green and blue, `[H, W]`; alpha is left out.
    pub fn colour(&self, channel: usize) -> Vec<u8> {
        let at = if self.has_colour() { channel } else { 0 };
        let pixels = self.values.chunks_exact(self.samples);
        pixels.map(|pixel| pixel[at]).collect()
    }

    /// How opaque each pixel is, `[H, W]`, where the file says it.
    pub fn alpha(&self) -> Option<Vec<u8>> {
        let pixels = self.values.chunks_exact(self.samples);
        let has = self.samples.is_multiple_of(2);
        has.then(|| pixels.map(|p| p[self.samples - 1]).collect())
    }

    /// The picture as it is to be seen, given its orientation.
    fn turned(self, orientation: u16) -> Self {
        let (h, w) = (self.height, self.width);
        // From 5 on, rows become columns.
        let (height, width) = if orientation < 5 { (h, w) } else { (w, h) };
        let from = |y: usize, x: usize| match orientation {
            2 => (y, w - 1 - x),
            3 => (h - 1 - y, w - 1 - x),
            4 => (h - 1 - y, x),
            5 => (x, y),
            6 => (h - 1 - x, y),
            7 => (h - 1 - x, w - 1 - y),
            8 => (x, w - 1 - y),
            _ => (y, x),
        };
        let places = (0..height).flat_map(|y| (0..width).map(move |x| from(y, x)));
        let pixel = |(y, x)| &self.values[(y * w + x) * self.samples..][..self.samples];
        let values = places.flat_map(pixel).copied().collect();
        Self {
            height,
            width,
            samples: self.samples,
            values,
        }
    }
}

/// Refuses sizes before memory is asked for.
fn bounded(path: &Path, bytes: &[u8], height: u64, width: u64) -> Result<()> {
    if height * width > MAX_PIXELS {
        return Err(wrong(
            path,
            format!("a picture of {height} × {width} pixels"),
        ));
    }
    // One bit a pixel at least, and deflate packs 1032 bytes into one at most. A bit of a JPEG is 64
    // pixels at most, so it stays below.
    let most = (bytes.len() as u64).saturating_mul(8 * 1032);
    if height * width > most {
        let found = format!("{} bytes that claim {height} × {width} pixels", bytes.len());
        return Err(wrong(path, found));
    }
    Ok(())
}

/// The pixels of a PNG, and its Exif data.
fn png(path: &Path, bytes: &[u8]) -> Result<(Pixels, Vec<u8>)> {
    let damaged = |e: png::DecodingError| wrong(path, format!("a damaged PNG ({e})"));
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    let header = decoder.read_header_info().map_err(damaged)?;
    let (width, height) = (header.width, header.height);
    bounded(path, bytes, height.into(), width.into())?;
    let mut reader = decoder.read_info().map_err(damaged)?;
    let (height, width) = (height as usize, width as usize);
    let samples = reader.output_color_type().0.samples();
    let mut values = vec![0; reader.output_buffer_size().unwrap_or(0)];
    reader.next_frame(&mut values).map_err(damaged)?;
    let pixels = whole(path, height, width, samples, values)?;
    // What follows the pixels may be missing or damaged: it is not needed.
    let _ = reader.finish();
    let exif = reader.info().exif_metadata.as_deref().unwrap_or_default();
    Ok((pixels, exif.to_vec()))
}

/// The pixels of a JPEG, and its Exif data.
fn jpeg(path: &Path, bytes: &[u8]) -> Result<(Pixels, Vec<u8>)> {
    let damaged = |e: &dyn std::fmt::Display| wrong(path, format!("a damaged JPEG ({e})"));
    // Strict: a picture that ends early would be grey from there on, in silence.
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(1 << 16)
        .set_max_height(1 << 16);
    let mut header = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    header.decode_headers().map_err(|e| damaged(&e))?;
    let info = header.info().ok_or_else(|| damaged(&"no header"))?;
    bounded(path, bytes, info.height.into(), info.width.into())?;
    let (wanted, samples) = match header.input_colorspace() {
        Some(ColorSpace::Luma) => (ColorSpace::Luma, 1),
        _ => (ColorSpace::RGB, 3),
    };
    let options = options.jpeg_set_out_colorspace(wanted);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let values = decoder.decode().map_err(|e| damaged(&e))?;
    let (height, width) = (info.height.into(), info.width.into());
    let pixels = whole(path, height, width, samples, values)?;
    Ok((pixels, decoder.exif().cloned().unwrap_or_default()))
}

/// Holds values to the size that a file claims.
fn whole(
    path: &Path,
    height: usize,
    width: usize,
    samples: usize,
    values: Vec<u8>,
) -> Result<Pixels> {
    if values.len() != height * width * samples || values.is_empty() {
        let found = format!(
            "{} values for {height} × {width} pixels of {samples}",
            values.len()
        );
        return Err(wrong(path, found));
    }
    Ok(Pixels {
        height,
        width,
        samples,
        values,
    })
}

/// The orientation of a picture by its Exif data, if they tell one that is not the usual: 2 to
/// 8 (CIPA DC-008, 4.6.5).
fn orientation(exif: &[u8]) -> Option<u16> {
    const TAG: u16 = 0x0112;
    const SHORT: u16 = 3;
    // Some programs leave the head that JPEG files need.
    let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    let little = match tiff.get(..4)? {
        b"II\x2a\0" => true,
        b"MM\0\x2a" => false,
        _ => return None,
    };
    let short = |at: usize| {
        let bytes = *tiff.get(at..)?.first_chunk()?;
        Some(match little {
            true => u16::from_le_bytes(bytes),
            false => u16::from_be_bytes(bytes),
        })
    };
    let bytes = *tiff[4..].first_chunk()?;
    let directory = match little {
        true => u32::from_le_bytes(bytes),
        false => u32::from_be_bytes(bytes),
    } as usize;
    let entries = usize::from(short(directory)?);
    // An entry has twelve bytes: tag, type, a count of four bytes, the value.
    let mut places = (0..entries).map(|k| directory + 2 + 12 * k);
    let entry = places.find(|&at| short(at) == Some(TAG) && short(at + 2) == Some(SHORT))?;
    short(entry + 8).filter(|value| (2..=8).contains(value))
}
