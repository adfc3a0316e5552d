use super::*;
use crate::data::{Arrays, Shards};

fn npy(folder: &Path, name: &str, header: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(bytes);
    std::fs::write(&path, file).unwrap();
    path
}

fn header(descr: &str, shape: &str) -> String {
    format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n")
}

/// Six rows of two floats and a class.
fn files(folder: &Path) -> [PathBuf; 2] {
    let x: Vec<u8> = (0..12)
        .flat_map(|i| (i as f64 / 4.0).to_le_bytes())
        .collect();
    let y: Vec<u8> = (0..6u16).flat_map(u16::to_be_bytes).collect();
    [
        npy(folder, "x.npy", &header("<f8", "(6, 2)"), &x),
        npy(folder, "y.npy", &header(">u2", "(6,)"), &y),
    ]
}

#[test]
fn rows_are_those_of_the_whole_array() {
    let folder = tempfile::tempdir().unwrap();
    let [x, y] = files(folder.path());
    let files = ArrayFiles::new().npy("input", &x).unwrap();
    let files = files.npy("target", &y).unwrap();
    assert_eq!(files.rows(), 6);
    let of = |path: &Path, name: &str| Arrays::read(path).unwrap().get(name).unwrap().1.clone();
    let whole = Dataset::new().with("input", [2], of(&x, "x")).unwrap();
    let whole = whole.with("target", [], of(&y, "y")).unwrap();
    assert_eq!(files.read(0..6).unwrap(), whole);
    assert_eq!(files.read(3..5).unwrap(), whole.range(3..5).unwrap());
    assert_eq!(
        files.identity().unwrap(),
        DataSource::identity(&whole).unwrap()
    );
    // Twice 16 bytes and 4.
    assert_eq!(Shards::within(&files, 2 * 24 + 1).unwrap().shard_rows(), 2);
    for rows in [0..0, 5..7] {
        assert!(files.read(rows).is_err());
    }
}

#[test]
fn tensors_of_one_file_are_columns() {
    use safetensors::tensor::{Dtype, TensorView};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.safetensors");
    let (pictures, labels): (Vec<u8>, Vec<u8>) =
        ((0..24).collect(), vec![3, 0, 1, 0, 2, 0, 9, 255]);
    let views = [
        (
            "pictures",
            TensorView::new(Dtype::U8, vec![4, 2, 3], &pictures).unwrap(),
        ),
        (
            "labels",
            TensorView::new(Dtype::I16, vec![4], &labels).unwrap(),
        ),
    ];
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    let files = ArrayFiles::new()
        .tensor("input", &path, "pictures")
        .unwrap();
    let files = files.tensor("target", &path, "labels").unwrap();
    let data = files.read(1..3).unwrap();
    let wanted = Dataset::new().with("input", [2, 3], Numbers::bytes((6..18).collect()));
    let wanted = wanted.unwrap().with("target", [], vec![1u32, 2]).unwrap();
    assert_eq!(data, wanted);
    let told = |result: Result<ArrayFiles>| result.unwrap_err().to_string();
    let error = told(ArrayFiles::new().tensor("input", &path, "picture"));
    assert!(error.contains("did you mean `pictures`"), "{error}");
    // The last label is below 0.
    let error = files.read(2..4).unwrap_err().to_string();
    assert!(
        error.contains("`labels`: -247 in row 3; wanted integers from 0 on"),
        "{error}"
    );
    // As floats they are numbers like others, whichever rows are read.
    let signed = files.clone().as_floats("target").unwrap();
    for (rows, wanted) in [(0..2, vec![3.0f32, 1.0]), (2..4, vec![2.0, -247.0])] {
        let read = signed.read(rows).unwrap();
        assert_eq!(read.column("target").unwrap().numbers, wanted.into());
    }
    assert!(told(files.clone().as_floats("targets")).contains("did you mean `target`"));
    let bytes = std::fs::read(&path).unwrap();
    for broken in [
        &bytes[..4],
        &bytes[..40],
        &bytes[..bytes.len() - 1],
        &[255; 64],
    ] {
        std::fs::write(&path, broken).unwrap();
        let error = ArrayFiles::new()
            .tensor("input", &path, "pictures")
            .unwrap_err();
        assert!(matches!(error, Error::File { .. }), "{error}");
    }
    // Cut off after it was opened.
    std::fs::write(&path, &bytes[..bytes.len() - 4]).unwrap();
    let error = files.read(2..4).unwrap_err().to_string();
    assert!(error.contains("an end within rows 2 to 3"), "{error}");
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(files.read(0..1).unwrap_err(), Error::Io { .. }));
}

#[test]
fn files_that_lie_and_columns_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let [x, y] = files(folder);
    let told = |path: &Path| ArrayFiles::new().npy("a", path).unwrap_err().to_string();
    let floats = |name: &str, shape: &str, bytes: usize| {
        npy(folder, name, &header("<f4", shape), &vec![0; bytes])
    };
    for (path, wanted) in [
        (
            floats("short.npy", "(3, 2)", 23),
            "23 bytes for [3, 2] elements",
        ),
        (
            floats("long.npy", "(3, 2)", 25),
            "25 bytes for [3, 2] elements",
        ),
        (
            floats("huge.npy", "(4611686018427387904, 4)", 8),
            "elements",
        ),
        (
            floats("none.npy", "(0, 2)", 0),
            "one or more rows of numbers",
        ),
        (floats("scalar.npy", "()", 4), "an axis of rows"),
        (
            npy(folder, "kind.npy", &header("<c8", "(1,)"), &[0; 8]),
            "elements of type",
        ),
        (npy(folder, "header.npy", "{}", &[]), "the header"),
        (folder.join("missing.npy"), "cannot read"),
    ] {
        let error = told(&path);
        assert!(error.contains(wanted), "{error}");
    }
    let fortran = header("<f4", "(2, 2)").replace("False", "True");
    let error = told(&npy(folder, "fortran.npy", &fortran, &[0; 16]));
    assert!(error.contains("the first axis innermost"), "{error}");
    let files = || ArrayFiles::new().npy("x", &x).unwrap();
    let two = files().npy("x", &y).unwrap_err().to_string();
    assert!(two.contains("column x: found a second"), "{two}");
    let other = files()
        .npy("y", floats("five.npy", "(5,)", 20))
        .unwrap_err()
        .to_string();
    assert!(
        other.contains("column y: found 5 rows; wanted 6"),
        "{other}"
    );
    // What is not finite is found when it is read.
    let bytes = [1.0f32, f32::NAN].map(f32::to_le_bytes).concat();
    let nan = npy(folder, "nan.npy", &header("<f4", "(2,)"), &bytes);
    let nan = ArrayFiles::new().npy("a", nan).unwrap();
    assert!(nan.read(0..1).is_ok());
    let error = nan.read(0..2).unwrap_err().to_string();
    assert!(error.contains("NaN in row 1"), "{error}");
    // Rows count from the file's first, wherever reading begins.
    let error = nan.read(1..2).unwrap_err().to_string();
    assert!(
        error.contains("`nan`: NaN in row 1; wanted finite"),
        "{error}"
    );
}
