use std::fs;

use super::*;

/// A digit-like 1 with a foot, `h` × `w`, as coverage from 0 to 255.
fn drawn(h: usize, w: usize) -> Vec<u8> {
    let inside = |y: f64, x: f64| {
        (0.15..0.85).contains(&y) && (0.45..0.55).contains(&x)
            || (0.75..0.85).contains(&y) && (0.3..0.7).contains(&x)
    };
    (0..h * w)
        .map(|i| {
            let (y, x) = ((i / w) as f64 + 0.5, (i % w) as f64 + 0.5);
            255 * u8::from(inside(y / h as f64, x / w as f64))
        })
        .collect()
}

fn read_bytes(bytes: &[u8]) -> Result<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("digit.png");
    fs::write(&path, bytes).unwrap();
    read_digit(&path, 28, 28)
}

fn encoded(
    (h, w): (usize, usize),
    color: ColorType,
    depth: BitDepth,
    palette: &[u8],
    data: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, w as u32, h as u32);
    encoder.set_color(color);
    encoder.set_depth(depth);
    if !palette.is_empty() {
        encoder.set_palette(palette.to_vec());
    }
    encoder
        .write_header()
        .unwrap()
        .write_image_data(data)
        .unwrap();
    bytes
}

/// Values of `bits` bits, packed row by row.
fn packed(values: &[u8], w: usize, bits: usize) -> Vec<u8> {
    let pack = |chunk: &[u8]| {
        (0..8 / bits).fold(0u16, |byte, i| {
            byte << bits | u16::from(*chunk.get(i).unwrap_or(&0))
        }) as u8
    };
    values
        .chunks(w)
        .flat_map(|row| row.chunks(8 / bits).map(pack).collect::<Vec<_>>())
        .collect()
}

fn mass_centre(digit: &[u8]) -> (f64, f64) {
    let sum = |f: &dyn Fn(usize) -> f64| -> f64 {
        digit
            .iter()
            .enumerate()
            .map(|(i, &v)| f(i) * f64::from(v))
            .sum()
    };
    let mass = sum(&|_| 1.0);
    (
        sum(&|i| (i / 28) as f64) / mass,
        sum(&|i| (i % 28) as f64) / mass,
    )
}

#[test]
fn a_digit_is_framed_like_mnist() {
    let digit = read_bytes(&png_grey(90, 120, &drawn(90, 120)).unwrap()).unwrap();
    assert_eq!(digit.len(), 28 * 28);
    assert_eq!(digit.iter().max(), Some(&255));
    let rows: Vec<_> = (0..28)
        .filter(|y| digit[y * 28..y * 28 + 28].iter().any(|&v| v > 0))
        .collect();
    assert_eq!(rows.len(), 20, "{rows:?}");
    let (y, x) = mass_centre(&digit);
    assert!(
        (y - 14.0).abs() <= 0.5 && (x - 14.0).abs() <= 0.5,
        "{y} {x}"
    );
}

#[test]
fn every_kind_of_png_gives_the_same_digit() {
    use ColorType::*;
    let (h, w) = (60, 50);
    let ink = drawn(h, w);
    let want = read_bytes(&png_grey(h, w, &ink).unwrap()).unwrap();
    let dark: Vec<u8> = ink.iter().map(|v| 255 - v).collect();
    let each = |source: &[u8], f: &dyn Fn(u8) -> Vec<u8>| -> Vec<u8> {
        source.iter().flat_map(|&v| f(v)).collect()
    };
    let mut kinds = vec![
        ("grey, dark ink", Grayscale, BitDepth::Eight, dark.clone()),
        (
            "grey 16",
            Grayscale,
            BitDepth::Sixteen,
            each(&ink, &|v| vec![v, v]),
        ),
        ("RGB", Rgb, BitDepth::Eight, each(&dark, &|v| vec![v; 3])),
        (
            "RGB 16",
            Rgb,
            BitDepth::Sixteen,
            each(&ink, &|v| vec![v; 6]),
        ),
        (
            "red on white",
            Rgb,
            BitDepth::Eight,
            each(&dark, &|v| vec![255, v, v]),
        ),
        (
            "yellow on black",
            Rgb,
            BitDepth::Eight,
            each(&ink, &|v| vec![v, v, 0]),
        ),
        (
            "opaque",
            Rgba,
            BitDepth::Eight,
            each(&ink, &|v| vec![v, v, v, 255]),
        ),
        (
            "black on nothing",
            Rgba,
            BitDepth::Eight,
            each(&ink, &|v| vec![0, 0, 0, v]),
        ),
        (
            "white on nothing",
            Rgba,
            BitDepth::Eight,
            each(&ink, &|v| vec![255, 255, 255, v]),
        ),
        (
            "grey on nothing",
            GrayscaleAlpha,
            BitDepth::Eight,
            each(&ink, &|v| vec![90, v]),
        ),
        ("holes are background", GrayscaleAlpha, BitDepth::Eight, {
            let mut data = each(&dark, &|v| vec![v, 255]);
            (data[0], data[1]) = (0, 0);
            data
        }),
        (
            "alpha 16",
            GrayscaleAlpha,
            BitDepth::Sixteen,
            each(&ink, &|v| vec![0, 0, v, v]),
        ),
    ];
    for (bits, depth) in [(1, BitDepth::One), (2, BitDepth::Two), (4, BitDepth::Four)] {
        let top = ((1u16 << bits) - 1) as u8;
        let values: Vec<u8> = ink.iter().map(|v| v & top).collect();
        kinds.push(("packed grey", Grayscale, depth, packed(&values, w, bits)));
    }
    for (name, color, depth, data) in kinds {
        let got = read_bytes(&encoded((h, w), color, depth, &[], &data)).unwrap();
        assert_eq!(got, want, "{name}");
    }
    // Blue ink on light yellow, two entries, one bit each.
    let values: Vec<u8> = ink.iter().map(|v| v & 1).collect();
    let palette = [255, 255, 200, 20, 30, 160];
    let data = packed(&values, w, 1);
    let got = read_bytes(&encoded((h, w), Indexed, BitDepth::One, &palette, &data)).unwrap();
    assert_eq!(got, want, "palette");
}

#[test]
fn a_framed_digit_passes_through() {
    let mut digit = drawn(28, 28);
    digit[3 * 28 + 3] = 77;
    assert_eq!(
        read_bytes(&png_grey(28, 28, &digit).unwrap()).unwrap(),
        digit
    );
    let dark: Vec<u8> = digit.iter().map(|v| 255 - v).collect();
    assert_eq!(
        read_bytes(&png_grey(28, 28, &dark).unwrap()).unwrap(),
        digit
    );
}

#[test]
fn noisy_paper_leaves_a_clean_ground() {
    let (h, w) = (140, 140);
    let paper: Vec<u8> = drawn(h, w)
        .iter()
        .enumerate()
        .map(|(i, v)| 190 + (i * 7919 % 13) as u8 - v / 255 * 140)
        .collect();
    let digit = read_bytes(&png_grey(h, w, &paper).unwrap()).unwrap();
    let clean = read_bytes(&png_grey(h, w, &drawn(h, w)).unwrap()).unwrap();
    for (at, (&got, &want)) in digit.iter().zip(&clean).enumerate() {
        assert!(got.abs_diff(want) <= 40, "pixel {at}: {got}, wanted {want}");
        assert!(got == 0 || want > 0, "pixel {at}: {got} on the background");
    }
}

#[test]
fn odd_pictures_fit_their_frame() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.png");
    for (h, w) in [(1, 40), (40, 1), (3, 3), (2, 500), (28, 29)] {
        let mut pixels = vec![0; h * w];
        pixels[h * w / 2] = 255;
        pixels[h * w - 1] = 200;
        write_png_grey(&path, h, w, &pixels).unwrap();
        for (height, width) in [(28, 28), (1, 1), (5, 90), (64, 64)] {
            let digit = read_digit(&path, height, width).unwrap();
            assert_eq!(digit.len(), height * width);
            assert!(digit.iter().any(|&v| v > 0));
        }
    }
}

#[test]
fn an_empty_picture_is_an_error() {
    for value in [0, 128, 255] {
        let flat = vec![value; 50 * 40];
        let e = read_bytes(&png_grey(50, 40, &flat).unwrap()).unwrap_err();
        assert!(e.to_string().contains("empty picture"), "{e}");
        let e = read_bytes(&png_grey(28, 28, &flat[..784]).unwrap()).unwrap_err();
        assert!(matches!(e, Error::File { .. }), "{e}");
    }
    let nothing = encoded(
        (9, 9),
        ColorType::Rgba,
        BitDepth::Eight,
        &[],
        &[0; 9 * 9 * 4],
    );
    assert!(read_bytes(&nothing).is_err());
    // Noise as strong as the ink: a border of halves that are as far apart as can be.
    let halves: Vec<u8> = (0..64).map(|i| 255 * u8::from(i < 32)).collect();
    let _ = read_bytes(&png_grey(1, 64, &halves).unwrap());
}

#[test]
fn other_files_are_named() {
    for (bytes, found) in [
        (&b"\xff\xd8\xff\xe0abc"[..], "JPEG"),
        (b"GIF89a", "GIF"),
        (b"", "an empty file"),
        (b"BM123", "BMP"),
        (b"RIFF1234WEBP", "WebP"),
        (b"hello", "does not begin like a PNG"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
    ] {
        let e = read_bytes(bytes).unwrap_err();
        assert!(
            matches!(e, Error::File { .. }) && e.to_string().contains(found),
            "{e}"
        );
    }
    let missing = read_digit(Path::new("/nowhere/a.png"), 28, 28);
    assert!(matches!(missing, Err(Error::Io { .. })));
}

#[test]
fn damaged_bytes_never_panic() {
    let good = png_grey(40, 30, &drawn(40, 30)).unwrap();
    let path = Path::new("p.png");
    for at in 8..good.len() {
        for flip in [1, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[at] ^= flip;
            // Some fields do not matter to the pixels; whatever decodes is whole.
            if let Ok(picture) = decode(path, &bytes) {
                assert_eq!(picture.luma.len(), picture.height * picture.width);
            }
        }
        if let Ok(picture) = decode(path, &good[..at]) {
            assert_eq!(picture.luma.len(), picture.height * picture.width);
        }
    }
}

#[test]
fn huge_pictures_are_refused_by_their_header() {
    for (h, w) in [(8001u32, 8000u32), (1 << 30, 1 << 30), (1, 64_000_001)] {
        let mut bytes = Vec::new();
        let _ = png::Encoder::new(&mut bytes, w, h).write_header().unwrap();
        let e = read_bytes(&bytes).unwrap_err().to_string();
        assert!(
            e.contains("64 megapixels") && e.contains(&h.to_string()),
            "{e}"
        );
    }
}

#[test]
fn absurd_sizes_are_settings() {
    for (h, w) in [(0, 28), (28, 0), (4097, 28), (28, usize::MAX)] {
        let e = read_digit(Path::new("any.png"), h, w);
        assert!(matches!(e, Err(Error::Setting { .. })), "{e:?}");
    }
    for (h, w, n) in [(2, 2, 3), (0, 4, 0), (usize::MAX, 2, 2)] {
        let e = png_grey(h, w, &vec![0; n]);
        assert!(matches!(e, Err(Error::Shape { .. })), "{e:?}");
    }
}

#[test]
fn grey_goes_through_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.png");
    let pixels = drawn(28, 28);
    write_png_grey(&path, 28, 28, &pixels).unwrap();
    let picture = decode(&path, &fs::read(&path).unwrap()).unwrap();
    assert_eq!(picture.luma, pixels);
    assert!(write_png_grey(&path, 28, 27, &pixels).is_err());
    assert!(path.exists(), "the earlier file stays");
}

/// Exif data with an orientation among other entries.
fn exif(little: bool, orientation: u16) -> Vec<u8> {
    let short = |v: u16| match little {
        true => v.to_le_bytes(),
        false => v.to_be_bytes(),
    };
    let long = |v: u32| match little {
        true => v.to_le_bytes(),
        false => v.to_be_bytes(),
    };
    let mut bytes = if little {
        b"II".to_vec()
    } else {
        b"MM".to_vec()
    };
    bytes.extend(short(42));
    bytes.extend(long(10));
    bytes.extend([9, 9]);
    bytes.extend(short(2));
    for (tag, value) in [(0x0100, 6), (0x0112, orientation)] {
        bytes.extend([short(tag), short(3)].concat());
        bytes.extend(long(1));
        bytes.extend([short(value), short(0)].concat());
    }
    bytes.extend(long(0));
    bytes
}

/// A grey PNG with Exif data before or after its pixels.
fn with_exif((h, w): (usize, usize), pixels: &[u8], exif: &[u8], before: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, w as u32, h as u32);
    encoder.set_color(ColorType::Grayscale);
    let mut writer = encoder.write_header().unwrap();
    if before {
        writer.write_chunk(png::chunk::eXIf, exif).unwrap();
    }
    writer.write_image_data(pixels).unwrap();
    if !before {
        writer.write_chunk(png::chunk::eXIf, exif).unwrap();
    }
    writer.finish().unwrap();
    bytes
}

#[test]
fn a_picture_is_turned_as_it_says() {
    // Where row 0 and column 0 of what is stored lie in what is seen.
    const SIDES: [(&str, &str); 8] = [
        ("top", "left"),
        ("top", "right"),
        ("bottom", "right"),
        ("bottom", "left"),
        ("left", "top"),
        ("right", "top"),
        ("right", "bottom"),
        ("left", "bottom"),
    ];
    // A foot to one side, so that no turn and no mirror image is the same.
    for (height, width) in [(60, 40), (28, 28)] {
        let mut seen = drawn(height, width);
        seen[height / 3 * width + 3..][..width / 2].fill(255);
        let wanted = read_bytes(&png_grey(height, width, &seen).unwrap()).unwrap();
        let mut read = Vec::new();
        for (number, (row, column)) in SIDES.into_iter().enumerate() {
            let (h, w) = match row {
                "top" | "bottom" => (height, width),
                _ => (width, height),
            };
            let mut stored = vec![0; h * w];
            for (at, value) in stored.iter_mut().enumerate() {
                let (mut y, mut x) = (0, 0);
                for (side, k) in [(row, at / w), (column, at % w)] {
                    match side {
                        "top" => y = k,
                        "bottom" => y = height - 1 - k,
                        "left" => x = k,
                        _ => x = width - 1 - k,
                    }
                }
                *value = seen[y * width + x];
            }
            for (little, before) in [(true, true), (false, true), (true, false)] {
                let exif = exif(little, number as u16 + 1);
                let picture = with_exif((h, w), &stored, &exif, before);
                assert_eq!(read_bytes(&picture).unwrap(), wanted, "{row} {column}");
                let headed = [b"Exif\0\0", exif.as_slice()].concat();
                let picture = with_exif((h, w), &stored, &headed, before);
                assert_eq!(read_bytes(&picture).unwrap(), wanted, "{row} {column}");
            }
            read.push(read_bytes(&png_grey(h, w, &stored).unwrap()).unwrap());
        }
        for (a, one) in read.iter().enumerate() {
            assert!(!read[..a].contains(one), "{a} looks like another");
        }
    }
}

#[test]
fn damaged_exif_turns_nothing() {
    let (h, w) = (30, 50);
    let pixels = drawn(h, w);
    let plain = read_bytes(&png_grey(h, w, &pixels).unwrap()).unwrap();
    let whole = exif(true, 6);
    let entry = whole.len() - 4 - 4;
    for cut in 0..entry + 2 {
        let picture = with_exif((h, w), &pixels, &whole[..cut], true);
        assert_eq!(read_bytes(&picture).unwrap(), plain, "cut at {cut}");
    }
    for orientation in [0, 1, 9, u16::MAX] {
        let picture = with_exif((h, w), &pixels, &exif(false, orientation), true);
        assert_eq!(read_bytes(&picture).unwrap(), plain);
    }
    let mut far = whole.clone();
    far[4..8].fill(0xFF);
    let picture = with_exif((h, w), &pixels, &far, true);
    assert_eq!(read_bytes(&picture).unwrap(), plain);
}
