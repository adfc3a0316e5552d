//! Arrays as NumPy has written them (`tests/fixtures/arrays.py`), and files that are none.

use super::*;

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/arrays.npz");

/// The fixture's array of a name, as it is packed.
fn packed(name: &str) -> Vec<u8> {
    let file = std::fs::File::open(FIXTURE).unwrap();
    let mut archive = zip::ZipArchive::new(file).unwrap();
    let mut bytes = Vec::new();
    let mut entry = archive.by_name(&format!("{name}.npy")).unwrap();
    entry.read_to_end(&mut bytes).unwrap();
    bytes
}

/// An archive of some of the fixture's arrays.
fn archive(names: &[&str]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for name in names {
        let options = zip::write::SimpleFileOptions::default();
        writer.start_file(format!("{name}.npy"), options).unwrap();
        std::io::Write::write_all(&mut writer, &packed(name)).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn read(names: &[&str]) -> Result<Arrays> {
    let path = Path::new("some.npz");
    Ok(Arrays {
        file: path.into(),
        arrays: npz(path, &archive(names))?,
    })
}

#[test]
fn numbers_of_every_kind_are_numpys() {
    let known = [
        "floats",
        "halves",
        "doubles_down",
        "big",
        "pixels",
        "labels",
        "words",
        "below",
        "truths",
        "number",
    ];
    let arrays = read(&known).unwrap();
    let quarters: Numbers = vec![0.0, 0.25, 0.5, 0.75, 1.0, 1.25].into();
    for name in ["floats", "halves", "doubles_down", "big"] {
        assert_eq!(
            arrays.get(name).unwrap(),
            (&[3, 2][..], &quarters),
            "{name}"
        );
    }
    let is = |name: &str, extents: &[usize], numbers: Numbers| {
        assert_eq!(arrays.get(name).unwrap(), (extents, &numbers), "{name}");
    };
    is(
        "pixels",
        &[3, 2],
        Numbers::bytes(vec![0, 51, 102, 153, 204, 255]),
    );
    is("labels", &[3], vec![3u32, 0, 255].into());
    is("words", &[3], vec![0, 7, u32::MAX].into());
    is("below", &[3], vec![-3.0, 0.0, 16_777_216.0].into());
    is("truths", &[3], vec![1.0f32, 0.0, 1.0].into());
    is("number", &[], vec![2.5f32].into());
}

#[test]
fn columns_are_arrays_by_their_first_axis() {
    let arrays = read(&["pixels", "labels", "number", "floats"]).unwrap();
    let data = arrays
        .dataset(&[("input", "pixels"), ("target", "labels")])
        .unwrap();
    assert_eq!(data.rows(), 3);
    assert_eq!(data.column("input").unwrap().row(2)[1], 1.0);
    let refused = |columns: &[(&str, &str)]| arrays.dataset(columns).unwrap_err().to_string();
    assert!(refused(&[("input", "pixel")]).contains("pixels"));
    assert!(refused(&[("input", "number")]).contains("one number"));
    let extents: Vec<_> = arrays.extents().map(|(name, _)| name).collect();
    assert_eq!(extents, ["floats", "labels", "number", "pixels"]);
}

#[test]
fn what_is_no_array_is_named() {
    let refused = |name: &str| {
        let arrays = read(&[name, "floats"]).unwrap();
        assert!(arrays.get("floats").is_ok());
        let readable: Vec<_> = arrays.extents().map(|(name, _)| name).collect();
        assert_eq!(readable, ["floats"]);
        arrays.get(name).unwrap_err().to_string()
    };
    assert!(
        refused("far").contains("`far`: 4294967296"),
        "{}",
        refused("far")
    );
    assert!(refused("names").contains("`names`: elements of type \"<U1\""));
    let whole = packed("floats");
    let fails = |bytes: &[u8]| npy(bytes).unwrap_err().0;
    assert_eq!(fails(b"PK"), "no array");
    assert_eq!(fails(&whole[..9]), "cut off");
    assert_eq!(fails(&whole[..40]), "a header of 118 bytes");
    assert!(fails(&whole[..whole.len() - 1]).starts_with("23 bytes for [3, 2]"));
    let longer = [&whole[..], &[0]].concat();
    assert!(fails(&longer).starts_with("25 bytes"));
    let mut version = whole.clone();
    version[6] = 9;
    assert_eq!(fails(&version), "version 9");
    let text = String::from_utf8_lossy(&whole[10..128]).into_owned();
    // Elements of several fields are no damage: their array alone cannot be read.
    let fields = text.replace("'<f4'", "[('a', '<f4'), ('b', '<i4', (2,))]");
    let length = (fields.len() as u16).to_le_bytes();
    let bytes = [&whole[..8], &length, fields.as_bytes(), &whole[128..]].concat();
    let (found, _) = npy(&bytes).unwrap().unwrap_err();
    assert_eq!(
        found,
        "elements of type \"[('a', '<f4'), ('b', '<i4', (2,))]\""
    );
    for (from, to) in [
        ("(3, 2)", "(3, x)"),
        ("False", "Perhaps"),
        ("'descr'", "'decsr'"),
    ] {
        let broken = text.replace(from, to);
        let length = (broken.len() as u16).to_le_bytes();
        let bytes = [&whole[..8], &length, broken.as_bytes(), &whole[128..]].concat();
        assert!(fails(&bytes).starts_with("the header"), "{from}");
    }
    let overflow = text.replace("(3, 2)", "(9223372036854775807, 9223372036854775807)");
    let length = (overflow.len() as u16).to_le_bytes();
    let bytes = [&whole[..8], &length, overflow.as_bytes(), &whole[128..]].concat();
    assert!(fails(&bytes).ends_with("elements"));
    let path = Path::new("some.npz");
    assert!(
        npz(path, b"PK\x03\x04")
            .unwrap_err()
            .to_string()
            .contains("no archive")
    );
    let packed = archive(&["floats"]);
    for cut in (0..packed.len()).step_by(7) {
        assert!(npz(path, &packed[..cut]).is_err());
    }
    let other = Arrays::read("some.csv").unwrap_err().to_string();
    assert!(other.contains("the ending `csv`"));
}

/// What little unpacks to, names that two arrays have, extents whose product is no number.
#[test]
fn archives_are_not_believed() {
    let entries = |all: &[(&str, Vec<u8>)]| {
        let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, bytes) in all {
            let options = zip::write::SimpleFileOptions::default();
            writer.start_file(*name, options).unwrap();
            std::io::Write::write_all(&mut writer, bytes).unwrap();
        }
        npz(
            Path::new("some.npz"),
            &writer.finish().unwrap().into_inner(),
        )
    };
    let small = packed("floats");
    let longer = [&small[..], &vec![0; 1 << 20]].concat();
    let refused = entries(&[("a.npy", longer)]).unwrap_err().to_string();
    assert!(refused.contains("bytes for [3, 2] elements"), "{refused}");
    let twice = [("a.npy", small.clone()), ("a", small.clone())];
    assert!(
        entries(&twice)
            .unwrap_err()
            .to_string()
            .contains("two arrays `a`")
    );
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4294967296, 4294967296)}";
    let length = (header.len() as u16).to_le_bytes();
    let none = [&small[..8], &length, header.as_bytes()].concat();
    let arrays = Arrays {
        file: "some.npz".into(),
        arrays: entries(&[("a.npy", none)]).unwrap(),
    };
    assert!(arrays.dataset(&[("input", "a")]).is_err());
}

#[test]
fn tensors_are_read_by_their_type() {
    use safetensors::tensor::TensorView;
    let view = |dtype, shape: &[usize], data: &'static [u8]| {
        TensorView::new(dtype, shape.to_vec(), data).unwrap()
    };
    let tensors = [
        ("brain", view(Dtype::BF16, &[2], &[0x80, 0x3f, 0x00, 0xc0])),
        ("small", view(Dtype::I8, &[2], &[0xff, 5])),
        ("pixels", view(Dtype::U8, &[1, 2], &[0, 255])),
    ];
    let bytes = safetensors::serialize(tensors, None).unwrap();
    let path = Path::new("some.safetensors");
    let arrays = safetensors(path, &bytes).unwrap();
    assert_eq!(arrays["brain"], Ok((vec![2], vec![1.0f32, -2.0].into())));
    assert_eq!(arrays["small"], Ok((vec![2], vec![-1.0f32, 5.0].into())));
    let pixels = (vec![1, 2], Numbers::bytes(vec![0, 255]));
    assert_eq!(arrays["pixels"], Ok(pixels));
    assert!(safetensors(path, &bytes[..bytes.len() - 1]).is_err());
}
