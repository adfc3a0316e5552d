//! Round trips and every way in which an IDX file can be wrong.

use super::*;
use crate::data::Source;
use tempfile::TempDir;

/// Twelve images `[12, 2, 3]` whose bytes and labels tell where they stand.
fn sample() -> Images {
    let labels: Vec<u8> = (0..12).map(|i| i % 10).collect();
    Images::new("sample", 2, 3, 10, (0..72).collect(), labels).unwrap()
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Writes `bytes` to a file of its own.
fn file(dir: &TempDir, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join("file");
    fs::write(&path, bytes).unwrap();
    path
}

fn header(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_be_bytes()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::default());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// The message for a file of these bytes, read as images; it must name the file.
fn images_error(bytes: &[u8]) -> String {
    let dir = folder();
    let path = file(&dir, bytes);
    let message = read_images(&path).unwrap_err().to_string();
    let rest = message.strip_prefix(&format!("{}: ", path.display()));
    rest.expect("the message begins with the file").to_owned()
}

#[test]
fn round_trips_plain_and_gzipped_whatever_the_name() {
    let (dir, images) = (folder(), sample());
    for end in ["", ".gz"] {
        let at = |name: &str| dir.path().join(format!("{name}{end}"));
        write_idx(&images, &at("images"), &at("labels")).unwrap();
        let back = read_pair(&at("images"), &at("labels"), "sample").unwrap();
        assert_eq!(back, images);
        let renamed = at("renamed.bin");
        fs::rename(at("images"), &renamed).unwrap();
        assert_eq!(read_images(&renamed).unwrap().0, [12, 2, 3]);
    }
    let leftover = fs::read_dir(dir.path()).unwrap().filter(|e| {
        let name = e.as_ref().unwrap().file_name();
        name.to_string_lossy().ends_with(".part")
    });
    assert_eq!(leftover.count(), 0);
    let plain = fs::read(dir.path().join("labels")).unwrap();
    assert_eq!(plain[..8], [0, 0, 8, 1, 0, 0, 0, 12]);
    assert_eq!(
        fs::read(dir.path().join("labels.gz")).unwrap()[..2],
        [0x1F, 0x8B]
    );
}

#[test]
fn wrong_magic_numbers_are_named() {
    let doubles = header(&[0x0000_0E03, 1, 1, 1]);
    assert_eq!(
        images_error(&doubles),
        "found magic number 0x00000e03; wanted 0x00000803 (images). \
         Use an IDX file of unsigned bytes, gzipped or not"
    );
    assert_eq!(
        images_error(&header(&[LABELS_MAGIC, 0])),
        "found magic number 0x00000801; wanted 0x00000803 (images). \
         This is a file of labels; give the file of images here"
    );
    let dir = folder();
    let path = file(&dir, &header(&[IMAGES_MAGIC, 1, 1, 1]));
    let message = read_labels(&path).unwrap_err().to_string();
    assert!(message.contains("This is a file of images"), "{message}");
}

#[test]
fn short_headers_are_named() {
    let short = "wanted at least the 16 bytes of a header. Fetch or write the file again";
    for len in [0, 1, 3, 4, 15] {
        let bytes = &header(&[IMAGES_MAGIC, 1, 1, 1])[..len];
        let wanted = format!("found {len} bytes; {short}");
        assert_eq!(images_error(bytes), wanted);
        assert_eq!(images_error(&gzip(bytes)), wanted);
    }
}

#[test]
fn sizes_must_be_those_of_the_file() {
    let mut bytes = header(&[IMAGES_MAGIC, 2, 3, 4]);
    bytes.extend([7; 23]);
    let wanted = "wanted 40 bytes for 2 x 3 x 4 images and the header. \
                  Fetch or write the file again";
    assert_eq!(images_error(&bytes), format!("found 39 bytes; {wanted}"));
    assert_eq!(
        images_error(&gzip(&bytes)),
        format!("found 39 bytes; {wanted}")
    );
    bytes.extend([7; 2]);
    assert_eq!(images_error(&bytes), format!("found 41 bytes; {wanted}"));
    assert_eq!(
        images_error(&gzip(&bytes)),
        format!("found more than 40 bytes; {wanted}")
    );
}

#[test]
fn claims_allocate_nothing() {
    let huge = header(&[IMAGES_MAGIC, 1 << 31, 1 << 16, 1 << 16]);
    let wanted = "wanted 9223372036854775824 bytes for 2147483648 x 65536 x 65536 images and \
                  the header. Fetch or write the file again";
    assert_eq!(images_error(&huge), format!("found 16 bytes; {wanted}"));
    let message = images_error(&gzip(&huge));
    assert!(message.starts_with("found at most "), "{message}");
    assert!(message.ends_with(wanted), "{message}");
    let f = u32::MAX;
    for bytes in [
        header(&[IMAGES_MAGIC, f, f, f]),
        gzip(&header(&[IMAGES_MAGIC, f, f, f])),
    ] {
        assert_eq!(
            images_error(&bytes),
            "found a header that claims 4294967295 x 4294967295 x 4294967295 images; \
             wanted a size below 2^64 bytes. Fetch or write the file again"
        );
    }
}

#[test]
fn sizes_of_zero_are_refused() {
    assert_eq!(
        images_error(&header(&[IMAGES_MAGIC, 5, 0, 28])),
        "found 5 x 0 x 28 images; wanted sizes of at least 1. Fetch or write the file again"
    );
}

#[test]
fn damaged_gzip_is_refused_at_every_cut_and_flip() {
    let mut bytes = header(&[IMAGES_MAGIC, 2, 3, 4]);
    bytes.extend(0..24);
    let whole = gzip(&bytes);
    for cut in 2..whole.len() {
        let message = images_error(&whole[..cut]);
        assert!(
            message.contains("gzip") || message.contains("bytes; wanted"),
            "cut at {cut}: {message}"
        );
    }
    assert_eq!(
        images_error(&whole[..whole.len() - 3]),
        "found gzip data that ends too early; wanted a whole gzip file. \
         Fetch or write the file again"
    );
    // The checksum, then the length, in gzip's trailer.
    for back in [8, 4] {
        let mut flipped = whole.clone();
        let at = flipped.len() - back;
        flipped[at] ^= 1;
        let message = images_error(&flipped);
        assert!(
            message.starts_with("found damaged gzip data ("),
            "{message}"
        );
        assert!(message.contains("wanted a sound gzip file"), "{message}");
    }
}

#[test]
fn no_bytes_at_all_make_it_panic() {
    let dir = folder();
    let mut bytes = header(&[IMAGES_MAGIC, 2, 3, 4]);
    bytes.extend(0..24);
    for good in [bytes.clone(), gzip(&bytes)] {
        for i in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[i] ^= 1 << bit;
                let _ = read_images(&file(&dir, &bad));
                let _ = read_labels(&file(&dir, &bad));
            }
        }
    }
}

#[test]
fn any_byte_is_a_label() {
    let dir = folder();
    let mut bytes = header(&[LABELS_MAGIC, 4]);
    bytes.extend([0, 9, 10, 255]);
    let path = file(&dir, &bytes);
    assert_eq!(read_labels(&path).unwrap(), [0, 9, 10, 255]);
}

/// EMNIST's letters are labelled 1 to 26; two classes may be all that there are. The largest
/// label of all files decides, whichever has it.
#[test]
fn classes_come_from_the_labels() {
    let images = |labels: Vec<u8>| {
        let classes = crate::data::images::classes_of(&labels);
        Images::new("", 1, 1, classes, vec![0; labels.len()], labels).unwrap()
    };
    let letters: Vec<u8> = (1..=26).collect();
    for (train, test, classes) in [
        (letters.clone(), vec![3], 27),
        (vec![1; 12], letters, 27),
        (vec![0, 1, 0, 1, 0, 1], vec![0, 1], 2),
        (vec![0; 6], vec![255], 256),
    ] {
        let dir = folder();
        write_four(dir.path(), FILES, &images(train), &images(test));
        let split = load_dir(dir.path()).unwrap();
        for part in [split.train, split.validation, split.test] {
            assert_eq!(part.classes, classes);
        }
    }
}

#[test]
fn images_and_labels_must_belong_together() {
    let (dir, images) = (folder(), sample());
    let at = |name: &str| dir.path().join(name);
    write_idx(&images, &at("images"), &at("x")).unwrap();
    write_idx(&images.first(7).unwrap(), &at("y"), &at("labels")).unwrap();
    let error = read_pair(&at("images"), &at("labels"), "").unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{}: found 7 labels; wanted 12, one for each image of {}. \
             Use images and labels that belong together",
            at("labels").display(),
            at("images").display()
        )
    );
}

#[test]
fn missing_files_and_folders_are_refused() {
    let dir = folder();
    let path = dir.path().join("nothing");
    let message = read_images(&path).unwrap_err().to_string();
    let start = format!("cannot read {}: ", path.display());
    assert!(message.starts_with(&start), "{message}");
    assert!(
        message.ends_with("Check that the file exists and may be read"),
        "{message}"
    );
    let message = read_images(dir.path()).unwrap_err().to_string();
    assert!(
        message.ends_with("found a folder; wanted an IDX file. Name the file itself"),
        "{message}"
    );
    let message = write_idx(&sample(), &path.join("a"), &path.join("b"))
        .unwrap_err()
        .to_string();
    assert!(message.starts_with("cannot write "), "{message}");
    assert!(message.ends_with("nothing was changed."), "{message}");
}

/// Writes a training and a test pair under `names`.
fn write_four(dir: &Path, names: [&str; 4], train: &Images, test: &Images) {
    let [a, b, c, d] = names.map(|n| dir.join(n));
    write_idx(train, &a, &b).unwrap();
    write_idx(test, &c, &d).unwrap();
}

#[test]
fn loads_and_splits_a_folder_under_all_spellings() {
    for (end, dotted) in [("", false), (".gz", false), ("", true), (".gz", true)] {
        let (dir, images) = (folder(), sample());
        let names = FILES.map(|n| {
            let n = if dotted {
                n.replace("-idx", ".idx")
            } else {
                n.into()
            };
            n + end
        });
        let names = [0, 1, 2, 3].map(|i: usize| names[i].as_str());
        write_four(dir.path(), names, &images, &images.first(4).unwrap());
        let split = Source::Idx(dir.path().into()).load().unwrap();
        assert!(!split.synthetic);
        assert_eq!(split.train.pixels, images.pixels[..60]);
        assert_eq!(split.train.labels, images.labels[..10]);
        assert_eq!(split.validation.labels, images.labels[10..]);
        assert_eq!(split.validation.pixels, images.pixels[60..]);
        assert_eq!(split.test.labels, images.labels[..4]);
        let name = format!("IDX files of {}", dir.path().display());
        assert_eq!(
            [split.train.name, split.validation.name, split.test.name],
            [0; 3].map(|_| name.clone())
        );
    }
}

#[test]
fn mnist_is_split_as_in_the_book_and_known_by_its_labels() {
    let dir = folder();
    let mut labels = vec![0; 60_000];
    labels[..16].copy_from_slice(&MNIST_STARTS);
    let train = Images::new("", 28, 28, 10, vec![0; 60_000 * 784], labels).unwrap();
    write_four(dir.path(), FILES, &train, &train.first(10_000).unwrap());
    let split = load_dir(dir.path()).unwrap();
    let sizes = [&split.train, &split.validation, &split.test].map(Images::len);
    assert_eq!(sizes, [50_000, 10_000, 10_000]);
    assert_eq!(split.test.name, "MNIST");
    let other = Images {
        labels: vec![3; 60_000],
        ..train
    };
    write_four(dir.path(), FILES, &other, &other.first(10_000).unwrap());
    assert_ne!(load_dir(dir.path()).unwrap().train.name, "MNIST");
}

#[test]
fn folders_that_do_not_fit_are_refused() {
    let (dir, images) = (folder(), sample());
    let fix = "Put the four files into a folder and name that one, or set the variable \
               MNIST_DIR to it; `synthetic` in its place needs no files.";
    let message = |path: &Path| load_dir(path).unwrap_err().to_string();

    write_idx(
        &images,
        &dir.path().join(FILES[0]),
        &dir.path().join("other"),
    )
    .unwrap();
    let found = message(dir.path());
    assert!(
        found.contains(
            "found no train-labels-idx1-ubyte, no t10k-images-idx3-ubyte, \
             no t10k-labels-idx1-ubyte; wanted a folder with train-images-idx3-ubyte, "
        ),
        "{found}"
    );
    assert!(found.ends_with(fix), "{found}");
    let found = message(&dir.path().join("nothing"));
    assert!(
        found.contains("found no such folder; ") && found.ends_with(fix),
        "{found}"
    );
    let found = message(&dir.path().join(FILES[0]));
    assert!(found.contains("found a file, not a folder; "), "{found}");

    write_four(dir.path(), FILES, &images.first(5).unwrap(), &images);
    let found = message(dir.path());
    assert!(
        found.ends_with(
            "found 5 images; wanted at least 6, the last sixth being for validation. \
             Use a larger training file"
        ),
        "{found}"
    );
    let turned = Images {
        height: 3,
        width: 2,
        ..images.clone()
    };
    write_four(dir.path(), FILES, &images, &turned);
    let found = message(dir.path());
    assert!(
        found.contains("found images of 3 x 2 pixels; wanted 2 x 3, as in "),
        "{found}"
    );
    assert!(found.contains("t10k-images-idx3-ubyte: found"), "{found}");
}
