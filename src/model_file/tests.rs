use std::fs;

use super::*;
use ndarray::{ArrayD, IxDyn};

fn small() -> ModelFile {
    let tensor = |name: &str, shape: &[usize], from: f32| {
        let count = shape.iter().product::<usize>();
        let values = (0..count).map(|i| from + i as f32 * 0.25).collect();
        (
            name.to_string(),
            ArrayD::from_shape_vec(IxDyn(shape), values).unwrap(),
        )
    };
    ModelFile {
        // Neither sorted by name nor by size.
        tensors: vec![
            tensor("1.dense.weight", &[3, 2], -1.0),
            tensor("1.dense.bias", &[3], 5.0),
            tensor("0.conv.\"weight\"", &[2, 1, 3, 3], 0.5),
            tensor("scalar", &[], 7.0),
        ],
        network_json: r#"{"layers":["conv","dense"],"note":"Σ \"quoted\""}"#.into(),
        extra: BTreeMap::from([("a".into(), "1".into()), ("z".into(), "ü\n".into())]),
    }
}

fn refused(bytes: &[u8]) -> String {
    match ModelFile::from_bytes(Path::new("m.safetensors"), bytes) {
        Err(e @ Error::File { .. }) => e.to_string(),
        other => panic!("wanted a file error, got {other:?}"),
    }
}

/// A file with this header and this data.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

#[test]
fn a_model_survives_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.safetensors");
    small().save(&path).unwrap();
    assert_eq!(ModelFile::load(&path).unwrap(), small());
    assert_eq!(fs::read(&path).unwrap(), small().to_bytes().unwrap());
}

#[test]
fn bytes_are_aligned_and_always_the_same() {
    let bytes = small().to_bytes().unwrap();
    let header = u64::from_le_bytes(*bytes.first_chunk().unwrap());
    assert_eq!(header % 8, 0);
    for _ in 0..20 {
        assert_eq!(small().to_bytes().unwrap(), bytes);
    }
    // A transposed view has the same values in another order in memory.
    let mut turned = small();
    turned.tensors[0].1 = turned.tensors[0].1.clone().reversed_axes();
    let read = ModelFile::from_bytes(Path::new("m"), &turned.to_bytes().unwrap()).unwrap();
    assert_eq!(read, turned);
    assert!(!turned.tensors[0].1.is_standard_layout());
}

#[test]
fn a_network_without_parameters_is_a_file_too() {
    let empty = ModelFile {
        tensors: vec![],
        ..small()
    };
    let bytes = empty.to_bytes().unwrap();
    assert_eq!(
        ModelFile::from_bytes(Path::new("m"), &bytes).unwrap(),
        empty
    );
}

#[test]
fn every_byte_of_the_header_may_be_wrong() {
    let good = small().to_bytes().unwrap();
    let header = u64::from_le_bytes(*good.first_chunk().unwrap()) as usize;
    for at in 0..8 + header {
        for wrong in [
            0x00,
            0xff,
            b'"',
            b'{',
            b'9',
            b' ',
            good[at] ^ 1,
            good[at] ^ 0x80,
        ] {
            let mut bytes = good.clone();
            bytes[at] = wrong;
            // It may still be a model (a letter of a name), but never a panic.
            if let Err(e) = ModelFile::from_bytes(Path::new("m"), &bytes) {
                assert!(matches!(e, Error::File { .. }), "{e}");
            }
        }
    }
}

#[test]
fn every_truncation_is_refused() {
    let good = small().to_bytes().unwrap();
    for length in 0..good.len() {
        let text = refused(&good[..length]);
        assert!(text.contains("Save the model again"), "{text}");
    }
    let mut long = good;
    long.push(0);
    assert!(refused(&long).contains("appended"));
}

#[test]
fn claimed_lengths_allocate_nothing() {
    for length in [9, 1 << 20, 100_000_000, 1 << 40, u64::MAX - 7, u64::MAX] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(b"{}");
        assert!(refused(&bytes).contains("header said to be"));
    }
    // Eight tensors as large as a size in bits allows: the last one's end, added to the
    // header's length, overflows.
    let count = (1u64 << 59) - 1;
    let tensor = |i: u64| {
        let (from, to) = (i * count * 4, (i + 1) * count * 4);
        format!(r#""{i}":{{"dtype":"F32","shape":[{count}],"data_offsets":[{from},{to}]}}"#)
    };
    let eight: Vec<_> = (0..8).map(tensor).collect();
    let huge = file(&format!("{{{}}}", eight.join(",")), &[0; 4]);
    assert!(refused(&huge).contains("cut off"));
    let shape = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#;
    assert!(refused(&file(shape, &[])).contains("inconsistent"));
}

#[test]
fn other_safetensors_files_are_named_as_such() {
    let no_network = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    assert!(refused(&file(no_network, &[0; 4])).contains("without `wgrad.network`"));
    let with = |tensor: &str| {
        format!(r#"{{"__metadata__":{{"wgrad.network":"{{}}"}},"a\u001b":{tensor}}}"#)
    };
    let half = with(r#"{"dtype":"F16","shape":[2],"data_offsets":[0,4]}"#);
    let text = refused(&file(&half, &[0; 4]));
    assert!(
        text.contains("type F16") && !text.contains('\u{1b}'),
        "{text}"
    );
    let none = with(r#"{"dtype":"F32","shape":[0,7],"data_offsets":[0,0]}"#);
    assert!(refused(&file(&none, &[])).contains("at least 1"));
    let deep = with(r#"{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}"#);
    assert!(refused(&file(&deep, &[0; 4])).contains("at most 8"));
    let other_type = with(r#"{"dtype":"F32","shape":[2],"data_offsets":[0,4]}"#);
    assert!(refused(&file(&other_type, &[0; 4])).contains("inconsistent"));
    assert!(refused(&file("[]", &[])).contains("no JSON object"));
    assert!(refused(b"\x89PNG\r\n\x1a\n").contains("header said to be"));
    assert!(refused(b"").contains("0 bytes"));
}

#[test]
fn what_cannot_be_read_is_not_written() {
    let mut twice = small();
    twice.tensors[1].0 = twice.tensors[0].0.clone();
    assert!(matches!(twice.to_bytes(), Err(Error::Setting { .. })));
    let mut reserved = small();
    reserved.tensors[1].0 = "__metadata__".into();
    assert!(matches!(reserved.to_bytes(), Err(Error::Setting { .. })));
    let mut key = small();
    key.extra.insert("wgrad.network".into(), "{}".into());
    assert!(matches!(key.to_bytes(), Err(Error::Setting { .. })));
    let mut empty = small();
    empty.tensors[0].1 = ArrayD::zeros(IxDyn(&[3, 0]));
    assert!(matches!(empty.to_bytes(), Err(Error::Shape { .. })));
    let mut deep = small();
    deep.tensors[0].1 = ArrayD::zeros(IxDyn(&[1; 9]));
    assert!(matches!(deep.to_bytes(), Err(Error::Shape { .. })));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m");
    small().save(&path).unwrap();
    assert!(empty.save(&path).is_err());
    assert_eq!(ModelFile::load(&path).unwrap(), small());
}

#[test]
fn a_missing_file_is_an_io_error() {
    let e = ModelFile::load(Path::new("/nowhere/m.safetensors")).unwrap_err();
    assert!(matches!(e, Error::Io { .. }), "{e}");
}

#[test]
fn values_that_are_not_finite_load_and_are_found() {
    let mut model = small();
    assert_eq!(model.first_non_finite(), None);
    model.tensors[2].1[[1, 0, 0, 1]] = f32::NAN;
    model.tensors[3].1.fill(f32::INFINITY);
    let read = ModelFile::from_bytes(Path::new("m"), &model.to_bytes().unwrap()).unwrap();
    let (name, index, value) = read.first_non_finite().unwrap();
    assert_eq!((name, index), ("0.conv.\"weight\"", 10));
    assert!(value.is_nan());
}

#[test]
fn the_hash_is_of_names_shapes_and_values() {
    let hash = |m: &ModelFile| weights_sha256(m.tensors.iter().map(|(n, t)| (n.as_str(), t)));
    let base = hash(&small());
    // SHA-256 of no input, from FIPS 180-4's examples.
    assert_eq!(
        weights_sha256([]),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    assert_eq!(base, hash(&small()));
    assert_eq!(base.len(), 64);
    let mut changed = [small(), small(), small(), small()];
    changed[0].tensors[0].0.push('x');
    changed[1].tensors[0].1[[0, 0]] += f32::EPSILON;
    changed[2].tensors.swap(0, 1);
    let flat = changed[3].tensors[0].1.flatten().into_dyn().to_owned();
    changed[3].tensors[0].1 = flat;
    for model in &changed {
        assert_ne!(hash(model), base);
    }
    // The layout in memory is no part of it, and long tensors go through in pieces.
    let big = ArrayD::from_shape_fn(IxDyn(&[50, 70]), |i| (i[0] * 70 + i[1]) as f32);
    let turned = big.t().to_owned().reversed_axes();
    assert_eq!(
        weights_sha256([("a", &big)]),
        weights_sha256([("a", &turned)])
    );
    let mut strided = ArrayD::zeros(IxDyn(&[70, 50]));
    strided.assign(&big.t());
    let strided = strided.reversed_axes();
    assert!(!strided.is_standard_layout());
    assert_eq!(
        weights_sha256([("a", &big)]),
        weights_sha256([("a", &strided)])
    );
}
