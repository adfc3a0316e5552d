//! A drawing backend of pixels, with text from a font inside the program.
//!
//! plotters' own bitmap backend draws text only through system fonts or through a font
//! registered for the whole process, which then also decides how its SVG is laid out.
//! Rendering the SVG through another crate would add some megabytes to a program of ten.
//! A backend needs only to set a pixel; this one draws letters itself from a subset of
//! DejaVu Sans (37 kB, licence beside it), so it looks the same on every machine.

use std::convert::Infallible;
use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, GlyphId, PxScale, ScaleFont, point};
use plotters_backend::{
    BackendColor, BackendCoord, BackendTextStyle, DrawingBackend, DrawingErrorKind,
    text_anchor::{HPos, VPos},
};
use png::{BitDepth, ColorType};

use super::style::BACKGROUND;
use crate::error::{Error, Result};

static FONT: LazyLock<Option<FontRef>> = LazyLock::new(|| {
    let bytes: &[u8] = include_bytes!("font/DejaVuSans-subset.ttf");
    FontRef::try_from_slice(bytes).ok()
});

/// plotters gives the height of a line; this is what its SVG backend takes it for in ems.
pub(super) const LINE: f64 = 1.24;

/// Pixels to draw on, red, green and blue.
pub(super) struct Bitmap {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

impl Bitmap {
    pub fn new(width: u32, height: u32) -> Self {
        let background = [BACKGROUND.0, BACKGROUND.1, BACKGROUND.2];
        Self {
            width,
            height,
            rgb: background.repeat(width as usize * height as usize),
        }
    }

    /// The bytes of a PNG, each pixel the mean of `by` × `by` of those that were drawn.
    ///
    /// # Errors
    /// [`Error::Setting`] if nothing is left or the encoder refuses.
    pub fn png(&self, by: u32) -> Result<Vec<u8>> {
        let (width, height) = (self.width / by, self.height / by);
        let mut rgb = Vec::with_capacity(width as usize * height as usize * 3);
        for y in 0..height {
            for x in 0..width {
                for channel in 0..3 {
                    let cells =
                        (0..by).flat_map(|j| (0..by).map(move |i| (x * by + i, y * by + j)));
                    let sum: u32 = cells
                        .map(|at| u32::from(self.rgb[self.at(at) + channel]))
                        .sum();
                    rgb.push(((sum + by * by / 2) / (by * by)) as u8);
                }
            }
        }
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(ColorType::Rgb);
        encoder.set_depth(BitDepth::Eight);
        encoder
            .write_header()
            .and_then(|mut writer| {
                writer.write_image_data(&rgb)?;
                writer.finish()
            })
            .map_err(|e| Error::setting("picture", e, "a size that a PNG can hold"))?;
        Ok(bytes)
    }

    fn at(&self, (x, y): (u32, u32)) -> usize {
        (y as usize * self.width as usize + x as usize) * 3
    }

    fn blend(&mut self, (x, y): BackendCoord, colour: BackendColor, cover: f64) {
        let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else {
            return;
        };
        if x >= self.width || y >= self.height {
            return;
        }
        let at = self.at((x, y));
        let share = (colour.alpha * cover).clamp(0.0, 1.0);
        let (r, g, b) = colour.rgb;
        for (pixel, ink) in self.rgb[at..at + 3].iter_mut().zip([r, g, b]) {
            let mixed = f64::from(*pixel) * (1.0 - share) + f64::from(ink) * share;
            *pixel = mixed.round() as u8;
        }
    }
}

/// Letters one after another: each with the place it begins at, and where the last ends, in
/// pixels of a font with `em` pixels to the em.
fn set(words: &str, em: f64) -> (Vec<(GlyphId, f32)>, f32, PxScale) {
    let Some(font) = FONT.as_ref() else {
        return (Vec::new(), 0.0, PxScale::from(1.0));
    };
    // A scale of ab_glyph counts from the lowest descender to the highest ascender.
    let units = font.units_per_em().unwrap_or(1000.0);
    let scale = PxScale::from(em as f32 * font.height_unscaled() / units);
    let scaled = font.as_scaled(scale);
    let mut x = 0.0;
    let letters = words.chars().map(|c| {
        let (glyph, begin) = (font.glyph_id(c), x);
        x += scaled.h_advance(glyph);
        (glyph, begin)
    });
    let letters = letters.collect();
    (letters, x, scale)
}

/// How wide words are in a font of this size in pixels to the em. Other readers' fonts are
/// seldom wider than DejaVu Sans, so an SVG can be laid out with it.
pub(super) fn text_width(words: &str, em: f64) -> f64 {
    f64::from(set(words, em).1)
}

type Drawn = std::result::Result<(), DrawingErrorKind<Infallible>>;

impl DrawingBackend for &mut Bitmap {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, at: BackendCoord, colour: BackendColor) -> Drawn {
        self.blend(at, colour, 1.0);
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(
        &mut self,
        words: &str,
        style: &S,
        at: BackendCoord,
    ) -> Drawn {
        let em = style.size() / LINE;
        let (letters, width, scale) = set(words, em);
        let Some(font) = FONT.as_ref() else {
            return Ok(());
        };
        let left = match style.anchor().h_pos {
            HPos::Left => 0.0,
            HPos::Center => -width / 2.0,
            HPos::Right => -width,
        };
        // Where the SVG backend puts the baseline; half an x-height is 0.27 em here.
        let down = em as f32
            * match style.anchor().v_pos {
                VPos::Top => 0.76,
                VPos::Center => 0.27,
                VPos::Bottom => -0.27,
            };
        let (colour, turn) = (style.color(), style.transform());
        for (glyph, begin) in letters {
            let glyph = glyph.with_scale_and_position(scale, point(left + begin, down));
            let Some(outline) = font.outline_glyph(glyph) else {
                continue; // a space
            };
            let corner = outline.px_bounds().min;
            outline.draw(|x, y, cover| {
                let (x, y) = (corner.x as i32 + x as i32, corner.y as i32 + y as i32);
                let (x, y) = turn.transform(x, y);
                self.blend((at.0 + x, at.1 + y), colour, f64::from(cover));
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use plotters::prelude::*;
    use plotters::style::text_anchor::Pos;

    use super::*;

    /// Columns and rows that hold ink, first and last.
    fn inked(words: &str, pos: Pos, turn: FontTransform) -> [u32; 4] {
        let mut bitmap = Bitmap::new(200, 200);
        let style = ("sans-serif", 40)
            .into_font()
            .transform(turn)
            .color(&BLACK)
            .pos(pos);
        (&mut bitmap).draw_text(words, &style, (100, 100)).unwrap();
        let dark = |x: u32, y: u32| bitmap.rgb[bitmap.at((x, y))] < 128;
        let points = (0..200).flat_map(|y| (0..200).map(move |x| (x, y)));
        points
            .filter(|&(x, y)| dark(x, y))
            .fold([u32::MAX, 0, u32::MAX, 0], |[l, r, t, b], (x, y)| {
                [l.min(x), r.max(x), t.min(y), b.max(y)]
            })
    }

    #[test]
    fn text_stands_where_its_anchor_says() {
        let at = |h, v| inked("HHH", Pos::new(h, v), FontTransform::None);
        let [l, r, t, b] = at(HPos::Left, VPos::Top);
        assert!(
            l >= 100 && r > 160 && t >= 100 && b < 126,
            "{l} {r} {t} {b}"
        );
        let [l, r, t, b] = at(HPos::Right, VPos::Bottom);
        assert!(l < 40 && r < 100 && t > 65 && b < 100, "{l} {r} {t} {b}");
        let [l, r, t, b] = at(HPos::Center, VPos::Center);
        assert!(
            l.abs_diff(200 - r) <= 3 && t < 100 && b > 100,
            "{l} {r} {t} {b}"
        );
        let turned = inked(
            "HHH",
            Pos::new(HPos::Left, VPos::Top),
            FontTransform::Rotate270,
        );
        assert!(
            turned[0] >= 100 && turned[2] < 45 && turned[3] <= 100,
            "{turned:?}"
        );
    }

    #[test]
    fn the_font_has_what_plots_need() {
        let font = FONT.as_ref().unwrap();
        for c in ('!'..='~').chain("±×·−…–ημλσδΔ∂‖²³⁻⁰⁹ₗ₁∑≤≥≈→äéñ".chars())
        {
            assert!(font.glyph_id(c).0 != 0 || c == 'ₗ', "{c}");
        }
        assert!(text_width("WW", 10.0) > 2.0 * text_width("ii", 10.0));
    }

    #[test]
    fn ink_outside_is_cut_off_and_means_are_taken() {
        let mut bitmap = Bitmap::new(4, 2);
        let black = BackendColor {
            alpha: 1.0,
            rgb: (0, 0, 0),
        };
        for at in [
            (-1, 0),
            (4, 0),
            (0, 2),
            (i32::MIN, i32::MAX),
            (0, 0),
            (1, 1),
        ] {
            (&mut bitmap).draw_pixel(at, black).unwrap();
        }
        let bytes = bitmap.png(2).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes))
            .read_info()
            .unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        assert_eq!(pixels, [126, 126, 124, 252, 251, 248]);
        assert!(Bitmap::new(1, 1).png(2).is_err());
    }
}
