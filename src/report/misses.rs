//! The digits a network misread, as one page that needs nothing else: no network, no
//! script, no second file.
//!
//! The figure follows Nielsen's book: each digit with its true label at the top right and
//! the network's reading at the bottom right.

use std::fmt::Write;

use super::html::{BASE_STYLE, base64, escaped, grouped, html_page};
use crate::data::picture::png_grey;
use crate::error::{Error, Result};

/// Most digits on a page; with more, a phone would struggle and nobody would look.
pub const MOST_SHOWN: usize = 400;

/// An image that was misread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Miss<'a> {
    /// The image's index in its data set.
    pub index: usize,
    /// Grey values, height × width, row-major, white ink on black.
    pub pixels: &'a [u8],
    /// What it is.
    pub label: u8,
    /// What the network read.
    pub prediction: u8,
    /// The probability that the network gave to its reading, from 0 to 1, where it gives
    /// one.
    pub probability: Option<f32>,
}

/// A self-contained HTML page of the misread images, of `height` × `width` pixels each, out
/// of `tested` images. The first [`MOST_SHOWN`] of `misses` are shown, in the order given,
/// and the page says how many that is of how many. All text is escaped.
///
/// # Errors
/// [`Error::Shape`] if an image does not have `height` · `width` pixels;
/// [`Error::Setting`] if there are more misses than tested images.
pub fn misses_html(
    title: &str,
    tested: usize,
    height: usize,
    width: usize,
    misses: &[Miss],
) -> Result<String> {
    if misses.len() > tested {
        return Err(Error::setting(
            "misread images",
            misses.len(),
            format!("at most the {tested} that were tested"),
        ));
    }
    let shown = &misses[..misses.len().min(MOST_SHOWN)];
    let title = escaped(title);
    let mut body = format!(
        "<header>\n<h1>{title}</h1>\n<p>{}</p>\n",
        summary(misses.len(), tested)
    );
    if !shown.is_empty() {
        body += "<p class=\"key\">Top right: what it is. \
                 Bottom right: <span class=\"read\">what the network read</span>";
        if shown.iter().any(|m| m.probability.is_some()) {
            body += ", and how sure it was";
        }
        body += ". In grey: the image's number, counted from 0.</p>\n";
    }
    body += "</header>\n<main class=\"tiles\">\n";
    for miss in shown {
        add_figure(&mut body, height, width, miss)?;
    }
    body += "</main>\n";
    Ok(html_page(&title, &[BASE_STYLE, STYLE], &body))
}

fn summary(missed: usize, tested: usize) -> String {
    let images = |n: usize| if n == 1 { "image" } else { "images" };
    if missed == 0 {
        let count = grouped(tested);
        return format!("None of {count} {} was misread.", images(tested));
    }
    let percent = missed as f64 * 100.0 / tested as f64;
    let mut text = format!(
        "<strong>{} of {} {}</strong> misread ({percent:.2}&nbsp;%).",
        grouped(missed),
        grouped(tested),
        images(tested)
    );
    text += &match missed {
        1 => String::new(),
        2..=MOST_SHOWN => format!(" All {missed} are shown."),
        _ => format!(" The first {MOST_SHOWN} of them are shown."),
    };
    text
}

fn add_figure(page: &mut String, height: usize, width: usize, miss: &Miss) -> Result<()> {
    let png = png_grey(height, width, miss.pixels)
        .map_err(|e| e.within(&format!("misread image {}", miss.index)))?;
    let sure = miss
        .probability
        .filter(|p| p.is_finite())
        .map(|p| format!("{:.0}\u{a0}%", f64::from(p) * 100.0));
    let (index, label, prediction) = (miss.index, miss.label, miss.prediction);
    let with = match &sure {
        Some(sure) => format!(" with {sure} probability"),
        None => String::new(),
    };
    let small = match &sure {
        Some(sure) => format!("<small>{sure}</small>"),
        None => String::new(),
    };
    // The caption repeats the alternative text for the eye, so a screen reader skips it.
    write!(
        page,
        "<figure>\n<img width=\"{width}\" height=\"{height}\" loading=\"lazy\" \
         alt=\"Image {index}: a {label}, read as {prediction}{with}\" \
         src=\"data:image/png;base64,{}\">\n\
         <figcaption aria-hidden=\"true\"><b>{label}</b><span class=\"index\">{index}</span>\
         <span class=\"read\">{small}{prediction}</span></figcaption>\n</figure>\n",
        base64(&png)
    )
    .map_err(|e| Error::setting("page", e, "text"))
}

/// Ink is dark on a light page and light on a dark one, as on paper and on a board.
const STYLE: &str = "\
.tiles figure { background: var(--card); }
.tiles img { filter: invert(var(--invert)); }
.key { color: var(--soft); }
main { margin-top: 1.5rem; }
";

#[cfg(test)]
mod tests {
    use super::*;

    fn miss(index: usize, pixels: &[u8]) -> Miss<'_> {
        Miss {
            index,
            pixels,
            label: 4,
            prediction: 9,
            probability: Some(0.934),
        }
    }

    #[test]
    fn a_page_shows_labels_and_readings_to_everyone() {
        let pixels = [0, 128, 255, 7, 9, 11];
        let page = misses_html("run", 10_000, 2, 3, &[miss(247, &pixels)]).unwrap();
        assert!(page.contains("alt=\"Image 247: a 4, read as 9 with 93\u{a0}% probability\""));
        assert!(page.contains("1 of 10,000 images</strong> misread (0.01&nbsp;%)"));
        assert!(page.contains(&base64(&png_grey(2, 3, &pixels).unwrap())));
        for outside in ["http", "<script", "<link", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        let mut unsure = miss(1, &pixels);
        for probability in [None, Some(f32::NAN)] {
            unsure.probability = probability;
            let page = misses_html("run", 9, 2, 3, &[unsure]).unwrap();
            assert!(page.contains("read as 9\""), "{page}");
        }
    }

    #[test]
    fn text_is_escaped() {
        let page = misses_html("<script>\"&'\u{0}", 5, 1, 1, &[]).unwrap();
        assert!(page.contains("<h1>&lt;script&gt;&quot;&amp;&#39; </h1>"));
        assert!(!page.contains("<script"));
        assert!(page.contains("None of 5 images was misread."));
    }

    #[test]
    fn a_long_list_is_cut_off_and_says_so() {
        let pixels = [9; 4];
        let misses: Vec<_> = (0..1234).map(|i| miss(i, &pixels)).collect();
        let page = misses_html("run", 10_000, 2, 2, &misses).unwrap();
        assert_eq!(page.matches("<figure>").count(), MOST_SHOWN);
        assert!(page.contains("1,234 of 10,000"));
        assert!(page.contains("The first 400 of them are shown."));
        let page = misses_html("run", 10_000, 2, 2, &misses[..400]).unwrap();
        assert!(page.contains("All 400 are shown."));
    }

    #[test]
    fn pixels_that_do_not_fit_name_their_image() {
        let e = misses_html("run", 9, 28, 28, &[miss(31, &[0; 5])]).unwrap_err();
        assert!(matches!(e, Error::Shape { .. }), "{e}");
        assert!(e.to_string().contains("misread image 31"), "{e}");
        let e = misses_html("run", 0, 1, 5, &[miss(31, &[0; 5])]).unwrap_err();
        assert!(matches!(e, Error::Setting { .. }), "{e}");
    }
}
