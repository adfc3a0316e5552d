//! Hostile files without a fuzzer: the committed corpora, every truncation of them, and
//! some million mutations. Nothing may panic, and nothing may take memory that the size
//! of the input does not justify.
//!
//! `WGRAD_WRITE_CORPUS=1 cargo test --test hostile` writes the seeds to `fuzz/corpus`.

#[path = "common/allocation.rs"]
mod allocation;

use std::io::Write;
use std::path::{Path, PathBuf};

use allocation::peak;
use flate2::Compression;
use flate2::write::GzEncoder;
use wgrad::book::nn::{Init, Network};
use wgrad::book::train::{Config, Model, Settings, Trainer};
use wgrad::data::Split;
use wgrad::data::digits::{Part, generate};
use wgrad::data::idx::parse_images;
use wgrad::data::picture::{parse_digit, png_grey};
use wgrad::doctor::harness::words;
use wgrad::exec::{Choice, Device};

/// A reader of arbitrary bytes, and what it may take for `n` of them.
struct Target {
    name: &'static str,
    read: fn(&[u8]),
    most: fn(usize) -> i64,
    mutations: usize,
}

const TARGETS: &[Target] = &[
    Target {
        name: "idx",
        read: |bytes| drop(parse_images(Path::new("file"), bytes)),
        // Deflate packs 1032 bytes into one at most, and a growing vector doubles.
        most: |n| 1_000_000 + 3 * 1032 * n as i64,
        mutations: 700_000,
    },
    Target {
        name: "model",
        read: |bytes| drop(Model::from_bytes(Path::new("file"), bytes)),
        most: |n| 1_000_000 + 100 * n as i64,
        mutations: 500_000,
    },
    Target {
        name: "config",
        read: |bytes| {
            if let Ok(text) = std::str::from_utf8(bytes) {
                let _ = Config::parse(text);
            }
        },
        most: |n| 1_000_000 + 1000 * n as i64,
        mutations: 250_000,
    },
    Target {
        name: "network",
        read: |bytes| {
            if let Ok(network) = std::str::from_utf8(bytes)
                .map_err(|_| ())
                .and_then(|t| Network::from_json(t).map_err(|_| ()))
            {
                let _ = network.check();
            }
        },
        most: |n| 1_000_000 + 1000 * n as i64,
        mutations: 400_000,
    },
    Target {
        name: "picture",
        read: |bytes| drop(parse_digit(Path::new("file"), bytes, 28, 28)),
        // Eight one-bit pixels a byte, unpacked to four bytes each, deflated as above.
        most: |n| 4_000_000 + 10 * 8 * 1032 * n as i64,
        mutations: 250_000,
    },
];

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name)
}

/// Valid inputs and near misses, small.
fn seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let mut idx = vec![0, 0, 8, 3];
    for size in [3u32, 2, 2] {
        idx.extend(size.to_be_bytes());
    }
    idx.extend(0..12);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&idx).unwrap();
    let mut claims = idx[..4].to_vec();
    claims.extend([0xFF; 12]);
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    bomb.write_all(&claims).unwrap();
    bomb.write_all(&[0; 100_000]).unwrap();

    let network = Network::new([1, 28, 28])
        .conv2d(1, 27)
        .avg_pool2d(2)
        .flatten()
        .dropout(0.5)
        .dense(10)
        .softmax()
        .init(Init::He);
    let part = |part, n| generate(5, part, n).unwrap();
    let data = Split {
        train: part(Part::Train, 10),
        validation: part(Part::Validation, 5),
        test: part(Part::Test, 5),
        synthetic: true,
    };
    let cpu = Device::open(Choice::Cpu).unwrap();
    let settings = Settings {
        replicas: 2,
        ..Settings::default()
    };
    let model = Trainer::new(&network, &data, &settings, &cpu)
        .unwrap()
        .model()
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    model.save(&path).unwrap();
    let model = std::fs::read(&path).unwrap();
    let mut endless = u64::MAX.to_le_bytes().to_vec();
    endless.extend(b"{}");

    let json = network.to_json().unwrap();
    let absurd = json
        .replace("27", "18446744073709551615")
        .replace("10", "1073741824");
    let config = "name = \"tiny\"\n[network]\ninput = [1, 4, 4]\ncost = \"quadratic\"\ninit = \"he\"\n\
                  layers = [{ type = \"conv2d\", filters = 3, kernel = [3, 3], stride = [2, 1], \
                  padding = [1, 0], dilation = [1, 1], groups = 1 }, { type = \"flatten\" }, \
                  { type = \"dense\", units = 2 }, { type = \"sigmoid\" }]\n[train]\nepochs = 3\n\
                  learning_rates = [0.5, 0.1]\nl2 = { per_example = 5.0 }\nexpansion = \"shifts\"\n";

    let digit = part(Part::Test, 1);
    let picture = png_grey(28, 28, digit.image(0)).unwrap();
    let small = png_grey(5, 3, &[0, 0, 0, 0, 255, 0, 0, 255, 0, 0, 255, 0, 0, 0, 0]).unwrap();
    // A corner that is to be turned by a right angle.
    let mut turned = Vec::new();
    let mut encoder = png::Encoder::new(&mut turned, 3, 2);
    encoder.set_color(png::ColorType::Grayscale);
    let mut writer = encoder.write_header().unwrap();
    let exif = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    writer.write_chunk(png::chunk::eXIf, exif).unwrap();
    writer.write_image_data(&[255, 255, 0, 255, 0, 0]).unwrap();
    writer.finish().unwrap();
    let mut vast = small.clone();
    vast[16..24].copy_from_slice(&[0, 0, 0x1F, 0x40, 0, 0, 0x1F, 0x40]);
    vec![
        ("idx", "plain", idx),
        ("idx", "gzip", gzip.finish().unwrap()),
        ("idx", "claims", claims),
        ("idx", "bomb", bomb.finish().unwrap()),
        ("model", "two", model),
        ("model", "endless", endless),
        ("network", "all", json.into_bytes()),
        ("network", "absurd", absurd.into_bytes()),
        ("config", "all", config.into()),
        ("picture", "digit", picture),
        ("picture", "small", small),
        ("picture", "turned", turned),
        ("picture", "vast", vast),
    ]
}

/// A mutation of an input by eight random words.
fn mutate(input: &[u8], other: &[u8], w: &[u32]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    let at = |word: u32, len: usize| if len == 0 { 0 } else { word as usize % len };
    for k in 0..1 + w[0] as usize % 3 {
        let (kind, place, value) = (
            w[1 + 2 * k] % 7,
            w[2 + 2 * k],
            w[7].rotate_left(9 * k as u32),
        );
        let i = at(place, bytes.len());
        match kind {
            0 if !bytes.is_empty() => bytes[i] ^= 1 << (value % 8),
            1 if !bytes.is_empty() => bytes[i] = value as u8,
            2 => bytes.truncate(i),
            3 => bytes.insert(i, value as u8),
            4 if !bytes.is_empty() => drop(bytes.remove(i)),
            5 => {
                // Numbers that hurt, as bytes or as digits.
                let numbers: [&[u8]; 6] = [
                    &[0xFF; 4],
                    &[0; 4],
                    &[0x80, 0, 0, 0],
                    b"18446744073709551615",
                    b"-1",
                    b"1e999",
                ];
                let number = numbers[value as usize % 6];
                let end = (i + number.len()).min(bytes.len());
                bytes.splice(i..end, number.iter().copied());
            }
            _ => {
                // A piece of another input.
                let from = at(value, other.len());
                let end = (from + 1 + value as usize % 16).min(other.len());
                bytes.splice(i..i, other[from..end].iter().copied());
            }
        }
    }
    bytes
}

#[test]
fn hostile_inputs_get_an_answer() {
    if std::env::var_os("WGRAD_WRITE_CORPUS").is_some() {
        for (target, name, bytes) in seeds() {
            std::fs::create_dir_all(corpus(target)).unwrap();
            std::fs::write(corpus(target).join(name), bytes).unwrap();
        }
    }
    let handles: Vec<_> = TARGETS
        .iter()
        .map(|target| std::thread::spawn(|| attack(target)))
        .collect();
    let total: usize = handles.into_iter().map(|h| h.join().unwrap()).sum();
    println!("{total} inputs");
    assert!(total > 2_000_000);
}

fn attack(target: &'static Target) -> usize {
    let mut files: Vec<PathBuf> = std::fs::read_dir(corpus(target.name))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    files.sort();
    let inputs: Vec<Vec<u8>> = files.iter().map(|f| std::fs::read(f).unwrap()).collect();
    assert!(!inputs.is_empty(), "no corpus for {}", target.name);
    let mut tried = 0;
    let mut attempt = |bytes: &[u8]| {
        tried += 1;
        let (took, most) = (peak(|| (target.read)(bytes)), (target.most)(bytes.len()));
        assert!(
            took <= most,
            "{}: {took} bytes for an input of {}",
            target.name,
            bytes.len()
        );
    };
    for input in &inputs {
        attempt(input);
        for length in 0..input.len().min(4096) {
            attempt(&input[..length]);
        }
    }
    let random = words(target.name.len() as u32 + 90, 8 * 4096);
    for i in 0..target.mutations {
        let w: Vec<u32> = (0..8)
            .map(|k| random[(i * 8 + k) % random.len()].wrapping_mul(1 + 2 * (i / 4096) as u32))
            .collect();
        let input = &inputs[i % inputs.len()];
        let other = &inputs[w[6] as usize % inputs.len()];
        attempt(&mutate(input, other, &w));
    }
    tried
}
