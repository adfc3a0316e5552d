//! IDX files: the form in which MNIST comes.
//!
//! A file is a header of big-endian 32-bit words followed by bytes:
//!
//! ```text
//! images: 0x00000803, N, H, W, then N × H × W pixels
//! labels: 0x00000801, N,       then N labels
//! ```
//!
//! The magic number's third byte is the type (08, unsigned bytes), the fourth how many
//! sizes follow. A file may be gzipped; that is seen by its first bytes, whatever its
//! name says.
//!
//! A header is only a claim. Nothing is allocated because of it: it is held against the
//! size of the file first (against the most that a gzip file of that size can hold), and
//! never is more than one byte beyond the claim unpacked.

use std::fs::{self, File};
use std::io::{BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use flate2::{Compression, write::GzEncoder};

use super::images::{Images, Split, classes_of};
use crate::error::{Error, Result};
use crate::files::write_whole_with;

/// Magic number of a file of images: unsigned bytes, three sizes.
pub const IMAGES_MAGIC: u32 = 0x0000_0803;
/// Magic number of a file of labels: unsigned bytes, one size.
pub const LABELS_MAGIC: u32 = 0x0000_0801;
/// Deflate turns one byte into at most this many (zlib's technical notes); rounded up.
const GZIP_MOST: u64 = 1040;
/// The last part of the training file, as a fraction, that is kept for validation:
/// 10,000 of MNIST's 60,000.
const VALIDATION: usize = 6;
/// The labels that MNIST's training file begins with. Other data sets go by the same
/// file names and sizes, and a report must not call them MNIST.
const MNIST_STARTS: [u8; 16] = [5, 0, 4, 1, 9, 2, 1, 3, 1, 4, 3, 5, 3, 6, 1, 7];

/// What to do about a file that is damaged.
const AGAIN: &str = "Fetch or write the file again";

/// Reads a file of images: N, H, W and the pixels `[N, H, W]`.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::File`] if it is no IDX file of
/// images, is truncated, too long, corrupt, or claims a size of zero.
pub fn read_images(path: &Path) -> Result<([usize; 3], Vec<u8>)> {
    read(path, IMAGES_MAGIC, "images")
}

/// Reads a file of labels `[N]`.
///
/// # Errors
/// As [`read_images`].
pub fn read_labels(path: &Path) -> Result<Vec<u8>> {
    let (_, labels) = read::<1>(path, LABELS_MAGIC, "labels")?;
    Ok(labels)
}

/// [`read_images`] from the bytes of a file; `path` only appears in messages.
///
/// # Errors
/// As [`read_images`].
pub fn parse_images(path: &Path, bytes: &[u8]) -> Result<([usize; 3], Vec<u8>)> {
    read_from(path, bytes.len() as u64, bytes, IMAGES_MAGIC, "images")
}

/// Reads a file of images `[N, H, W]` and the file of their labels `[N]`. A file does not say
/// how many classes there are: they go from 0 to the largest label.
///
/// # Errors
/// As [`read_images`] and [`read_labels`]; [`Error::File`] if their numbers differ.
pub fn read_pair(images: &Path, labels: &Path, name: &str) -> Result<Images> {
    let ([n, height, width], pixels) = read_images(images)?;
    let read = read_labels(labels)?;
    if read.len() != n {
        return Err(Error::file(
            labels,
            format!("{} labels", read.len()),
            format!("{n}, one for each image of {}", images.display()),
            "Use images and labels that belong together",
        ));
    }
    Images::new(name, height, width, classes_of(&read), pixels, read)
}

/// The four files of a data set; each may end in `.gz`, and may have a dot for the first
/// hyphen after `images` or `labels`.
const FILES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

/// Loads a data set from the four files in `dir`. The last sixth of the training file
/// (10,000 of MNIST's 60,000) becomes the validation images. Classes go from 0 to the
/// largest label of all files: those of MNIST are ten, and of EMNIST's letters, which are
/// labelled 1 to 26, twenty-seven, the first of them without an image.
/// [`Split::with_classes`] makes them more.
///
/// # Errors
/// [`Error::File`] lists the files that are missing; otherwise as [`read_pair`], and if
/// there are fewer than six training images or the test images are of another size.
pub fn load_dir(dir: &Path) -> Result<Split> {
    let [train_images, train_labels, test_images, test_labels] = locate(dir)?;
    let mut train = read_pair(&train_images, &train_labels, "")?;
    let mut test = read_pair(&test_images, &test_labels, "")?;
    if (test.height, test.width) != (train.height, train.width) {
        return Err(Error::file(
            &test_images,
            format!("images of {} x {} pixels", test.height, test.width),
            format!(
                "{} x {}, as in {}",
                train.height,
                train.width,
                train_images.display()
            ),
            "Use training and test files that belong together",
        ));
    }
    if train.len() < VALIDATION {
        return Err(Error::file(
            &train_images,
            format!("{} images", train.len()),
            format!("at least {VALIDATION}, the last sixth being for validation"),
            "Use a larger training file",
        ));
    }
    let classes = train.classes.max(test.classes);
    (train.classes, test.classes) = (classes, classes);
    let mnist = (train.len(), test.len()) == (60_000, 10_000)
        && (train.height, train.width) == (28, 28)
        && train.labels.starts_with(&MNIST_STARTS);
    let name = if mnist {
        "MNIST".to_owned()
    } else {
        format!("IDX files of {}", dir.display())
    };
    train.name.clone_from(&name);
    test.name = name;
    let kept = train.len() - train.len() / VALIDATION;
    let validation = train.range(kept..train.len())?;
    // Cut off in place: a copy would hold the large part twice.
    train.pixels.truncate(kept * train.height * train.width);
    train.labels.truncate(kept);
    Ok(Split {
        train,
        validation,
        test,
        synthetic: false,
    })
}

/// Whether a folder has IDX files of images to train on.
pub(super) fn is_dir(dir: &Path) -> bool {
    file(dir, FILES[0]).is_some()
}

/// A file of a data set under one of its names.
fn file(dir: &Path, name: &str) -> Option<PathBuf> {
    let dotted = name.replacen("-idx", ".idx", 1);
    [
        name.to_owned(),
        format!("{name}.gz"),
        dotted.clone(),
        format!("{dotted}.gz"),
    ]
    .into_iter()
    .map(|n| dir.join(n))
    .find(|p| p.is_file())
}

/// Finds the four files in `dir`.
fn locate(dir: &Path) -> Result<[PathBuf; 4]> {
    let fix = "Put the four files into a folder and name that one, or set the variable \
               MNIST_DIR to it; `synthetic` in its place needs no files.";
    let refuse = |found: String| {
        let wanted = format!("a folder with {}, each plain or with .gz", FILES.join(", "));
        Error::file(dir, found, wanted, fix)
    };
    match fs::metadata(dir) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => return Err(refuse("a file, not a folder".into())),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(refuse("no such folder".into()));
        }
        Err(e) => return Err(Error::io("read", dir, e, fix)),
    }
    let found = FILES.map(|name| file(dir, name));
    if let [Some(a), Some(b), Some(c), Some(d)] = found {
        return Ok([a, b, c, d]);
    }
    let missing: Vec<_> = (FILES.iter().zip(&found))
        .filter_map(|(name, path)| path.is_none().then_some(*name))
        .collect();
    Err(refuse(format!("no {}", missing.join(", no "))))
}

/// Reads a file with `D` sizes and `magic`; `what` names its items.
fn read<const D: usize>(path: &Path, magic: u32, what: &str) -> Result<([usize; D], Vec<u8>)> {
    let io = |e| {
        Error::io(
            "read",
            path,
            e,
            "Check that the file exists and may be read",
        )
    };
    let meta = fs::metadata(path).map_err(io)?;
    if !meta.is_file() {
        let found = if meta.is_dir() {
            "a folder"
        } else {
            "no regular file"
        };
        return Err(Error::file(
            path,
            found,
            "an IDX file",
            "Name the file itself",
        ));
    }
    let file = BufReader::new(File::open(path).map_err(io)?);
    read_from(path, meta.len(), file, magic, what)
}

/// Reads `len` bytes, gzipped or not.
fn read_from<const D: usize>(
    path: &Path,
    len: u64,
    mut file: impl Read,
    magic: u32,
    what: &str,
) -> Result<([usize; D], Vec<u8>)> {
    let mut start = Vec::new();
    fill(path, &mut (&mut file).take(2), 2, &mut start)?;
    let gzip = start == [0x1F, 0x8B];
    let bytes = start.as_slice().chain(BufReader::new(file));
    if gzip {
        let most = len.saturating_mul(GZIP_MOST);
        unpack(
            path,
            MultiGzDecoder::new(bytes),
            magic,
            what,
            Room::Gzip(most),
        )
    } else {
        unpack(path, bytes, magic, what, Room::Plain(len))
    }
}

/// How many bytes a file can hold, header included.
enum Room {
    /// Exactly so many.
    Plain(u64),
    /// At most so many, once unpacked.
    Gzip(u64),
}

/// Reads header and items from `bytes`, which are those of `path`, unpacked.
fn unpack<const D: usize>(
    path: &Path,
    mut bytes: impl Read,
    magic: u32,
    what: &str,
    room: Room,
) -> Result<([usize; D], Vec<u8>)> {
    let refuse =
        |found: String, wanted: String, fix: &str| Err(Error::file(path, found, wanted, fix));
    let mut header = Vec::new();
    let header_len = 4 * (D + 1);
    fill(path, &mut bytes, header_len as u64, &mut header)?;
    let words: Vec<u32> = header
        .chunks_exact(4)
        .map(|w| w.iter().fold(0, |word, b| word << 8 | u32::from(*b)))
        .collect();
    // A wrong magic number says more than a short header, so it is looked at first.
    if let Some(found) = words.first().filter(|m| **m != magic) {
        let fix = match *found {
            IMAGES_MAGIC => "This is a file of images; give the file of labels here",
            LABELS_MAGIC => "This is a file of labels; give the file of images here",
            _ => "Use an IDX file of unsigned bytes, gzipped or not",
        };
        return refuse(
            format!("magic number 0x{found:08x}"),
            format!("0x{magic:08x} ({what})"),
            fix,
        );
    }
    if header.len() < header_len {
        return refuse(
            format!("{} bytes", header.len()),
            format!("at least the {header_len} bytes of a header"),
            AGAIN,
        );
    }
    let sizes = &words[1..];
    let text = sizes
        .iter()
        .map(u32::to_string)
        .collect::<Vec<_>>()
        .join(" x ");
    if sizes.contains(&0) {
        return refuse(
            format!("{text} {what}"),
            "sizes of at least 1".into(),
            AGAIN,
        );
    }
    let claim = (sizes.iter())
        .try_fold(1u64, |product, size| product.checked_mul(u64::from(*size)))
        .and_then(|c| c.checked_add(header_len as u64));
    let Some(claim) = claim else {
        return refuse(
            format!("a header that claims {text} {what}"),
            "a size below 2^64 bytes".into(),
            AGAIN,
        );
    };
    let wanted = || format!("{claim} bytes for {text} {what} and the header");
    match room {
        Room::Plain(size) if size != claim => {
            return refuse(format!("{size} bytes"), wanted(), AGAIN);
        }
        Room::Gzip(most) if claim > most => {
            return refuse(
                format!("at most {most} bytes once unpacked"),
                wanted(),
                AGAIN,
            );
        }
        _ => {}
    }
    let mut items = Vec::new();
    let items_len = claim - header_len as u64;
    // One byte more than claimed, to see a file that is too long; reaching the end also
    // checks gzip's own checksum.
    fill(path, &mut bytes, items_len + 1, &mut items)?;
    let len = items.len() as u64;
    if len < items_len {
        return refuse(
            format!("{} bytes", len + header_len as u64),
            wanted(),
            AGAIN,
        );
    }
    if len > items_len {
        return refuse(format!("more than {claim} bytes"), wanted(), AGAIN);
    }
    let mut shape = [0; D];
    for (to, from) in shape.iter_mut().zip(sizes) {
        *to = *from as usize;
    }
    Ok((shape, items))
}

/// Reads up to `most` bytes into `to`, which grows with what is there, not with `most`.
fn fill(path: &Path, bytes: &mut impl Read, most: u64, to: &mut Vec<u8>) -> Result<()> {
    let done = bytes.take(most).read_to_end(to);
    done.map(|_| ()).map_err(|e| match e.kind() {
        // flate2's kinds for data that ends too early or is damaged.
        ErrorKind::UnexpectedEof => Error::file(
            path,
            "gzip data that ends too early",
            "a whole gzip file",
            AGAIN,
        ),
        ErrorKind::InvalidData | ErrorKind::InvalidInput => Error::file(
            path,
            format!("damaged gzip data ({e})"),
            "a sound gzip file",
            AGAIN,
        ),
        _ => Error::io(
            "read",
            path,
            e,
            "Check the disk, the rights and the free memory",
        ),
    })
}

/// Writes `images` as two IDX files, gzipped where a name ends in `.gz`. Each file
/// appears whole or not at all.
///
/// # Errors
/// [`Error::Io`] if a file cannot be written; [`Error::Setting`] if a size does not fit
/// into 32 bits.
pub fn write_idx(images: &Images, image_file: &Path, label_file: &Path) -> Result<()> {
    let sizes = [images.len(), images.height, images.width];
    write(image_file, IMAGES_MAGIC, &sizes, &images.pixels)?;
    write(label_file, LABELS_MAGIC, &sizes[..1], &images.labels)
}

/// Writes one IDX file, which appears whole or not at all.
fn write(path: &Path, magic: u32, sizes: &[usize], items: &[u8]) -> Result<()> {
    let mut header = magic.to_be_bytes().to_vec();
    for size in sizes {
        let word = u32::try_from(*size)
            .map_err(|_| Error::setting("size in an IDX file", size, "below 2^32"))?;
        header.extend(word.to_be_bytes());
    }
    write_whole_with(path, |file| {
        if path.extension().is_some_and(|e| e == "gz") {
            let mut gzip = GzEncoder::new(file, Compression::default());
            gzip.write_all(&header)?;
            gzip.write_all(items)?;
            gzip.finish().map(|_| ())
        } else {
            file.write_all(&header)?;
            file.write_all(items)
        }
    })
}

#[cfg(test)]
mod tests;
