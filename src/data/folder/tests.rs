use jpeg_encoder::{ColorType as Jpeg, Encoder, SamplingFactor};
use tempfile::TempDir;

use super::*;

fn png_of(path: &Path, [h, w]: [usize; 2], colour: png::ColorType, values: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = fs::File::create(path).unwrap();
    let mut encoder = png::Encoder::new(file, w as u32, h as u32);
    encoder.set_color(colour);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(values).unwrap();
}

fn rgb(path: &Path, size: [usize; 2], pixel: [u8; 3]) {
    let values = pixel.repeat(size[0] * size[1]);
    png_of(path, size, png::ColorType::Rgb, &values);
}

/// A JPEG of two halves, the left one red, the right one blue.
fn jpeg_bytes(progressive: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, 95);
    encoder.set_sampling_factor(SamplingFactor::R_4_4_4);
    encoder.set_progressive(progressive);
    let pixel = |i: usize| {
        if i % 16 < 8 {
            [200, 30, 40]
        } else {
            [20, 60, 220]
        }
    };
    let values: Vec<u8> = (0..128).flat_map(pixel).collect();
    encoder.encode(&values, 16, 8, Jpeg::Rgb).unwrap();
    bytes
}

/// Two classes of two pictures each, 8 × 16; `cat` has a JPEG.
fn pets() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    rgb(&at("dog/a.png"), [8, 16], [10, 20, 30]);
    rgb(&at("dog/b.PNG"), [8, 16], [40, 50, 60]);
    rgb(&at("cat/2.png"), [8, 16], [70, 80, 90]);
    fs::write(at("cat/1.jpg"), jpeg_bytes(false)).unwrap();
    fs::write(at("README.md"), "beside the classes").unwrap();
    fs::write(at("cat/.hidden"), "passed over").unwrap();
    folder
}

fn bytes(data: &Dataset) -> &[u8] {
    match &data.column("image").unwrap().numbers {
        Numbers::U8(all, _) => all,
        other => panic!("{other:?}"),
    }
}

#[test]
fn classes_are_folders_in_order_and_pictures_are_planes() {
    let folder = pets();
    let read = ImageFolder::new(folder.path()).read().unwrap();
    assert_eq!(read.schema.classes, ["cat", "dog"]);
    assert_eq!(read.schema.extents(), [3, 8, 16]);
    assert!(read.valid.is_none() && read.test.is_none());
    let label = read.train.column("label").unwrap();
    assert_eq!(label.numbers, Numbers::from(vec![0u32, 0, 1, 1]));
    assert_eq!(read.train.column("image").unwrap().extents, [3, 8, 16]);
    let all = bytes(&read.train);
    for (picture, pixel) in [(1, [70, 80, 90]), (2, [10, 20, 30]), (3, [40, 50, 60])] {
        for (channel, value) in pixel.into_iter().enumerate() {
            let plane = &all[(picture * 3 + channel) * 128..][..128];
            assert!(plane.iter().all(|&v| v == value), "{picture}, {channel}");
        }
    }
    let near = |found: u8, wanted: u8| found.abs_diff(wanted) <= 6;
    for (x, pixel) in [(2, [200, 30, 40]), (12, [20, 60, 220])] {
        for (channel, value) in pixel.into_iter().enumerate() {
            let found = all[channel * 128 + 3 * 16 + x];
            assert!(near(found, value), "{x}, {channel}: {found} for {value}");
        }
    }
    // Names stay with every part.
    let parts = read
        .train
        .split_stratified("label", &[0.5, 0.5], 1)
        .unwrap();
    let classes = parts[1].column("label").unwrap().classes.clone();
    assert_eq!(*classes.unwrap(), ["cat", "dog"]);
}

#[test]
fn progressive_pictures_are_as_others() {
    let [plain, progressive] =
        [false, true].map(|p| Pixels::decode(Path::new("p.jpg"), &jpeg_bytes(p)).unwrap());
    for channel in 0..3 {
        let pairs = (plain.colour(channel).into_iter()).zip(progressive.colour(channel));
        assert!(pairs.clone().count() == 128 && pairs.clone().all(|(a, b)| a.abs_diff(b) <= 2));
    }
}

#[test]
fn folders_of_parts_are_the_parts() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (part, value) in [("train", 10), ("test", 200)] {
        for class in ["one", "two"] {
            rgb(&at(part).join(class).join("1.png"), [2, 2], [value; 3]);
        }
    }
    let read = ImageFolder::new(folder.path()).read().unwrap();
    assert!(bytes(&read.train).iter().all(|&v| v == 10));
    assert!(bytes(read.test.as_ref().unwrap()).iter().all(|&v| v == 200));
    assert!(read.valid.is_none());
    let told = || {
        ImageFolder::new(folder.path())
            .read()
            .unwrap_err()
            .to_string()
    };
    rgb(&at("test/three/1.png"), [2, 2], [0; 3]);
    assert!(told().contains("test: found a class `three`"), "{}", told());
    fs::remove_dir_all(at("test/three")).unwrap();
    fs::remove_dir_all(at("test/two")).unwrap();
    assert!(told().contains("test: found no folder `two`"), "{}", told());
    fs::remove_dir_all(at("train")).unwrap();
    assert!(
        told().contains("no folder `train` beside `test`"),
        "{}",
        told()
    );
}

#[test]
fn what_is_at_fault_is_named() {
    type Change = fn(&Path);
    let changes: [(Change, &str, &str); 8] = [
        (
            |at| fs::create_dir(at.join("bird")).unwrap(),
            "bird: found no picture",
            "remove the folder",
        ),
        (
            |at| fs::write(at.join("dog/c.png"), "no picture").unwrap(),
            "c.png: found a file that does not begin like a PNG or JPEG",
            "save the picture again",
        ),
        (
            |at| fs::write(at.join("dog/c.jpg"), &jpeg_bytes(false)[..500]).unwrap(),
            "c.jpg: found a damaged JPEG",
            "save the picture again",
        ),
        (
            |at| rgb(&at.join("dog/c.png"), [8, 15], [0; 3]),
            "c.png: found a picture of 8 × 15 pixels; wanted 8 × 16",
            "name a size",
        ),
        (
            |at| fs::write(at.join("dog/notes.txt"), "x").unwrap(),
            "notes.txt: found another file",
            "Move it",
        ),
        (
            |at| fs::create_dir(at.join("dog/puppies")).unwrap(),
            "puppies: found a folder",
            "Move it",
        ),
        (
            |at| fs::remove_dir_all(at.join("dog")).unwrap(),
            "found `cat` as the only folder",
            "a folder for each class",
        ),
        (
            |at| fs::remove_dir_all(at).unwrap(),
            "cannot list the folder",
            "exists",
        ),
    ];
    for (change, found, fix) in changes {
        let folder = pets();
        change(folder.path());
        let error = ImageFolder::new(folder.path())
            .read()
            .unwrap_err()
            .to_string();
        assert!(error.contains(found) && error.contains(fix), "{error}");
    }
    let error = ImageFolder::new("any").size([0, 8]).read().unwrap_err();
    assert!(matches!(error, Error::Setting { .. }), "{error}");
}

#[test]
fn sizes_and_colours_are_as_asked_for() {
    let folder = pets();
    let at = |name: &str| folder.path().join(name);
    // A picture that is dark on the left and light on the right, three times as high.
    let halves: Vec<u8> = (0..24 * 16)
        .map(|i| if i % 16 < 8 { 20 } else { 220 })
        .collect();
    png_of(
        &at("dog/c.png"),
        [24, 16],
        png::ColorType::Grayscale,
        &halves,
    );
    let read = ImageFolder::new(folder.path()).size([8, 4]).read().unwrap();
    assert_eq!(read.schema.extents(), [3, 8, 4]);
    let last = &bytes(&read.train)[4 * 96..];
    assert_eq!(last, [20, 20, 220, 220].repeat(24));
    let grey = ImageFolder::new(folder.path()).size([1, 1]);
    let grey = grey.colour(Colour::Grey).read().unwrap();
    assert_eq!(grey.schema.extents(), [1, 1, 1]);
    // 0.299 · 70 + 0.587 · 80 + 0.114 · 90, and the mean of 20 and 220.
    let all = bytes(&grey.train);
    assert_eq!((all[1], all[4]), (78, 120));
    // Half transparent black lies on white.
    png_of(
        &at("dog/d.png"),
        [1, 1],
        png::ColorType::Rgba,
        &[0, 0, 0, 128],
    );
    assert_eq!(read.schema.read(at("dog/d.png")).unwrap(), [127; 96]);
    // What the first picture shows decides, if nothing is asked for.
    let sole = tempfile::tempdir().unwrap();
    for class in ["x", "y"] {
        let path = sole.path().join(class).join("1.png");
        png_of(&path, [1, 2], png::ColorType::Grayscale, &[1, 2]);
    }
    let read = ImageFolder::new(sole.path()).read().unwrap();
    assert_eq!(
        (read.schema.colour, bytes(&read.train)),
        (Colour::Grey, &[1, 2, 1, 2][..])
    );
}

#[test]
fn damaged_jpegs_never_panic_and_none_that_ends_early_is_taken() {
    let path = Path::new("p.jpg");
    for progressive in [false, true] {
        let good = jpeg_bytes(progressive);
        for at in 3..good.len() {
            for flip in [1, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] ^= flip;
                if let Ok(pixels) = Pixels::decode(path, &bytes) {
                    assert_eq!(pixels.grey().len(), pixels.height * pixels.width);
                }
            }
        }
        for length in 3..good.len() - 16 {
            let error = Pixels::decode(path, &good[..length])
                .map(|_| ())
                .unwrap_err();
            assert!(error.to_string().contains("JPEG"), "{length}: {error}");
        }
    }
}

#[test]
fn channels_have_means_and_deviations() {
    let floats = vec![1.0, 3.0, 10.0, 10.0, 5.0, 7.0, 10.0, 14.0];
    let data = Dataset::new().with("image", [2, 2], floats).unwrap();
    let [(a, b), (c, d)] = data.channel_statistics("image").unwrap()[..] else {
        panic!("two channels");
    };
    assert_eq!((a, c), (4.0, 11.0));
    assert!((b - 5f64.sqrt()).abs() < 1e-12 && (d - 3f64.sqrt()).abs() < 1e-12);
    let data = data.with("label", [], vec![0u32, 1]).unwrap();
    assert!(data.channel_statistics("label").is_err());
    let one = data.clone().with_classes("label", vec!["a".into()]);
    assert!(
        one.unwrap_err()
            .to_string()
            .contains("found 1; wanted classes below 1")
    );
    assert!(data.with_classes("image", vec![]).is_err());
}

/// ImageNet's folders are called so, and torchvision's examples.
#[test]
fn validation_has_several_names_of_which_one_is_used() {
    let folder = tempfile::tempdir().unwrap();
    for (part, pixel) in [("train", 10), ("val", 20), ("test", 30)] {
        for class in ["cat", "dog"] {
            rgb(
                &folder.path().join(format!("{part}/{class}/a.png")),
                [4, 4],
                [pixel; 3],
            );
        }
    }
    let read = ImageFolder::new(folder.path()).read().unwrap();
    let first = |data: &Dataset| bytes(data)[0];
    assert_eq!(first(&read.train), 10);
    assert_eq!(read.valid.as_ref().map(first), Some(20));
    assert_eq!(read.test.as_ref().map(first), Some(30));
    fs::create_dir(folder.path().join("valid")).unwrap();
    let refused = ImageFolder::new(folder.path())
        .read()
        .unwrap_err()
        .to_string();
    assert!(refused.contains("`valid` and `val`"), "{refused}");
}
